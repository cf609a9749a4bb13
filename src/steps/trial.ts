import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../core/error.ts';
import type { TuneConfig } from '../core/project-tune.ts';
import type { Zone } from '../store/types.ts';
import { msLeft, readTuning, swapTuning, type Trial, update, type Work } from '../train/tuning.ts';
import type { Metrics } from '../train/types.ts';
import { storeCheckpoint } from './store-folder.ts';
import type { Training } from './training.ts';
import type { Ctx } from './types.ts';

/** What all trials of a worker have in common. */
export interface Bench {
  ctx: Ctx;
  zone: Zone;
  /** Of the record that all workers share. */
  key: string;
  owner: string;
  tune: TuneConfig;
  training: Training;
  hyperparameters: Record<string, number | string | boolean>;
  folder: string;
  model: string;
  /** That a trial takes. */
  gpus: number;
  /** How often a worker says that it lives and keeps a checkpoint, in milliseconds; others give it up after a minute. */
  beat: number;
}

/** How far a training came: what another worker could go on from. */
type Stand = Pick<Trial, 'curve' | 'checkpoint'>;

/** What becomes of one training of a trial. `released`: it was stopped before its rung; `lost`: another worker has it. */
export type Trained =
  | ({ kind: 'done'; loss: number } & Stand)
  | { kind: 'failed'; why: string }
  | ({ kind: 'released' } & Stand)
  | { kind: 'lost' };

/** Faults of one configuration; anything else is a fault of the search. */
function faultOf(error: unknown): string | null {
  if (!(error instanceof UserError)) return null;
  return ['training-failed', 'code-invalid', 'config-invalid'].includes(error.code) ? error.message : null;
}

/**
 * Trains one trial from where it stands up to its rung. Meanwhile it says in the shared record that it is alive, and what
 * it took so far; it ends as soon as the budget of the search is spent, or another worker took the trial for abandoned.
 */
export async function trainTrial(
  bench: Bench,
  trial: Trial,
  work: Work & { kind: 'train' },
  started: number,
): Promise<Trained> {
  const { ctx, zone, key, owner, tune, gpus, beat } = bench;
  const folder = join(bench.folder, `trial-${trial.id}-${work.rung}`);
  const stop = new AbortController();
  const signal = AbortSignal.any([ctx.signal, stop.signal]);
  const stand: Stand = { curve: [...trial.curve], checkpoint: trial.checkpoint };
  let isLost = false;
  /** Returns in how many milliseconds the budget will be spent. */
  const sayAlive = async (): Promise<number> => {
    const now = Date.now();
    const seconds = trial.seconds + (now - started) / 1000;
    const { said } = await swapTuning<number | null>(zone, key, (found) => {
      if (found.trials[trial.id]?.owner !== owner) return { tuning: null, said: null };
      const next = update(found, trial.id, owner, { ...stand, curve: [...stand.curve], since: now, seconds });
      return { tuning: next, said: msLeft(next, tune, now, gpus) };
    });
    isLost = said === null;
    return said ?? 0;
  };
  const beats = async () => {
    for (
      let left = msLeft(await readTuning(zone, key), tune, Date.now(), gpus);
      left > 0;
      left = await sayAlive()
    ) {
      // A little later than the end, so that it has come by any rounding.
      await delay(Math.min(beat, left + 5), undefined, { signal });
    }
    stop.abort();
  };
  const beating = beats().catch((error: unknown) => {
    if (signal.aborted) return null;
    stop.abort();
    return error;
  });
  try {
    const trained = await follow(bench, trial, work, { folder, signal, stand }).catch(
      (error: unknown): Trained => {
        const why = faultOf(error);
        if (why !== null) return { kind: 'failed', why };
        if (stop.signal.aborted && error instanceof UserError) return { kind: 'released', ...stand };
        throw error;
      },
    );
    stop.abort();
    const fault = await beating;
    if (fault) throw fault;
    return isLost ? { kind: 'lost' } : trained;
  } finally {
    stop.abort();
    await beating;
    await rm(folder, { recursive: true, force: true });
  }
}

/** Follows what the training tells, and keeps `stand` up to date. */
async function follow(
  bench: Bench,
  trial: Trial,
  work: Work & { kind: 'train' },
  at: { folder: string; signal: AbortSignal; stand: Stand },
): Promise<Trained> {
  const { zone, tune, beat } = bench;
  const { folder, signal, stand } = at;
  const resume = trial.checkpoint ? join(folder, 'resume') : null;
  await mkdir(resume ?? folder, { recursive: true });
  if (resume && trial.checkpoint) await zone.saveArtifact(trial.checkpoint, resume);
  const keep = async (from: string | null) =>
    (from === null ? null : await storeCheckpoint(zone, from, `${bench.model} (trial)`)) ?? stand.checkpoint;
  let newest: string | null = null;
  let last: Metrics = {};
  let kept = Date.now();
  // A trial is stopped by the search, not by itself.
  const hyperparameters = { ...bench.hyperparameters, ...trial.point };
  const request = { folder, hyperparameters, epochs: work.epochs, resume, signal };
  for await (const message of bench.training.run(request)) {
    if (message.kind === 'checkpoint') newest = message.checkpoint;
    if (message.kind === 'event') {
      const { event } = message;
      if (event.kind === 'stopped') {
        return { kind: 'released', curve: stand.curve, checkpoint: await keep(event.checkpoint) };
      }
      if (event.kind === 'done') last = { ...event.metrics, ...last };
      if (event.kind === 'epoch') {
        // A command that was started again repeats what came after its checkpoint.
        stand.curve.splice(event.epoch - 1);
        last = event.metrics;
        stand.curve.push([last.validationLoss ?? null, last.validationAccuracy ?? null]);
        newest = event.checkpoint ?? newest;
      }
    }
    if (!newest || Date.now() - kept < beat) continue;
    stand.checkpoint = await keep(newest);
    kept = Date.now();
  }
  const isLoss = tune.metric === 'validation_loss';
  const told = isLoss ? last.validationLoss : last.validationAccuracy;
  if (told === undefined) return { kind: 'failed', why: `its training told no ${tune.metric}` };
  if (!Number.isFinite(told)) return { kind: 'failed', why: `its ${tune.metric} is ${told}` };
  const goesOn = work.epochs < tune.max_epochs;
  return {
    kind: 'done',
    loss: isLoss ? told : 1 - told,
    curve: stand.curve,
    checkpoint: goesOn ? await keep(newest) : null,
  };
}
