import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { access, constants, mkdtemp, open, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { keyId } from '../core/decision.ts';
import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import type { BackupHeader, Database } from '../db/index.ts';
import { openDatabase } from '../db/index.ts';
import { openZone, readTrustedKeys } from '../steps/context.ts';
import type { CommandInput } from './types.ts';

const actions = ['backup', 'restore', 'rebuild'];

const rowsOf = (header: BackupHeader) => header.tables.reduce((sum, { rows }) => sum + rows, 0);

const told = (header: BackupHeader) =>
  header.tables
    .filter(({ rows }) => rows > 0)
    .map(({ table, rows }) => `  ${String(rows).padStart(8)}  ${table}`);

/** Writes a file that is there whole or not at all, also when the machine stops. */
async function backupTo(path: string, write: (out: NodeJS.WritableStream) => Promise<BackupHeader>) {
  const partial = `${path}.part-${process.pid}`;
  try {
    const header = await write(createWriteStream(partial, { mode: 0o600, flush: true }));
    await rename(partial, path);
    const folder = await open(dirname(path));
    await folder.sync().finally(() => folder.close());
    return header;
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function backup(input: CommandInput, database: Database, file: string): Promise<number> {
  const { writeBackup } = await import('../db/backup.ts');
  const { console } = input;
  const options = {
    signal: console.signal,
    progress: (share: number) => console.progress('backing up', share),
  };
  if (file === '-') {
    if (process.stdout.isTTY)
      throw new UserError('usage', 'a backup is no text for a terminal', 'name a file');
    // Not itself: a backup ends what it is written to, and standard output has to stay open to the end of the program.
    const out = new PassThrough();
    const sent = once(out, 'end');
    out.pipe(process.stdout);
    const header = await writeBackup(database, out, options);
    await sent;
    console.log(`backed up ${rowsOf(header)} rows of ${header.at}`);
    return 0;
  }
  const path = resolve(input.cwd, file);
  const header = await backupTo(path, (out) =>
    writeBackup(database, out as import('node:stream').Writable, options),
  );
  const text = [`${path}: ${rowsOf(header)} rows as of ${header.at}`, ...told(header)].join('\n');
  console.print(text, { file: path, at: header.at, tables: header.tables });
  return 0;
}

/** The file of a backup; one that comes by standard input is kept first, for it is read twice: to verify it, and to write it. */
async function withFile<T>(input: CommandInput, file: string, use: (path: string) => Promise<T>): Promise<T> {
  if (file !== '-') return use(resolve(input.cwd, file));
  const folder = await mkdtemp(join(tmpdir(), 'cdl-restore-'));
  try {
    const path = join(folder, 'standard input');
    await pipeline(process.stdin, createWriteStream(path, { mode: 0o600 }));
    return await use(path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function restore(input: CommandInput, database: Database, path: string): Promise<number> {
  const { restoreBackup } = await import('../db/restore.ts');
  const { console } = input;
  const header = await restoreBackup(database, path, {
    force: input.options.force === true,
    signal: console.signal,
    progress: (share) => console.progress('restoring', share),
  });
  const text = [
    `restored ${rowsOf(header)} rows as of ${header.at}`,
    ...told(header),
    'What the store has (runs, versions, evaluations, decisions) comes back with: cdl db rebuild',
  ].join('\n');
  console.print(text, { at: header.at, tables: header.tables });
  return 0;
}

/** Keys whose decisions count: those that jobs trust, and the bot's own. */
async function keysOf(env: CommandInput['env']): Promise<ReadonlyMap<string, KeyObject>> {
  const trusted = await readTrustedKeys(env);
  const given = env.CDL_SIGNING_KEY;
  if (!given) return trusted;
  // PEM, or a path, as the bot takes it.
  const pem = given.includes('-----BEGIN') ? given : await readFile(given, 'utf8');
  const key = createPublicKey(createPrivateKey(pem));
  return new Map([...trusted, [keyId(key), key]]);
}

async function rebuild(input: CommandInput, database: Database): Promise<number> {
  const { env, console } = input;
  const [work, trusted, keys] = await Promise.all([
    openZone(env, 'work', null),
    openZone(env, 'trusted', null),
    keysOf(env),
  ]);
  const { rebuildIndex } = await import('../../bot/main.ts');
  const found = await rebuildIndex({ database, work, trusted, keys }, (project, share) =>
    console.progress(`rebuilding ${project}`, share),
  );
  const lines = Object.entries(found).map(
    ([project, { runs, versions, evaluations, decisions }]) =>
      `${project}: ${runs} runs, ${versions} versions, ${evaluations} evaluations, ${decisions} decisions`,
  );
  console.print(lines.join('\n') || 'the store has nothing to rebuild from', found);
  return 0;
}

/**
 * `cdl db backup | restore | rebuild`, on the database that `CDL_DATABASE` or `CDL_BOT_FOLDER` names. Throws UserError usage,
 * environment-missing, file-missing, backup-invalid, database-in-use, database-mismatch, database-unavailable, store-denied.
 */
export async function db(input: CommandInput): Promise<number> {
  const [action = '', file] = input.args;
  if (!actions.includes(action)) {
    const guess = nearest(action, actions);
    throw new UserError(
      'usage',
      `cdl db takes ${actions.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  if ((action === 'rebuild') !== (file === undefined)) {
    throw new UserError(
      'usage',
      action === 'rebuild' ? 'cdl db rebuild takes no file' : `cdl db ${action} takes a file`,
    );
  }
  if (input.options.force === true && action !== 'restore') {
    throw new UserError('usage', '--force belongs to cdl db restore');
  }
  // A file that became a variable ends in a newline.
  const [url, folder] = [input.env.CDL_DATABASE?.trim(), input.env.CDL_BOT_FOLDER?.trim()];
  if (!url && !folder) {
    throw new UserError(
      'environment-missing',
      'neither CDL_DATABASE nor CDL_BOT_FOLDER is set: which database?',
      'see bot/README.md',
    );
  }
  if (action === 'restore' && file !== '-') {
    const path = resolve(input.cwd, file!);
    await access(path, constants.R_OK).catch((cause: NodeJS.ErrnoException) => {
      const hint = 'check the path, and who may read it';
      throw new UserError('file-missing', `${path} cannot be read: ${cause.code}`, hint, { cause });
    });
  }
  const database = await openDatabase({ url: url || null, folder: join(folder || '.', 'database') });
  try {
    if (action === 'backup') return await backup(input, database, file!);
    if (action === 'rebuild') return await rebuild(input, database);
    return await withFile(input, file!, (path) => restore(input, database, path));
  } finally {
    await database.close();
  }
}
