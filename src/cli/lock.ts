import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import {
  emptyLock,
  type Lock,
  lockFile,
  mergeLocks,
  parseLock,
  renderLock,
  resolveLocks,
} from '../core/lock.ts';
import { nearest } from '../core/suggest.ts';
import { findRoot } from '../steps/context.ts';
import type { CommandInput } from './types.ts';

/** How git is to merge `cdl.lock` where `.gitattributes` says `cdl.lock merge=cdl-lock` (gitattributes, "Defining a custom merge driver"). */
export const lockDriver = { key: 'merge.cdl-lock.driver', command: 'cdl lock merge %O %A %B' };

const actions = ['show', 'verify', 'merge'];

async function read(path: string): Promise<Lock> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  return text === null || text.trim() === '' ? emptyLock : parseLock(text, path);
}

async function merge(input: CommandInput, files: string[]): Promise<number> {
  const [base, ours, theirs] = files;
  if (!base || !ours || !theirs || files.length > 3) {
    throw new UserError('usage', 'cdl lock merge takes three files: BASE OURS THEIRS');
  }
  const [before, own, other] = await Promise.all([read(base), read(ours), read(theirs)]);
  const merged = mergeLocks(before, own, other);
  if (merged.kind === 'conflict') {
    // Whoever takes the file as it lies there loses no entry that could be merged.
    await writeFile(ours, renderLock(resolveLocks(before, other, own)));
    const entries = merged.entries.map((entry) => entry.join('.')).join(', ');
    throw new UserError(
      'lock-conflict',
      `both sides changed ${entries}`,
      `${lockFile} has ours there, whole, and everything else merged: git add ${lockFile} keeps that, and the bot writes it anew from the default branch`,
    );
  }
  await writeFile(ours, renderLock(merged.lock));
  input.console.print(`merged into ${ours}`, { merged: ours });
  return 0;
}

/** `cdl lock show | verify | merge`. */
export async function lock(input: CommandInput): Promise<number> {
  const [action, rest] = input.args as [string, string[] | undefined];
  if (action === 'merge') return merge(input, rest ?? []);
  if (action !== 'show' && action !== 'verify') {
    const guess = nearest(action, actions);
    throw new UserError(
      'usage',
      `cdl lock takes ${actions.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  const root = await findRoot(input.cwd);
  const content = await read(join(root, lockFile));
  const rows = Object.entries(content.models).flatMap(([model, environments]) =>
    Object.entries(environments).map(([environment, entry]) => ({ model, environment, ...entry })),
  );
  if (action === 'verify') {
    input.console.print(
      rows.length === 0
        ? `there is no entry in ${lockFile} yet`
        : `${lockFile}: ${rows.length} ${rows.length === 1 ? 'entry' : 'entries'}, each the digest of its lines`,
      {
        entries: rows.length,
      },
    );
    return 0;
  }
  const text = rows.map(
    (row) =>
      `${row.model}.${row.environment}  version ${row.info.version}\n` +
      `  candidate ${shortDigest(row.candidate)}  evaluation ${shortDigest(row.evaluation)}\n` +
      `  code ${shortDigest(row.code)}  dataset ${shortDigest(row.dataset)}  checkpoint ${shortDigest(row.checkpoint)}  package ${shortDigest(row.package)}`,
  );
  input.console.print(text.length > 0 ? text.join('\n') : `${lockFile} has no entries yet`, {
    entries: rows,
  });
  return 0;
}
