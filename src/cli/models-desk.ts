import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { emptyLock, lockFile, parseLock } from '../core/lock.ts';
import { nearest } from '../core/suggest.ts';
import {
  type KnownModel,
  type KnownVersion,
  type RegistrySources,
  readModel,
} from '../deploy/known-versions.ts';
import { createContext } from '../steps/context.ts';
import { modelOf } from '../steps/subject.ts';
import type { Ctx } from '../steps/types.ts';
import { createZone } from '../store/index.ts';
import type { CommandInput } from './types.ts';

/** What the actions of `cdl models` work with. */
export interface ModelsDesk {
  ctx: Ctx;
  sources: RegistrySources;
  /** The model that `--model` names, or the only one. Throws UserError model-unknown, input-missing. */
  known(): Promise<KnownModel>;
}

/** Opens the registry of the project here. What is read is the store itself, not this machine's copy of some of it. */
export async function openModels(input: CommandInput): Promise<ModelsDesk> {
  const ctx = await createContext(input.cwd, input.env, input.console);
  const text = await readFile(join(ctx.root, lockFile), 'utf8').catch(() => null);
  const work = createZone('work', (await ctx.zone('work')).store);
  const trusted = await ctx.zone('trusted').catch((error: unknown) => {
    if (error instanceof UserError && error.code === 'store-denied') return null;
    throw error;
  });
  const sources: RegistrySources = {
    work,
    trusted,
    keys: ctx.trustedKeys(),
    project: ctx.project,
    lock: text === null || text.trim() === '' ? emptyLock : parseLock(text),
  };
  const given = typeof input.options.model === 'string' ? input.options.model : '';
  return { ctx, sources, known: () => readModel(sources, modelOf(ctx, given).model) };
}

/**
 * The version somebody means: its number (`7`, `v7`), a name (`production`, `previous`, `candidate@staging`), or the
 * beginning of its candidate's digest. Throws UserError input-missing, or usage when it may mean several.
 */
export function findVersion(known: KnownModel, what: string): KnownVersion {
  const { model, versions } = known;
  const number = /^v?(\d{1,9})$/i.exec(what)?.[1];
  const digits = what.replace(/^sha256:/, '');
  const named = versions.find(({ names }) => names.includes(what));
  const numbered = number === undefined ? undefined : versions.find((one) => one.version === Number(number));
  if (named ?? numbered) return (named ?? numbered)!;
  const begins = /^[0-9a-f]{6,64}$/.test(digits)
    ? versions.filter(({ digest }) => digest.slice(7).startsWith(digits))
    : [];
  if (begins.length === 1) return begins[0]!;
  if (begins.length > 1) {
    throw new UserError('usage', `${what} is the beginning of several versions`, 'give more of it');
  }
  const names = versions.flatMap((one) => one.names);
  const guess = nearest(what, names);
  throw new UserError(
    'input-missing',
    `${model} has no version ${what}${guess ? ` — did you mean ${guess}?` : ''}`,
    versions.length === 0
      ? 'versions come from cdl register'
      : `it has ${versions
          .slice(-10)
          .map((one) => one.version)
          .join(', ')}${names.length > 0 ? ` and the names ${names.join(', ')}` : ''}: cdl models ls`,
  );
}

/** One version named on the command line. Throws UserError usage when it is not one. */
export function oneVersion(known: KnownModel, action: string, what: readonly string[]): KnownVersion {
  if (what.length !== 1) throw new UserError('usage', `cdl models ${action} takes one version`);
  return findVersion(known, what[0]!);
}
