import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { z } from 'zod';
import { type Digest, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';

/** The newest format that is written and read here. */
export const formatVersion = 1;

/** How every backup begins, before anything in it is believed. */
const beginning = '{"format":"cdl-backup",';

/** What the name of the queue's tasks is among the tables of a backup. */
export const queueSection = 'queue';

const sectionSchema = z.strictObject({
  table: z.string(),
  columns: z.array(z.string()).min(1),
  rows: z.int().nonnegative(),
});

const headerSchema = z.strictObject({
  format: z.literal('cdl-backup'),
  version: z.literal(formatVersion),
  /** When the snapshot was taken, by the database's clock. RFC 3339. */
  at: z.iso.datetime(),
  /** What had been applied to the database. */
  migrations: z.array(z.strictObject({ name: z.string(), checksum: z.custom<Digest>(isDigest) })).min(1),
  sequences: z.record(z.string(), z.strictObject({ last: z.string().regex(/^-?\d+$/), called: z.boolean() })),
  tables: z.array(sectionSchema),
});

/** The first line of a backup. */
export type BackupHeader = z.infer<typeof headerSchema>;

/** The tasks or the rows of one table in a backup. */
export type BackupSection = z.infer<typeof sectionSchema>;

const endSchema = z.strictObject({ end: z.custom<Digest>(isDigest) });

/**
 * A backup, piece by piece: the header, the rows of each table in its order (`line` is a JSON array with the text PostgreSQL
 * has for each value, or null), and the digest of all lines before the last. `end` comes when everything was as it should be.
 */
export type BackupPart =
  | { kind: 'header'; header: BackupHeader }
  | { kind: 'row'; section: BackupSection; line: string }
  | { kind: 'end'; digest: Digest };

const cutOff = (path: string, cause?: unknown) =>
  new UserError(
    'backup-invalid',
    `${path} is cut off: its end is missing`,
    'copy it again from where it was made, or take an earlier backup',
    { cause },
  );

const damaged = (path: string, what: string, cause?: unknown) =>
  new UserError('backup-invalid', `${path} is damaged: ${what}`, undefined, { cause });

const foreign = (path: string, cause?: unknown) =>
  new UserError('backup-invalid', `${path} is no backup of cdl`, 'cdl db backup makes one', { cause });

/** What zlib says of a stream, as what a person should know of the file. */
function explainGzip(path: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  if (code === 'Z_BUF_ERROR') return cutOff(path, error);
  if (code !== 'Z_DATA_ERROR') return error;
  const message = (error as Error).message;
  return message === 'incorrect header check' ? foreign(path, error) : damaged(path, message, error);
}

/** The lines of a compressed file, without their `\n`; the last one may lack it, which the second value says. */
async function* linesOf(path: string, signal?: AbortSignal): AsyncGenerator<[line: string, whole: boolean]> {
  const gunzip = createGunzip();
  // Its end, bad or good, is seen by whoever reads.
  const piped = pipeline(createReadStream(path), gunzip, { signal }).catch(() => undefined);
  let rest: Buffer[] = [];
  let begun = false;
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        rest.push(chunk.subarray(from, at));
        yield [Buffer.concat(rest).toString('utf8'), true];
        rest = [];
        begun = true;
        from = at + 1;
      }
      if (from < chunk.length) rest.push(chunk.subarray(from));
      // Something else that is large need not be read to its end, which may be far.
      if (!begun && !startsRight(Buffer.concat(rest))) throw foreign(path);
    }
    if (rest.length > 0) yield [Buffer.concat(rest).toString('utf8'), false];
  } catch (error) {
    throw explainGzip(path, error);
  } finally {
    gunzip.destroy();
    await piped;
  }
}

function startsRight(bytes: Buffer): boolean {
  const text = bytes.subarray(0, beginning.length).toString('latin1');
  return beginning.startsWith(text);
}

function parseHeader(path: string, line: string): BackupHeader {
  if (!line.startsWith(beginning)) throw foreign(path);
  const value = parseLine(path, line);
  const version = z.looseObject({ version: z.int() }).safeParse(value).data?.version;
  if (version !== undefined && version > formatVersion) {
    throw new UserError(
      'backup-invalid',
      `${path} has the format ${version}, this version of cdl reads ${formatVersion}`,
      'restore it with the version of cdl that made it, or with a newer one',
    );
  }
  const parsed = headerSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw damaged(path, `its first line: ${z.prettifyError(parsed.error)}`);
}

function parseLine(path: string, line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw damaged(path, 'a line is no JSON', cause);
  }
}

/**
 * Reads a backup a line at a time, checking on the way: nothing of it is to be believed before `end` came. Throws UserError
 * backup-invalid (cut off, damaged, something else, newer); what the file system says passes as it is.
 */
export async function* readBackup(path: string, signal?: AbortSignal): AsyncGenerator<BackupPart> {
  const hash = createHash('sha256');
  let header: BackupHeader | null = null;
  let place = 0;
  let read = 0;
  let ended = false;
  for await (const [line, whole] of linesOf(path, signal)) {
    if (ended) throw damaged(path, 'something comes after its end');
    if (!whole) throw header === null && !line.startsWith(beginning) ? foreign(path) : cutOff(path);
    if (header === null) {
      header = parseHeader(path, line);
      yield { kind: 'header', header };
    } else if (line.startsWith('[')) {
      while (header.tables[place] && read === header.tables[place]!.rows) {
        place++;
        read = 0;
      }
      const section = header.tables[place];
      if (!section) throw damaged(path, 'it has more rows than its first line says');
      read++;
      yield { kind: 'row', section, line };
    } else {
      const end = endSchema.safeParse(parseLine(path, line));
      if (!end.success) throw damaged(path, 'a line is neither row nor end');
      const digest: Digest = `sha256:${hash.digest('hex')}`;
      const rest = header.tables.slice(place).reduce((sum, { rows }) => sum + rows, 0) - read;
      if (rest > 0) throw damaged(path, `${rest} rows are missing`);
      if (end.data.end !== digest) throw damaged(path, 'its digest is not that of its content');
      ended = true;
      yield { kind: 'end', digest };
      continue;
    }
    hash.update(line).update('\n');
  }
  if (!ended) throw header === null ? foreign(path) : cutOff(path);
}
