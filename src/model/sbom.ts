import { basename } from 'node:path';
import parseLicense from 'spdx-expression-parse';
import { canonicalJson, type Digest } from '../core/digest.ts';
import type { Component } from './sbom-component.ts';
import { componentsOf } from './sbom-lockfiles.ts';

/** The file's name in its artifact, as CycloneDX recommends it (cyclonedx.org, "Recognized file patterns"). */
export const sbomFile = 'sbom.cdx.json';

/** An SPDX expression (spdx.github.io/spdx-spec, annex D) as such, anything else as the name of a licence. */
function licenseOf(text: string): object {
  try {
    parseLicense(text);
    return { expression: text };
  } catch {
    return { license: { name: text.slice(0, 200) } };
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
    const read = componentsOf(basename(path), text);
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
      ...(license && { licenses: [licenseOf(license)] }),
      purl,
    })),
  };
  return { text: `${canonicalJson(bom)}\n`, components: components.length };
}
