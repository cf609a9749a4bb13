import { access, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The branches a client of protocol version 2 asks for, by the beginnings of their names. */
export interface LsRefs {
  prefixes: string[];
}

/** One line of git's protocol, or the packets without one: flush, delimiter (gitprotocol-common, pkt-line). */
function* packets(bytes: Buffer): Generator<string> {
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = Number.parseInt(bytes.toString('latin1', at, at + 4), 16);
    if (Number.isNaN(length)) return;
    if (length >= 4) yield bytes.toString('utf8', at + 4, at + length).replace(/\n$/, '');
    at += Math.max(4, length);
  }
}

/** The question in a whole request body (gitprotocol-v2, ls-refs) when it is about branches alone; null for any other. */
export function readLsRefs(bytes: Buffer): LsRefs | null {
  const lines = [...packets(bytes)];
  if (lines[0] !== 'command=ls-refs') return null;
  const prefixes = lines.flatMap((line) => (line.startsWith('ref-prefix ') ? [line.slice(11)] : []));
  const isAboutBranches = prefixes.length > 0 && prefixes.every((one) => one.startsWith('refs/heads/'));
  return isAboutBranches ? { prefixes } : null;
}

/**
 * The answer to {@link readLsRefs} out of the repository's files; null when only git can tell, because it has packed its refs.
 * A process costs a thousand times more.
 */
export async function answerLsRefs(repository: string, { prefixes }: LsRefs): Promise<string | null> {
  const isPacked = await access(join(repository, 'packed-refs')).then(
    () => true,
    () => false,
  );
  if (isPacked) return null;
  const heads = await readdir(join(repository, 'refs/heads'), { recursive: true, withFileTypes: true });
  const names = heads
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.lock'))
    .map((entry) => join(entry.parentPath, entry.name).slice(join(repository, '/').length))
    .filter((name) => prefixes.some((prefix) => name.startsWith(prefix)))
    .sort();
  const lines: string[] = [];
  for (const name of names) {
    const text = await readFile(join(repository, name), 'latin1').catch(() => '');
    // Removed meanwhile, or a symbolic ref.
    if (text === '') continue;
    if (!/^[0-9a-f]{40}\n$/.test(text)) return null;
    const line = `${text.trim()} ${name}\n`;
    lines.push(`${(Buffer.byteLength(line) + 4).toString(16).padStart(4, '0')}${line}`);
  }
  return `${lines.join('')}0000`;
}
