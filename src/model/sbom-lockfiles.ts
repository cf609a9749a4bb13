import { parse as parseToml } from 'smol-toml';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';

/** A package that a lockfile names. */
export interface Component {
  purl: string;
  name: string;
  version: string;
  /** Algorithm and value in hexadecimal digits, as CycloneDX has them. */
  hash: { alg: string; content: string } | null;
  /** SPDX expression or whatever the lockfile says. */
  license: string | null;
  /** Needed to develop alone. */
  dev: boolean;
}

const npmLockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      name: z.string().optional(),
      version: z.string().optional(),
      integrity: z.string().optional(),
      license: z.string().optional().catch(undefined),
      dev: z.boolean().optional(),
      link: z.boolean().optional(),
    }),
  ),
});

const hashNames: Readonly<Record<string, string>> = {
  sha1: 'SHA-1',
  sha256: 'SHA-256',
  sha384: 'SHA-384',
  sha512: 'SHA-512',
};

/** Hexadecimal digits of a hash. */
const hashLengths: Readonly<Record<string, number>> = { sha1: 40, sha256: 64, sha384: 96, sha512: 128 };

/** `sha512-<base64>` (W3C Subresource Integrity) as CycloneDX has hashes; null for none that is known. */
function hashOf(integrity: string | undefined): Component['hash'] {
  const [, name, value] = /^(sha1|sha256|sha384|sha512)-([A-Za-z0-9+/]+=*)/.exec(integrity ?? '') ?? [];
  const content = Buffer.from(value ?? '', 'base64').toString('hex');
  // Of a length that the algorithm does not have it is no hash, and the document would be invalid.
  return name && content.length === hashLengths[name] ? { alg: hashNames[name]!, content } : null;
}

/** A lockfile's data; undefined when it is not written as such a file is. */
function parsed<T>(schema: z.ZodType<T>, parse: () => unknown): T | undefined {
  try {
    return schema.safeParse(parse()).data;
  } catch {
    return undefined;
  }
}

/** Name and version as npm has them; null where they are none. Semantic versions are ASCII (semver.org, 9 and 10). */
function npmComponent(
  name: string,
  version: string | undefined,
  rest: Pick<Component, 'hash' | 'license' | 'dev'>,
): Component[] {
  if (!/^(@[\w.~-]+\/)?[\w.~-]+$/.test(name) || !version || !/^[\w.+~-]{1,200}$/.test(version)) return [];
  const purl = `pkg:npm/${name.replace('@', '%40')}@${encodeURIComponent(version)}`;
  return [{ purl, name, version, ...rest }];
}

/** `package-lock.json` of version 2 or 3 (docs.npmjs.com, package-lock.json); null for another. */
function npmComponents(text: string): Component[] | null {
  const lock = parsed(npmLockSchema, () => JSON.parse(text));
  if (!lock) return null;
  return Object.entries(lock.packages).flatMap(([path, one]) => {
    const at = path.lastIndexOf('node_modules/');
    const name = one.name ?? (at < 0 ? '' : path.slice(at + 'node_modules/'.length));
    // The project itself, its workspaces, and links to these.
    if (at < 0 || one.link) return [];
    const { license = null, dev = false } = one;
    return npmComponent(name, one.version, { hash: hashOf(one.integrity), license, dev });
  });
}

const pnpmLockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      resolution: z.object({ integrity: z.string().optional() }).optional().catch(undefined),
      dev: z.boolean().optional().catch(undefined),
    }),
  ),
});

/**
 * `pnpm-lock.yaml` of version 6 to 9 (pnpm.io, "Lockfile"); null for another. Its keys are name and version, before version 9
 * with a slash before them. From version 9 it does not tell what is needed to develop alone.
 */
function pnpmComponents(text: string): Component[] | null {
  const lock = parsed(pnpmLockSchema, () =>
    parseYaml(text, { maxAliasCount: 0, schema: 'core', logLevel: 'error' }),
  );
  if (!lock) return null;
  return Object.entries(lock.packages).flatMap(([key, { resolution, dev = false }]) => {
    const [, name = '', version] = /^\/?((?:@[^/@]+\/)?[^/@]+)@([^(]+)/.exec(key) ?? [];
    return npmComponent(name, version, { hash: hashOf(resolution?.integrity), license: null, dev });
  });
}

/** Name and version as PyPI has them (PEP 503, names; PEP 440, versions); null where they are none. */
function pypiComponent(name: string, version: string, sha256: string | undefined, dev: boolean): Component[] {
  if (!/^[A-Za-z0-9][\w.-]*$/.test(name) || !/^[\w.!+-]{1,200}$/.test(version)) return [];
  const normal = name.replaceAll(/[-_.]+/g, '-').toLowerCase();
  const hash = /^[0-9a-f]{64}$/.test(sha256 ?? '') ? { alg: 'SHA-256', content: sha256! } : null;
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
function pythonComponents(text: string): Component[] | null {
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
function pipfileComponents(text: string): Component[] | null {
  const lock = parsed(pipfileLockSchema, () => JSON.parse(text));
  if (!lock) return null;
  return ([lock.default, lock.develop] as const).flatMap((group, index) =>
    Object.entries(group).flatMap(([name, { version }]) =>
      version?.startsWith('==') ? pypiComponent(name, version.slice(2), undefined, index === 1) : [],
    ),
  );
}

/** The exact pins of a `requirements.txt` (PEP 440 `==`, PEP 508), and the lines that are none. */
function pipComponents(text: string): { components: Component[]; inexact: string[] } {
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

const readers: Readonly<
  Record<string, (text: string) => { components: Component[]; inexact: string[] } | null>
> = {
  'package-lock.json': exact(npmComponents),
  'npm-shrinkwrap.json': exact(npmComponents),
  'pnpm-lock.yaml': exact(pnpmComponents),
  'uv.lock': exact(pythonComponents),
  'poetry.lock': exact(pythonComponents),
  'pdm.lock': exact(pythonComponents),
  'Pipfile.lock': exact(pipfileComponents),
  'requirements.txt': pipComponents,
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
