import { UserError } from '../core/error.ts';
import { readVersion } from '../model/registry.ts';
import { listRunLines, type RunLine } from '../model/run-index.ts';
import { findRun, listRuns, type ReadProgress, type Run, readRun } from '../model/runs.ts';
import { createContext } from '../steps/context.ts';
import { modelOf } from '../steps/subject.ts';
import type { Ctx } from '../steps/types.ts';
import type { Zone } from '../store/types.ts';
import { type Actions, act } from './actions.ts';
import type { CommandInput } from './types.ts';

/** What the actions of `cdl runs` work with. */
export interface RunsDesk {
  ctx: Ctx;
  work: Zone;
  /** The runs asked for on the command line; without any, all of the project (or of `--model`), newest first. */
  chosen(what: readonly string[]): Promise<Run[]>;
  /** The same without metrics by epoch, which is quick also when there are many. */
  listed(what: readonly string[]): Promise<RunLine[]>;
}

const actions: Actions<RunsDesk> = {
  ls: async () => (await import('./runs-show.ts')).ls,
  show: async () => (await import('./runs-show.ts')).show,
  compare: async () => (await import('./runs-compare.ts')).compare,
  best: async () => (await import('./runs-compare.ts')).best,
  diff: async () => (await import('./runs-compare.ts')).diff,
  export: async () => (await import('./runs-export.ts')).exportRuns,
  mirror: async () => (await import('./runs-mirror.ts')).mirror,
  follow: async () => (await import('./runs-follow.ts')).followRun,
};

function openRuns(input: CommandInput, ctx: Ctx, work: Zone): RunsDesk {
  const { project } = ctx.project;
  const given = typeof input.options.model === 'string' ? modelOf(ctx, input.options.model).model : undefined;

  async function ofVersion(version: number): Promise<Run> {
    const { model } = modelOf(ctx, given ?? '');
    const found = await readVersion(work, project, model, version);
    const run = found && (await readRun(work, found.run));
    if (run) return run;
    throw new UserError(
      'input-missing',
      found
        ? `the run of version ${version} of ${model} is not in the store any more`
        : `${model} has no version ${version}`,
      'see cdl models ls',
    );
  }

  // Of a few there is nothing to wait for.
  const progress: ReadProgress = (read, of) => {
    if (of > 500) input.console.progress('reading runs', read / of);
  };

  const desk: RunsDesk = {
    ctx,
    work,
    listed: async (what) =>
      what.length === 0 ? listRunLines(work, project, ctx.cacheFolder, given, progress) : desk.chosen(what),
    async chosen(what) {
      if (what.length === 0) return listRuns(work, project, given, progress);
      const runs: Run[] = [];
      for (const one of what) {
        const version = /^v(\d{1,9})$/i.exec(one)?.[1];
        const run = version === undefined ? findRun(work, project, one) : ofVersion(Number(version));
        runs.push(await run);
      }
      return runs;
    },
  };
  return desk;
}

/** `cdl runs ls | show | compare | best | diff | export | mirror | follow`: every training of the project, read from the store alone. */
export function runs(input: CommandInput): Promise<number> {
  return act('runs', actions, input, async () => {
    const ctx = await createContext(input.cwd, input.env, input.console);
    return openRuns(input, ctx, await ctx.zone('work'));
  });
}
