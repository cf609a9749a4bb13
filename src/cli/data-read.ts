import { createWriteStream } from 'node:fs';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { readPointers } from '../data/folder/pointers.ts';
import { findEntry, openListing, readEntry } from '../data/folder/reader.ts';
import { type Desk, resolveVersion } from './data-desk.ts';
import { bytesText } from './data-text.ts';
import type { CommandInput } from './types.ts';

/** `cdl data ls [VERSION [FOLDER]]`: what a version holds; without one, which versions this commit has. */
export async function ls(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  if (what.length === 0) {
    const rows = [...readPointers(desk.root)].map(([path, version]) => ({ path, version }));
    const text = rows.map(({ path, version }) => `${shortDigest(version)}  ${path}`);
    input.console.print(text.join('\n') || 'this commit has no versions: cdl data add <path>', {
      versions: rows,
    });
    return 0;
  }
  const [one, below] = what as [string, string | undefined];
  const listing = await openListing(desk.reader, await resolveVersion(desk, one));
  const start = below === undefined ? '' : below.replace(/\/+$/, '');
  const entries = [];
  for await (const entry of listing.entries(start || undefined)) {
    if (start !== '' && entry.path !== start && !entry.path.startsWith(`${start}/`)) continue;
    entries.push(entry);
  }
  const text = entries.map((entry) => {
    if (entry.kind === 'folder') return `${'–'.padStart(10)}  ${entry.path}/`;
    if (entry.kind === 'link') return `${'link'.padStart(10)}  ${entry.path} → ${entry.target}`;
    return `${bytesText(entry.size).padStart(10)}  ${entry.path}${entry.label ? `  ${entry.label}` : ''}`;
  });
  const rows = entries.map((entry) => {
    if (entry.kind !== 'file') return entry;
    const { path, size, sha256, exec, label } = entry;
    return { path, size, sha256, ...(exec && { exec }), ...(label != null && { label }) };
  });
  input.console.print(text.join('\n') || 'nothing there', { version: listing.digest, entries: rows });
  return 0;
}

/** `cdl data get VERSION PATH`: one file, of which only its own bytes are read from the store. */
export async function get(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  const [one, path] = what;
  if (one === undefined || path === undefined || what.length > 2) {
    throw new UserError('usage', 'cdl data get takes a version and the path of a file in it');
  }
  const listing = await openListing(desk.reader, await resolveVersion(desk, one));
  const entry = await findEntry(listing, path);
  if (entry?.kind !== 'file') {
    throw new UserError(
      'file-missing',
      `${listing.digest} has no file ${path}`,
      `see what it has: cdl data ls ${one}`,
    );
  }
  const body: Readable =
    entry.at === null
      ? await desk.reader.openBlob(`sha256:${entry.blob}`)
      : Readable.from([await readEntry(desk.reader, entry)], { objectMode: false });
  if (typeof input.options.out === 'string') {
    await pipeline(body, createWriteStream(resolve(input.cwd, input.options.out)));
  } else {
    for await (const chunk of body) {
      if (!process.stdout.write(chunk)) await new Promise((done) => process.stdout.once('drain', done));
    }
  }
  return 0;
}
