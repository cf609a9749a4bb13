import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { projectFile } from '../core/project.ts';
import { nearest } from '../core/suggest.ts';
import type { SourcePins } from '../data/pin-text.ts';
import { ownerName } from '../exec/owner.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl data pin [data set]`: looks at every source that cdl.yaml does not pin (with --force: at every one) and writes the
 * sha256 of what is there now beside it. Nothing is written when one of them cannot be had.
 */
export async function pin(
  input: CommandInput,
  desk: { root: string },
  what: readonly string[],
): Promise<number> {
  const [
    { cacheFolder, npmRegistry, readProject, sourceAccess },
    { fetchSource, pinsOf, sourceNames },
    { writePins },
  ] = await Promise.all([
    import('../steps/context.ts'),
    import('../data/sources.ts'),
    import('../data/pin-text.ts'),
  ]);
  const project = await readProject(desk.root);
  const names = what.length > 0 ? what : Object.keys(project.datasets);
  const registry = await npmRegistry(input.env);
  const access = await sourceAccess(input.env);
  const pins: SourcePins[] = [];
  const lines: string[] = [];
  for (const dataset of names) {
    const config = Object.hasOwn(project.datasets, dataset) ? project.datasets[dataset] : undefined;
    if (!config) {
      const guess = nearest(dataset, Object.keys(project.datasets));
      throw new UserError(
        'config-invalid',
        `cdl.yaml has no data set "${dataset}"${guess ? ` — did you mean ${guess}?` : ''}`,
      );
    }
    for (const [source, { sha256, ...unpinned }] of config.sources.entries()) {
      if (sha256 !== undefined && input.options.force !== true) continue;
      const fetched = await fetchSource(unpinned, {
        cacheFolder: cacheFolder(input.env),
        root: desk.root,
        ...(registry && { npmRegistry: registry }),
        ...access,
        signal: input.console.signal,
        onProgress: ({ what: name, bytes, total }) =>
          input.console.progress(`looking at ${name}`, total ? bytes / total : 0),
      });
      const found = pinsOf(fetched.source)!;
      if (found.join() === [sha256 ?? []].flat().join()) continue;
      pins.push({ dataset, source, sha256: fetched.source.sha256! });
      lines.push(...sourceNames(unpinned).map((name, at) => `${found[at]}  ${name}`));
    }
  }
  if (pins.length > 0) {
    const path = join(desk.root, projectFile);
    const written = writePins(await readFile(path, 'utf8'), pins);
    const temporary = `${path}.${ownerName()}`;
    await writeFile(temporary, written);
    await rename(temporary, path);
  }
  const text =
    pins.length > 0 ? `${lines.join('\n')}\nwritten to cdl.yaml; commit it` : 'every source is pinned';
  input.console.print(text, { pins });
  return 0;
}
