import { createInterface } from 'node:readline';
import { buffer } from 'node:stream/consumers';
import { z } from 'zod';
import { type Artifact, digestSchema } from '../../core/artifact.ts';
import { type Digest, digestBytes } from '../../core/digest.ts';
import { UserError } from '../../core/error.ts';
import { comparePaths, type FileEntry, type TreeEntry } from './entry.ts';
import { parsePart } from './part.ts';
import type { DataReader } from './places.ts';
import { folderVersion, partName } from './version.ts';

/** What a version holds, whoever made it: a folder that people added, a data set, or any other artifact by its files. */
export interface Listing {
  digest: Digest;
  artifact: Artifact;
  /** Entries in the order of their paths; those before `from` may be left out. */
  entries(from?: string): AsyncGenerator<TreeEntry>;
  /** Parts of the index by what is in them, where there are parts. */
  parts: { content: string; start: string; read(): Promise<TreeEntry[]> }[] | null;
}

/** Opens the listing of a version. Throws UserError artifact-missing, artifact-corrupt. */
export async function openListing(reader: DataReader, digest: Digest): Promise<Listing> {
  const artifact = await reader.manifest(digest);
  const version = folderVersion(digest, artifact);
  if (version) {
    const parts = version.meta.parts.map(({ content, start }, index) => ({
      content,
      start,
      read: async () =>
        parsePart(await reader.readBlob(version.parts[index]!.digest), `${digest} ${partName(index)}`)
          .entries,
    }));
    return {
      digest,
      artifact,
      parts,
      async *entries(from) {
        for (const [index, part] of parts.entries()) {
          const next = parts[index + 1]?.start;
          if (from !== undefined && next !== undefined && comparePaths(next, from) <= 0) continue;
          yield* await part.read();
        }
      },
    };
  }
  const index = artifact.kind === 'dataset' && artifact.files.find(({ path }) => path === 'index.jsonl');
  const entries = index
    ? () => merge(itemsOf(reader, artifact, index.digest), filesOf(artifact, isBeside))
    : async function* () {
        yield* filesOf(artifact, () => true);
      };
  return { digest, artifact, parts: null, entries };
}

const isBeside = (path: string) => path !== 'index.jsonl' && !path.startsWith('shard-');

function filesOf(artifact: Artifact, wanted: (path: string) => boolean): TreeEntry[] {
  return artifact.files
    .filter(({ path }) => wanted(path))
    .map(({ path, digest, size }): TreeEntry => {
      const sha256 = digest.slice(7);
      return { kind: 'file', path, sha256, size, exec: false, blob: sha256, at: null };
    })
    .sort((a, b) => comparePaths(a.path, b.path));
}

const itemSchema = z.object({
  key: z.string().regex(/^[0-9a-f]{32}$/),
  id: digestSchema,
  shard: z.string(),
  offset: z.int().nonnegative(),
  size: z.int().nonnegative(),
  extension: z.string().regex(/^[a-z0-9]{1,16}$/),
  label: z.int().nonnegative().nullable(),
});

/** Items of a raw data set by the names they have in its shards; they are in the order of their ids. */
async function* itemsOf(reader: DataReader, artifact: Artifact, index: Digest): AsyncGenerator<FileEntry> {
  const classes = z.array(z.string()).catch([]).parse(artifact.meta.classes);
  const shards = new Map(artifact.files.map(({ path, digest }) => [path, digest.slice(7)]));
  const input = await reader.openBlob(index);
  let failure: unknown = null;
  input.on('error', (error) => {
    failure = error;
  });
  for await (const line of createInterface({ input })) {
    const parsed = itemSchema.safeParse(JSON.parse(line));
    const blob = parsed.success ? shards.get(parsed.data.shard) : undefined;
    if (!parsed.success || blob === undefined) {
      throw new UserError('artifact-corrupt', `index.jsonl of ${artifact.name}: ${line.slice(0, 200)}`);
    }
    const { key, id, offset, size, extension, label } = parsed.data;
    yield {
      kind: 'file',
      path: `${key}.${extension}`,
      sha256: id.slice(7),
      size,
      exec: false,
      blob,
      at: offset,
      label: label === null ? null : (classes[label] ?? String(label)),
    };
  }
  if (failure !== null) throw failure;
}

async function* merge(items: AsyncGenerator<TreeEntry>, beside: TreeEntry[]): AsyncGenerator<TreeEntry> {
  for await (const item of items) {
    while (beside.length > 0 && comparePaths(beside[0]!.path, item.path) < 0) yield beside.shift()!;
    yield item;
  }
  yield* beside;
}

/** The entry of a path, or null. */
export async function findEntry(listing: Listing, path: string): Promise<TreeEntry | null> {
  for await (const entry of listing.entries(path)) {
    if (entry.path === path) return entry;
    if (comparePaths(entry.path, path) > 0) return null;
  }
  return null;
}

/** The bytes of a file, verified: out of a shard only they are read. Throws UserError artifact-corrupt. */
export async function readEntry(reader: DataReader, entry: FileEntry): Promise<Buffer> {
  const blob: Digest = `sha256:${entry.blob}`;
  if (entry.at === null) return reader.readBlob(blob);
  const bytes = await buffer(await reader.openPart(blob, { offset: entry.at, length: entry.size }));
  if (digestBytes(bytes) === `sha256:${entry.sha256}`) return bytes;
  throw new UserError('artifact-corrupt', `${entry.path} in ${blob} has other bytes than its index says`);
}
