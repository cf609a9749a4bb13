import { basename } from 'node:path';
import { z } from 'zod';
import { canonicalJson, type Digest } from '../core/digest.ts';

/** The file's name in its artifact, as CycloneDX recommends it (cyclonedx.org, "Recognized file patterns"). */
export const sbomFile = 'sbom.cdx.json';

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

/** `package-lock.json` of version 2 or 3 (docs.npmjs.com, package-lock.json); null for another. */
function npmComponents(text: string): Component[] | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const parsed = npmLockSchema.safeParse(value);
  if (!parsed.success) return null;
  return Object.entries(parsed.data.packages).flatMap(([path, one]): Component[] => {
    const at = path.lastIndexOf('node_modules/');
    const name = one.name ?? (at < 0 ? '' : path.slice(at + 'node_modules/'.length));
    // The project itself, its workspaces, and links to these.
    if (at < 0 || one.link || !/^(@[\w.~-]+\/)?[\w.~-]+$/.test(name)) return [];
    // Semantic versions are ASCII (semver.org, 9 and 10).
    if (!one.version || !/^[\w.+~-]{1,200}$/.test(one.version)) return [];
    const purl = `pkg:npm/${name.replace('@', '%40')}@${encodeURIComponent(one.version)}`;
    const { version, license = null, dev = false } = one;
    return [{ purl, name, version, hash: hashOf(one.integrity), license, dev }];
  });
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
      // PEP 503, names.
      const normal = name.replaceAll(/[-_.]+/g, '-').toLowerCase();
      const sha256 = /--hash=sha256:([0-9a-f]{64})/.exec(rest)?.[1];
      const hash = sha256 ? { alg: 'SHA-256', content: sha256 } : null;
      const purl = `pkg:pypi/${normal}@${encodeURIComponent(version)}`;
      return [{ purl, name: normal, version, hash, license: null, dev: false }];
    });
  return { components, inexact };
}

/** What a lockfile names; null for a kind that is not read. */
function componentsOf(path: string, text: string): { components: Component[]; inexact: string[] } | null {
  switch (basename(path)) {
    case 'package-lock.json':
    case 'npm-shrinkwrap.json': {
      const components = npmComponents(text);
      return components && { components, inexact: [] };
    }
    case 'requirements.txt':
      return pipComponents(text);
    default:
      return null;
  }
}

/**
 * The software bill of materials of a model (CycloneDX 1.6, JSON; ECMA-424): what the lockfiles of its commit name, each
 * package once, and in `properties` which files were read, which were not, and which lines pin nothing. The same files give
 * the same bytes: there is neither a time nor a serial number in it. Lockfiles come from a change: nothing in them is trusted
 * to be well-formed.
 */
export function createSbom(
  subject: { model: string; candidate: Digest },
  lockfiles: readonly { path: string; digest: Digest; text: string }[],
): { text: string; components: number } {
  const found = new Map<string, Component>();
  const properties: { name: string; value: string }[] = [];
  for (const { path, digest, text } of lockfiles) {
    const read = componentsOf(path, text);
    properties.push({ name: read ? 'cdl:lockfile' : 'cdl:lockfile-not-read', value: `${path} ${digest}` });
    for (const line of read?.inexact ?? [])
      properties.push({ name: 'cdl:not-exact', value: `${path}: ${line}` });
    for (const one of read?.components ?? []) {
      const before = found.get(one.purl);
      // What is needed at all is needed.
      found.set(one.purl, before ? { ...before, dev: before.dev && one.dev } : one);
    }
  }
  const components = [...found.values()].sort((a, b) => (a.purl < b.purl ? -1 : 1));
  const bom = {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        type: 'machine-learning-model',
        'bom-ref': 'model',
        name: subject.model,
        version: subject.candidate,
      },
      properties,
    },
    components: components.map(({ purl, name, version, hash, license, dev }) => ({
      type: 'library',
      'bom-ref': purl,
      name,
      version,
      scope: dev ? 'excluded' : 'required',
      ...(hash && { hashes: [hash] }),
      ...(license && { licenses: [{ license: { name: license.slice(0, 200) } }] }),
      purl,
    })),
  };
  return { text: `${canonicalJson(bom)}\n`, components: components.length };
}
