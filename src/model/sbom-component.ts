import { parse } from 'yaml';
import type { z } from 'zod';

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

/** A lockfile's data; undefined when it is not written as such a file is. */
export function parsed<T>(schema: z.ZodType<T>, parse: () => unknown): T | undefined {
  try {
    return schema.safeParse(parse()).data;
  } catch {
    return undefined;
  }
}

/** YAML as package managers write it, without aliases, every scalar as the text it is: version 1.10 is not 1.1. Throws for what is none. */
export const parseYaml = (text: string): unknown =>
  parse(text, { maxAliasCount: 0, schema: 'failsafe', logLevel: 'error' });

/** A sha256 in hexadecimal digits as CycloneDX has hashes; null for none. */
export const sha256Of = (digits: string | undefined): Component['hash'] =>
  /^[0-9a-f]{64}$/.test(digits ?? '') ? { alg: 'SHA-256', content: digits! } : null;
