import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import { type Component, parsed, parseYaml, sha256Of } from './sbom-component.ts';

/** Name and version as PyPI has them (PEP 503, names; PEP 440, versions); null where they are none. */
function pypiComponent(name: string, version: string, sha256: string | undefined, dev: boolean): Component[] {
  if (!/^[A-Za-z0-9][\w.-]*$/.test(name) || !/^[\w.!+-]{1,200}$/.test(version)) return [];
  const normal = name.replaceAll(/[-_.]+/g, '-').toLowerCase();
  const hash = sha256Of(sha256);
  const purl = `pkg:pypi/${normal}@${encodeURIComponent(version)}`;
  return [{ purl, name: normal, version, hash, license: null, dev }];
}

const pythonLockSchema = z.object({
  package: z.array(
    z.object({
      name: z.string(),
      version: z.string(),
      source: z.record(z.string(), z.unknown()).optional().catch(undefined),
      groups: z.array(z.string()).optional().catch(undefined),
    }),
  ),
});

/**
 * `uv.lock`, `poetry.lock` and `pdm.lock` (TOML with a table `package` each); null for another. Each package has hashes of many
 * files, of which one was installed: none is told.
 */
export function pythonComponents(text: string): Component[] | null {
  const lock = parsed(pythonLockSchema, () => parseToml(text));
  if (!lock) return null;
  return lock.package.flatMap(({ name, version, source, groups }) => {
    // The project itself and its workspace (docs.astral.sh/uv, "Resolution", lockfile sources).
    if (source && ['virtual', 'editable', 'directory'].some((kind) => kind in source)) return [];
    const isDev =
      groups !== undefined && groups.length > 0 && !groups.some((one) => /^(main|default)$/.test(one));
    return pypiComponent(name, version, undefined, isDev);
  });
}

const pipfileSchema = z.record(z.string(), z.object({ version: z.string().optional() }));
const pipfileLockSchema = z.object({ default: pipfileSchema, develop: pipfileSchema });

/** `Pipfile.lock` (pipenv.pypa.io); null for another. */
export function pipfileComponents(text: string): Component[] | null {
  const lock = parsed(pipfileLockSchema, () => JSON.parse(text));
  if (!lock) return null;
  return ([lock.default, lock.develop] as const).flatMap((group, index) =>
    Object.entries(group).flatMap(([name, { version }]) =>
      version?.startsWith('==') ? pypiComponent(name, version.slice(2), undefined, index === 1) : [],
    ),
  );
}

/** The exact pins of a `requirements.txt` (PEP 440 `==`, PEP 508), and the lines that are none. */
export function pipComponents(text: string): { components: Component[]; inexact: string[] } {
  const inexact: string[] = [];
  const components = text
    .replaceAll(/\\\r?\n/g, ' ')
    .split(/\r?\n/)
    .flatMap((line): Component[] => {
      const requirement = line.replace(/(^|\s)#.*$/, '').trim();
      if (requirement === '' || /^-(-hash|-extra-index-url|-index-url|i\b)/.test(requirement)) return [];
      const [, name, version, rest = ''] =
        /^([A-Za-z0-9][\w.-]*)(?:\[[\w\s,.-]*\])?\s*===?\s*([\w.!+-]+)(?=[\s;]|$)(.*)$/.exec(requirement) ??
        [];
      if (!name || !version) {
        inexact.push(requirement.slice(0, 200));
        return [];
      }
      return pypiComponent(name, version, /--hash=sha256:([0-9a-f]{64})/.exec(rest)?.[1], false);
    });
  return { components, inexact };
}

/** In characters, far more than an address of a package has: reading one takes the square of its length. */
const longestAddress = 2000;

/** A package of conda by the address of its archive, `…/<channel>/<subdir>/<name>-<version>-<build>.conda` (purl-spec, "conda"). */
function condaComponent(url: string, sha256: string | undefined, dev: boolean): Component[] {
  if (url.length > longestAddress) return [];
  const found = /(?<![\w.-])([\w.-]+)\/([\w-]+)\/([\w.+-]+)-([\w.!+]+)-([\w.]+)\.(conda|tar\.bz2)$/.exec(url);
  if (!found) return [];
  const [, channel, subdir, name, version, build, type] = found as unknown as string[];
  const place = `build=${build}&channel=${channel}&subdir=${subdir}&type=${type}`;
  const purl = `pkg:conda/${encodeURIComponent(name!)}@${encodeURIComponent(version!)}?${place}`;
  return [{ purl, name: name!, version: version!, hash: sha256Of(sha256), license: null, dev }];
}

const condaLockSchema = z.object({
  package: z.array(
    z.object({
      name: z.string(),
      version: z.string(),
      manager: z.enum(['conda', 'pip']),
      url: z.string(),
      hash: z.object({ sha256: z.string().optional() }).optional(),
      category: z.string().optional(),
    }),
  ),
});

/** `conda-lock.yml` (conda.github.io/conda-lock, version 1); null for another. */
export function condaComponents(text: string): Component[] | null {
  const lock = parsed(condaLockSchema, () => parseYaml(text));
  if (!lock) return null;
  return lock.package.flatMap(({ name, version, manager, url, hash, category = 'main' }) =>
    manager === 'conda'
      ? condaComponent(url, hash?.sha256, category !== 'main')
      : pypiComponent(name, version, hash?.sha256, category !== 'main'),
  );
}

const pixiPackage = z.object({
  conda: z.string().optional(),
  pypi: z.string().optional(),
  name: z.string().optional(),
  version: z.string().optional(),
  sha256: z.string().optional(),
});
const pixiLockSchema = z.object({ version: z.literal('6'), packages: z.array(pixiPackage) });

/** `pixi.lock` of version 6 (pixi.sh, "Lock file"); null for another. A wheel of the project itself is no package of PyPI. */
export function pixiComponents(text: string): Component[] | null {
  const lock = parsed(pixiLockSchema, () => parseYaml(text));
  if (!lock) return null;
  return lock.packages.flatMap(({ conda, pypi, name, version, sha256 }) => {
    if (conda !== undefined) return condaComponent(conda, sha256, false);
    const isPublished = /^https?:/.test(pypi ?? '') && name !== undefined && version !== undefined;
    return isPublished ? pypiComponent(name, version, sha256, false) : [];
  });
}
