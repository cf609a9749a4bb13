import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeDigest } from '../core/candidate.ts';
import { shortDigest } from '../core/digest.ts';
import { catalogue, UserError } from '../core/error.ts';
import { emptyLock, type Lock, lockEntry, lockFile, parseLock } from '../core/lock.ts';
import { configDigest } from '../core/project.ts';
import { driftReport, findDrift, readDrift } from '../deploy/drift.ts';
import { selectCode } from '../exec/code.ts';
import { createContext } from '../steps/context.ts';
import { readLive } from '../steps/trusted.ts';
import type { Ctx } from '../steps/types.ts';
import type { CommandInput } from './types.ts';

interface Row {
  model: string;
  environment: string;
  locked: { version: number; candidate: string } | null;
  live: { version: number; candidate: string; since: string; endpoint: string | null } | null;
  /** Null when this machine may not read the trusted zone. */
  liveKnown: boolean;
  codeChanged: boolean | null;
  next: string;
}

function next(row: Omit<Row, 'next'>): string {
  if (row.codeChanged) return 'code or configuration differ from the lock: push, and the bot will evaluate';
  if (!row.locked) return 'nothing approved yet: push a branch and open a merge request';
  if (row.liveKnown && row.live?.candidate !== row.locked.candidate)
    return 'the lock is ahead of what is live: see the deploy job';
  return 'up to date';
}

/** `cdl status --drift`: the nightly comparison of the bot, on demand. Throws UserError store-denied without the trusted zone. */
async function drift(ctx: Ctx, lock: Lock, console: CommandInput['console']): Promise<number> {
  const [work, trusted] = [await ctx.zone('work'), await ctx.zone('trusted')];
  const facts = await readDrift({ work, trusted, keys: ctx.trustedKeys(), project: ctx.project, lock });
  const found = findDrift(facts);
  const report = driftReport(ctx.project.project, found, facts.length);
  const lines = found.flatMap(({ model, environment, what, next }) => [
    `${model}${environment === null ? '' : `.${environment}`}: ${what}`,
    `  next   ${next}`,
  ]);
  console.print([report.summary, ...lines].join('\n'), { project: ctx.project.project, drift: found });
  return found.length === 0 ? 0 : catalogue['artifact-corrupt'].exit;
}

/** `cdl status`: per model and environment, the lock, what is live, and whether this checkout differs. */
export async function status(input: CommandInput): Promise<number> {
  const ctx = await createContext(input.cwd, input.env, input.console);
  const text = await readFile(join(ctx.root, lockFile), 'utf8').catch(() => null);
  const lock = text === null ? emptyLock : parseLock(text);
  if (input.options.drift === true) return drift(ctx, lock, input.console);
  const trusted = await ctx.zone('trusted').catch((error: unknown) => {
    if (error instanceof UserError && error.code === 'store-denied') return null;
    throw error;
  });
  const rows: Row[] = [];
  for (const [model, config] of Object.entries(ctx.project.models)) {
    const code = codeDigest(await selectCode(ctx.root, ctx.ref, config.code));
    for (const environment of Object.keys(config.environments)) {
      const entry = lockEntry(lock, model, environment);
      const live = trusted ? (await readLive(trusted, ctx.project.project, model, environment)).state : null;
      const row = {
        model,
        environment,
        locked: entry && { version: entry.info.version, candidate: entry.candidate },
        live: live?.current
          ? {
              version: live.current.version,
              candidate: live.current.candidate,
              since: live.current.since,
              endpoint: live.endpoint,
            }
          : null,
        liveKnown: trusted !== null,
        codeChanged: entry ? entry.code !== code || entry.config !== configDigest(config) : null,
      };
      rows.push({ ...row, next: next(row) });
    }
  }
  const lines = rows.map((row) =>
    [
      `${row.model}.${row.environment}`,
      `  lock   ${row.locked ? `version ${row.locked.version}, candidate ${shortDigest(row.locked.candidate as never)}` : 'no entry'}`,
      `  live   ${row.live ? `version ${row.live.version} since ${row.live.since}${row.live.endpoint ? ` at ${row.live.endpoint}` : ''}` : row.liveKnown ? 'nothing' : 'unknown (no access to the trusted zone from here)'}`,
      `  next   ${row.next}`,
    ].join('\n'),
  );
  input.console.print(lines.join('\n'), { project: ctx.project.project, models: rows });
  return 0;
}
