import type { Artifact } from '../core/artifact.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { diffListings } from '../data/folder/diff.ts';
import { openListing } from '../data/folder/reader.ts';
import { readNote } from '../data/folder/refs.ts';
import { folderVersion } from '../data/folder/version.ts';
import { mostListed } from './actions.ts';
import { type Desk, resolveVersion, versionBefore } from './data-desk.ts';
import { bytesText } from './data-text.ts';
import type { CommandInput } from './types.ts';

/** One version of a history, as `cdl data log --json` prints it. */
interface LogRow {
  version: Digest;
  name: string;
  parents: Digest[];
  count: number | null;
  bytes: number;
  who: string | null;
  at: string | null;
  message: string | null;
}

async function noteOf(desk: Desk, version: Digest) {
  const near = await readNote(desk.local, version);
  return near ?? (desk.hasRemote ? readNote(await desk.remote(), version) : null);
}

/** `cdl data log [VERSION]`: a version and those before it, newest first; without one, of every path of this commit. */
export async function log(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  const { readPointers } = await import('../data/folder/pointers.ts');
  const most = mostListed(input);
  const starts = what.length > 0 ? what : [...readPointers(desk.root).keys()];
  const rows: LogRow[] = [];
  for (const start of starts) {
    let at: Digest | null = await resolveVersion(desk, start);
    for (let step = 0; at !== null && step < most; step++) {
      const artifact: Artifact | null = await desk.reader.manifest(at).catch((error: unknown) => {
        // Older than what was pulled, or collected since.
        if (step > 0 && error instanceof UserError && error.code === 'artifact-missing') return null;
        throw error;
      });
      if (!artifact) break;
      const version = folderVersion(at, artifact);
      const note = await noteOf(desk, at);
      const told = artifact.meta.count;
      rows.push({
        version: at,
        name: artifact.name,
        parents: artifact.parents,
        count: version?.meta.count ?? (typeof told === 'number' ? told : null),
        bytes: version?.meta.bytes ?? artifact.files.reduce((sum, file) => sum + file.size, 0),
        who: note?.who ?? null,
        at: note?.at ?? null,
        message: note?.message ?? null,
      });
      at = await versionBefore(desk, at, artifact);
    }
  }
  const text = rows.map((row) => {
    const size = `${row.count === null ? '' : `${plural(row.count, 'item')}, `}${bytesText(row.bytes)}`;
    const made = [row.at, row.who].filter((part) => part !== null).join(' by ');
    return [shortDigest(row.version), row.name, size, made, row.message].filter(Boolean).join('  ');
  });
  input.console.print(text.join('\n') || 'there are no versions yet: cdl data add <path>', {
    versions: rows,
  });
  return 0;
}

/** `cdl data diff A [B]`: how B differs from A; with one version, how it differs from the one before. */
export async function diff(input: CommandInput, desk: Desk, what: readonly string[]): Promise<number> {
  if (what.length === 0 || what.length > 2) throw new UserError('usage', 'cdl data diff takes two versions');
  const [from, to] = what.length === 2 ? [what[0]!, what[1]!] : [`${what[0]!}~1`, what[0]!];
  const a = await openListing(desk.reader, await resolveVersion(desk, from));
  const b = await openListing(desk.reader, await resolveVersion(desk, to));
  const found = await diffListings(a, b);
  const lines = [
    ...found.added.map((path) => `+ ${path}`),
    ...found.removed.map((path) => `- ${path}`),
    ...found.changed.map((path) => `~ ${path}`),
    ...found.renamed.map((one) => `> ${one.from} → ${one.to}`),
  ];
  const sum = `${found.added.length} added, ${found.removed.length} removed, ${found.changed.length} changed, ${found.renamed.length} renamed`;
  input.console.print([...lines, sum].join('\n'), { from: a.digest, to: b.digest, ...found });
  return 0;
}
