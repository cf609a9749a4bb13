import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import { type Component, parsed, sha256Of } from './sbom-component.ts';
import { bunComponents, npmComponents, pnpmComponents, yarnComponents } from './sbom-npm.ts';
import {
  condaComponents,
  pipComponents,
  pipfileComponents,
  pixiComponents,
  pythonComponents,
} from './sbom-python.ts';

const cargoLockSchema = z.object({
  version: z.int(),
  package: z.array(
    z.object({
      name: z.string().regex(/^[\w-]+$/),
      version: z.string().regex(/^[\w.+-]{1,200}$/),
      source: z.string().optional(),
      checksum: z.string().optional(),
    }),
  ),
});

/** `Cargo.lock` (doc.rust-lang.org/cargo), without the workspace, which has no source; null for another. */
function cargoComponents(text: string): Component[] | null {
  const lock = parsed(cargoLockSchema, () => parseToml(text));
  if (!lock) return null;
  return lock.package.flatMap(({ name, version, source, checksum }) => {
    if (source === undefined) return [];
    const purl = `pkg:cargo/${name}@${encodeURIComponent(version)}`;
    return [{ purl, name, version, hash: sha256Of(checksum), license: null, dev: false }];
  });
}

/**
 * `go.sum` (go.dev/ref/mod, "go.sum files"): each module whose content it knows, of which a build may use only some; null for another.
 * Its hashes are of lists of files, not of an archive.
 */
function goComponents(text: string): Component[] | null {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const components: Component[] = [];
  for (const line of lines) {
    const [, name, version, mod] =
      /^([\w.~/-]{1,300}) (v[\w.+-]{1,200})(\/go\.mod)? h1:[A-Za-z0-9+/]{43}=$/.exec(line) ?? [];
    if (!name || !version) return null;
    if (mod) continue;
    const purl = `pkg:golang/${name.toLowerCase()}@${encodeURIComponent(version)}`;
    components.push({ purl, name, version, hash: null, license: null, dev: false });
  }
  return components;
}

const readers: Readonly<
  Record<string, (text: string) => { components: Component[]; inexact: string[] } | null>
> = {
  'package-lock.json': exact(npmComponents),
  'npm-shrinkwrap.json': exact(npmComponents),
  'pnpm-lock.yaml': exact(pnpmComponents),
  'yarn.lock': exact(yarnComponents),
  'bun.lock': exact(bunComponents),
  'uv.lock': exact(pythonComponents),
  'poetry.lock': exact(pythonComponents),
  'pdm.lock': exact(pythonComponents),
  'Pipfile.lock': exact(pipfileComponents),
  'requirements.txt': pipComponents,
  'conda-lock.yml': exact(condaComponents),
  'pixi.lock': exact(pixiComponents),
  'Cargo.lock': exact(cargoComponents),
  'go.sum': exact(goComponents),
};

/** A reader of lockfiles in which everything is pinned. */
function exact(read: (text: string) => Component[] | null) {
  return (text: string) => {
    const components = read(text);
    return components && { components, inexact: [] };
  };
}

/**
 * What a lockfile of this name has in it, and the lines that pin nothing; null for a kind that is not read, or when it is not
 * written as such a file is.
 */
export function componentsOf(
  name: string,
  text: string,
): { components: Component[]; inexact: string[] } | null {
  return Object.hasOwn(readers, name) ? readers[name]!(text) : null;
}
