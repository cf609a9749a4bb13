import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { projectFile } from '../core/project.ts';
import { nearest } from '../core/suggest.ts';
import type { SidesPin, SourcePins } from '../data/pin-text.ts';
import { ownerName } from '../exec/owner.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl data pin [data set]`: looks at every source that cdl.yaml does not pin (with --force: at every one) and writes the
 * sha256 of what is there now beside it. Where that is not what was there before, and items are grouped, `split.after` is
 * written, too, so that no item that was there changes sides. Nothing is written when one of them cannot be had.
 */
export async function pin(
  input: CommandInput,
  desk: { root: string },
  what: readonly string[],
): Promise<number> {
  const [
    { cacheFolder, npmRegistry, openZone, readProject, sourceAccess },
    { recordedSides },
    { readFirstSeen },
    { fetchSource, pinsOf, sourceNames },
    { writePins },
    { progressText },
  ] = await Promise.all([
    import('../steps/context.ts'),
    import('../data/carried.ts'),
    import('../data/first-seen.ts'),
    import('../data/sources.ts'),
    import('../data/pin-text.ts'),
    import('../data/source/options.ts'),
  ]);
  const project = await readProject(desk.root);
  const names = what.length > 0 ? what : Object.keys(project.datasets);
  const registry = await npmRegistry(input.env);
  const access = await sourceAccess(input.env);
  const zone = await openZone(input.env, 'work', desk.root);
  const pins: SourcePins[] = [];
  const sides: SidesPin[] = [];
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
    const scope = { project: project.project, dataset };
    let isNew = false;
    for (const [source, { sha256, ...unpinned }] of config.sources.entries()) {
      if (sha256 !== undefined && input.options.force !== true) continue;
      const fetched = await fetchSource(unpinned, {
        cacheFolder: cacheFolder(input.env),
        root: desk.root,
        ...(registry && { npmRegistry: registry }),
        ...access,
        signal: input.console.signal,
        onProgress: (progress) => input.console.progress(...progressText(progress)),
      });
      const found = pinsOf(fetched.source)!;
      if (found.join() === [sha256 ?? []].flat().join()) continue;
      pins.push({ dataset, source, sha256: fetched.source.sha256! });
      lines.push(...sourceNames(unpinned).map((name, at) => `${found[at]}  ${name}`));
      const before = sha256 === undefined ? await readFirstSeen(zone, scope, unpinned) : [sha256].flat();
      isNew ||= before !== null && before.join() !== found.join();
    }
    const after = isNew ? await recordedSides(zone, scope, config) : null;
    if (after === null || after === config.split.after) continue;
    sides.push({ dataset, after });
    lines.push(`${after}  sides of ${dataset} so far, for split.after`);
  }
  if (pins.length > 0) {
    const path = join(desk.root, projectFile);
    const written = writePins(await readFile(path, 'utf8'), pins, sides);
    const temporary = `${path}.${ownerName()}`;
    await writeFile(temporary, written);
    await rename(temporary, path);
  }
  const text =
    pins.length > 0 ? `${lines.join('\n')}\nwritten to cdl.yaml; commit it` : 'every source is pinned';
  input.console.print(text, { pins, sides });
  return 0;
}
