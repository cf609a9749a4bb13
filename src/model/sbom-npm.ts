import { z } from 'zod';
import { type Component, parsed, parseYaml } from './sbom-component.ts';

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
export function npmComponents(text: string): Component[] | null {
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
      dev: z.string().optional().catch(undefined),
    }),
  ),
});

/**
 * `pnpm-lock.yaml` of version 6 to 9 (pnpm.io, "Lockfile"); null for another. Its keys are name and version, before version 9
 * with a slash before them. From version 9 it does not tell what is needed to develop alone.
 */
export function pnpmComponents(text: string): Component[] | null {
  const lock = parsed(pnpmLockSchema, () => parseYaml(text));
  if (!lock) return null;
  return Object.entries(lock.packages).flatMap(([key, { resolution, dev }]) => {
    const [, name = '', version] = /^\/?((?:@[^/@]+\/)?[^/@]+)@([^(]+)/.exec(key) ?? [];
    return npmComponent(name, version, {
      hash: hashOf(resolution?.integrity),
      license: null,
      dev: dev === 'true',
    });
  });
}

const berryLockSchema = z.record(z.string(), z.object({ resolution: z.string().optional() }));

/**
 * `yarn.lock`: YAML from Yarn 2 on (`resolution: name@npm:1.0.0`), before that a format of its own, of which an entry is a line of
 * patterns, `name@range, name@range:`, and indented lines below it (classic.yarnpkg.com, "yarn.lock"). Null for another. What is
 * needed to develop alone it does not tell, nor the hash of what the registry has (Yarn 2: of its own archive).
 */
export function yarnComponents(text: string): Component[] | null {
  const rest = { license: null, dev: false };
  if (!/^# yarn lockfile v1$/m.test(text)) {
    if (!/^__metadata:$/m.test(text)) return null;
    const lock = parsed(berryLockSchema, () => parseYaml(text));
    if (!lock) return null;
    return Object.values(lock).flatMap(({ resolution = '' }) => {
      const [, name = '', version] =
        /^((?:@[^/@]+\/)?[^/@]+)@(?:virtual:[^#]*#)?npm:([^:]+)(?:::.*)?$/.exec(resolution) ?? [];
      return npmComponent(name, version, { ...rest, hash: null });
    });
  }
  return text.split(/\r?\n(?=[^\s#])/).flatMap((entry) => {
    const [, pattern = ''] = /^"?([^",]+)"?(?:, .*)?:$/.exec(entry.split(/\r?\n/)[0]!) ?? [];
    const field = (name: string) => new RegExp(`^  ${name} "?([^"\\r\\n]+)"?\\r?$`, 'm').exec(entry)?.[1];
    // Of an alias, `other@npm:name@range`, and not what lies in a folder or a repository.
    const [, name = '', range = ''] = /^(?:.+@npm:)?((?:@[^/@]+\/)?[^/@]+)(?:@(.*))?$/.exec(pattern) ?? [];
    if (/[/:]/.test(range)) return [];
    return npmComponent(name, field('version'), { ...rest, hash: hashOf(field('integrity')) });
  });
}

const bunLockSchema = z.object({
  lockfileVersion: z.string(),
  packages: z.record(z.string(), z.array(z.unknown())),
});

/** `bun.lock` (bun.com/docs, "Lockfile"): JSON with commas at the ends, `[name@version, registry, {…}, integrity]` each; null for another. */
export function bunComponents(text: string): Component[] | null {
  // A flow collection of YAML is JSON in which such commas are welcome.
  const lock = parsed(bunLockSchema, () => parseYaml(text));
  if (!lock) return null;
  return Object.values(lock.packages).flatMap(([id, ...more]) => {
    const [, name = '', version] = /^((?:@[^/@]+\/)?[^/@]+)@(.+)$/.exec(String(id)) ?? [];
    const integrity = more.at(-1);
    const hash = hashOf(typeof integrity === 'string' ? integrity : undefined);
    return npmComponent(name, version, { hash, license: null, dev: false });
  });
}
