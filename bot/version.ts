import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../src/index.ts';

/** The version of this package, from its package.json. */
export async function readVersion(): Promise<string> {
  const text = await readFile(join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
