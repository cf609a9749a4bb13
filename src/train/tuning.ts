import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import { UserError } from '../core/error.ts';
import type { TuneConfig } from '../core/project-tune.ts';
import type { Zone } from '../store/types.ts';
import { type AshaSettings, decide, rungs } from './asha.ts';
import { seededRandom } from './random.ts';
import { gridPoint, gridSize, type Point, randomPoint } from './space.ts';
import { tpePoint } from './tpe.ts';

const trialSchema = z.strictObject({
  id: z.int().nonnegative(),
  point: z.record(z.string(), z.union([z.number(), z.string(), z.boolean()])),
  state: z.enum(['running', 'waiting', 'failed']),
  /** Loss at each rung reached (accuracies turned into 1 − accuracy). */
  losses: z.array(z.number()),
  /** Loss and accuracy on the validation items after each epoch; null where the training did not tell. */
  curve: z.array(z.tuple([z.number().nullable(), z.number().nullable()])),
  /** Of the worker that has it, while it runs; null also when a worker had to leave it before its rung. */
  owner: z.string().nullable(),
  /** When that worker last gave a sign of life, in milliseconds since 1970. */
  since: z.number(),
  checkpoint: digestSchema.nullable(),
  seconds: z.number(),
  /** Why it failed. */
  why: z.string().nullable(),
});

/** One configuration and how far it came. */
export type Trial = z.infer<typeof trialSchema>;

const tuningSchema = z.strictObject({
  v: z.literal(1),
  /** When the first trial began, in milliseconds since 1970. */
  began: z.number(),
  trials: z.array(trialSchema),
});

/** The whole of a search, in one record of the store that workers swap. */
export type Tuning = z.infer<typeof tuningSchema>;

/** A search without trials. */
export const noTuning: Tuning = { v: 1, began: 0, trials: [] };

/** What a worker does next: train a trial up to a rung, wait for others, or end. */
export type Work =
  | { kind: 'train'; trial: number; rung: number; epochs: number; point: Point; isNew: boolean }
  | { kind: 'wait' }
  | { kind: 'end'; why: string };

/** The rungs of a search; one where nothing is stopped. */
export function settingsOf(config: TuneConfig): AshaSettings {
  const { max_epochs: maxEpochs, grace, reduction } = config;
  return { maxEpochs, grace: config.scheduler === 'asha' ? grace : maxEpochs, reduction };
}

/** How many configurations may be tried: what was asked for, or the whole grid if that is smaller. */
export function mostTrials(config: TuneConfig): number {
  return config.sampler === 'grid'
    ? Math.min(config.trials, gridSize(config.space, config.grid))
    : config.trials;
}

/** Configuration number `id`, given what is known so far. The same knowledge gives the same configuration. */
export function pointOf(config: TuneConfig, id: number, trials: readonly Trial[]): Point {
  const { space, seed } = config;
  if (config.sampler === 'grid') return gridPoint(space, config.grid, seed, id);
  if (config.sampler === 'random') return randomPoint(space, seededRandom('trial', seed, id));
  const levels = rungs(settingsOf(config));
  const seen = trials.flatMap((trial) =>
    trial.losses.map((loss, rung) => ({ point: trial.point, loss, epochs: levels[rung]! })),
  );
  return tpePoint(space, seen, seededRandom('tpe', seed, id));
}

const gpuSeconds = (trials: readonly Trial[], gpus: number) =>
  trials.reduce((sum, trial) => sum + trial.seconds, 0) * gpus;

/** Why nothing may go on, `gpus` being what a trial takes; null while there is time and money. */
function budgetEnd(tuning: Tuning, config: TuneConfig, now: number, gpus: number): string | null {
  const { began, trials } = tuning;
  if (config.seconds !== undefined && began > 0 && now - began >= config.seconds * 1000)
    return `${config.seconds} s are over`;
  if (config.gpu_seconds !== undefined && gpuSeconds(trials, gpus) >= config.gpu_seconds)
    return `${config.gpu_seconds} GPU-seconds are spent`;
  return null;
}

/** In how many milliseconds the budget is spent, if all goes on that runs now. 0: it is. */
export function msLeft(tuning: Tuning, config: TuneConfig, now: number, gpus: number): number {
  const { began, trials } = tuning;
  const running = trials.filter((trial) => trial.owner !== null).length;
  const left = [
    config.seconds === undefined ? Infinity : began + config.seconds * 1000 - now,
    config.gpu_seconds === undefined || gpus === 0
      ? Infinity
      : ((config.gpu_seconds - gpuSeconds(trials, gpus)) / gpus / Math.max(1, running)) * 1000,
  ];
  return budgetEnd(tuning, config, now, gpus) === null ? Math.max(1, Math.min(...left)) : 0;
}

/**
 * What a free worker does. Pure: `isGone` tells whether the worker that has a trial is dead, `gpus` how many GPUs a trial
 * takes. A trial left behind is taken up first; after the budget is spent nothing begins.
 */
export function planWork(
  tuning: Tuning,
  config: TuneConfig,
  now: number,
  gpus: number,
  isGone: (trial: Trial) => boolean,
): Work {
  const settings = settingsOf(config);
  const levels = rungs(settings);
  const { trials } = tuning;
  const left = trials.find((trial) => trial.state === 'running' && isGone(trial));
  const why = budgetEnd(tuning, config, now, gpus);
  if (why !== null) {
    const busy = trials.some((trial) => trial.state === 'running' && !isGone(trial));
    return busy ? { kind: 'wait' } : { kind: 'end', why };
  }
  const train = (trial: Trial, rung: number): Work => ({
    kind: 'train',
    trial: trial.id,
    rung,
    epochs: levels[rung]!,
    point: trial.point,
    isNew: false,
  });
  if (left) return train(left, left.losses.length);
  const next = decide(trials, settings);
  if (next.kind === 'promote') return train(trials[next.trial]!, next.rung);
  const id = trials.length;
  if (id < mostTrials(config)) {
    return {
      kind: 'train',
      trial: id,
      rung: 0,
      epochs: levels[0]!,
      point: pointOf(config, id, trials),
      isNew: true,
    };
  }
  return trials.some((trial) => trial.state === 'running')
    ? { kind: 'wait' }
    : { kind: 'end', why: `all ${id} configurations were tried` };
}

/** The state after a worker took up its work. */
export function begin(tuning: Tuning, work: Work & { kind: 'train' }, owner: string, now: number): Tuning {
  const started = { state: 'running' as const, owner, since: now };
  const trials = work.isNew
    ? [
        ...tuning.trials,
        {
          id: work.trial,
          point: work.point,
          losses: [],
          curve: [],
          checkpoint: null,
          seconds: 0,
          why: null,
          ...started,
        },
      ]
    : tuning.trials.map((trial) => (trial.id === work.trial ? { ...trial, ...started } : trial));
  return { ...tuning, began: tuning.began || now, trials };
}

/** The state after something happened to a trial; unchanged when another worker has it by now. */
export function update(tuning: Tuning, id: number, owner: string, change: Partial<Trial>): Tuning {
  return {
    ...tuning,
    trials: tuning.trials.map((trial) =>
      trial.id === id && trial.owner === owner ? { ...trial, ...change } : trial,
    ),
  };
}

/**
 * The best trial: the lowest loss among those that came to the highest rung anybody reached and have not failed since. Null
 * when there is none.
 */
export function bestTrial(trials: readonly Trial[]): Trial | null {
  const sound = trials.filter((trial) => trial.state !== 'failed');
  const top = sound.reduce((most, trial) => Math.max(most, trial.losses.length), 0);
  const there = top === 0 ? [] : sound.filter((trial) => trial.losses.length === top);
  return there.reduce<Trial | null>(
    (best, one) => (best === null || one.losses.at(-1)! < best.losses.at(-1)! ? one : best),
    null,
  );
}

/**
 * How much of what the trials differ in at the lowest rung each hyperparameter alone explains, 0 to 1: the share of the
 * variance of their ranks that lies between four bins of its values, less what chance puts there (ε², Kelley 1935; ranks, so
 * that one wreck does not drown the rest). Interactions are not told apart.
 */
export function importance(
  space: TuneConfig['space'],
  trials: readonly Trial[],
  place: (name: string, trial: Trial) => number,
): [string, number][] {
  const known = trials.filter((trial) => trial.losses.length > 0);
  const order = [...known].sort((a, b) => a.losses[0]! - b.losses[0]!);
  const rank = new Map(order.map((trial, at) => [trial.id, at]));
  const mean = (values: readonly number[]) => values.reduce((sum, one) => sum + one, 0) / values.length;
  const all = known.map((trial) => rank.get(trial.id)!);
  const middle = mean(all);
  const total = all.reduce((sum, one) => sum + (one - middle) ** 2, 0);
  return Object.keys(space).map((name): [string, number] => {
    const bins = new Map<number, number[]>();
    for (const trial of known) {
      const dimension = space[name]!;
      const count = 'choice' in dimension ? dimension.choice.length : 4;
      const bin = Math.min(count - 1, Math.floor(place(name, trial) * count));
      bins.set(bin, [...(bins.get(bin) ?? []), rank.get(trial.id)!]);
    }
    const between = [...bins.values()].reduce((sum, bin) => sum + bin.length * (mean(bin) - middle) ** 2, 0);
    const within = known.length - bins.size;
    // With few trials η² = between ÷ total is large for anything: 3 of 7 for eight trials in four bins.
    const share = 1 - ((1 - between / total) * (known.length - 1)) / within;
    return [name, total > 0 && within > 0 ? Math.max(0, share) : 0];
  });
}

/** Reads the record of a search; none is a search without trials. */
export async function readTuning(zone: Zone, key: string): Promise<Tuning> {
  return (await readRecord(zone, key)).tuning;
}

async function readRecord(zone: Zone, key: string): Promise<{ tuning: Tuning; etag: string | null }> {
  const found = await zone.readRecord(key);
  if (!found) return { tuning: noTuning, etag: null };
  const parsed = tuningSchema.safeParse(found.value);
  if (parsed.success) return { tuning: parsed.data, etag: found.etag };
  throw new UserError('artifact-corrupt', `${key} is not the state of a search`, 'delete it to search anew');
}

/**
 * Changes the record by compare-and-swap until nobody came between; returns what is stored then and what `change` said.
 * `change` may be called several times and must be pure; null leaves everything as it is.
 */
export async function swapTuning<T>(
  zone: Zone,
  key: string,
  change: (tuning: Tuning) => { tuning: Tuning | null; said: T },
): Promise<{ tuning: Tuning; said: T }> {
  for (;;) {
    const { tuning, etag } = await readRecord(zone, key);
    const next = change(tuning);
    if (next.tuning === null) return { tuning, said: next.said };
    const options = etag === null ? { ifAbsent: true as const } : { ifMatch: etag };
    if ((await zone.writeRecord(key, next.tuning, options)) === 'stored') {
      return { tuning: next.tuning, said: next.said };
    }
  }
}
