import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dimensionSchema, type TuneConfig, tuneSchema } from '../../src/core/project-tune.ts';
import { decide, rungs, type TrialState } from '../../src/train/asha.ts';
import { seededRandom } from '../../src/train/random.ts';
import { gridPoint, gridSize, placeOf, randomPoint, valueAt } from '../../src/train/space.ts';
import { tpePoint } from '../../src/train/tpe.ts';
import {
  begin,
  bestTrial,
  importance,
  mostTrials,
  noTuning,
  planWork,
  type Trial,
  type Tuning,
  update,
} from '../../src/train/tuning.ts';

const settings = { maxEpochs: 27, grace: 1, reduction: 3 };

/**
 * Algorithm 2 of the paper (Li et al. 2018), written down as it stands there: sets of what was promoted, no state but them.
 * `done[k]` holds the trials that completed rung k with their losses; returns the promoted trial and its rung, or null.
 */
function paper(
  done: Map<number, number>[],
  promoted: Set<number>[],
  eta: number,
): { trial: number; rung: number } | null {
  for (let k = done.length - 2; k >= 0; k--) {
    const size = Math.floor(done[k]!.size / eta);
    const top = [...done[k]!].sort((a, b) => a[1] - b[1] || a[0] - b[0]).slice(0, size);
    const candidates = top.map(([trial]) => trial).filter((trial) => !promoted[k]!.has(trial));
    if (candidates.length > 0) return { trial: candidates[0]!, rung: k + 1 };
  }
  return null;
}

describe('successive halving', () => {
  test('has rungs at grace·ηᵏ and at the end', () => {
    expect(rungs(settings)).toEqual([1, 3, 9, 27]);
    expect(rungs({ maxEpochs: 20, grace: 2, reduction: 3 })).toEqual([2, 6, 18, 20]);
    expect(rungs({ maxEpochs: 5, grace: 5, reduction: 2 })).toEqual([5]);
  });

  test('decides as the algorithm of the paper does, on any trace of any number of workers', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: 7 }), fc.integer({ min: 0, max: 20 })), { maxLength: 160 }),
        fc.integer({ min: 2, max: 4 }),
        (events, reduction) => {
          const levels = rungs({ ...settings, reduction });
          const done = levels.map(() => new Map<number, number>());
          const promoted = levels.map(() => new Set<number>());
          const trials: { id: number; losses: number[]; state: TrialState['state'] }[] = [];
          const running: { trial: number; rung: number }[] = [];
          for (const [worker, loss] of events) {
            // As many workers as the event names are busy; then one ends, whichever it says.
            while (running.length <= worker) {
              const expected = paper(done, promoted, reduction);
              const decision = decide(trials, { ...settings, reduction });
              expect(decision).toEqual(expected ? { kind: 'promote', ...expected } : { kind: 'new' });
              if (expected) {
                promoted[expected.rung - 1]!.add(expected.trial);
                trials[expected.trial]!.state = 'running';
                running.push(expected);
              } else {
                running.push({ trial: trials.length, rung: 0 });
                trials.push({ id: trials.length, losses: [], state: 'running' });
              }
            }
            const [ended] = running.splice(worker % running.length, 1);
            done[ended!.rung]!.set(ended!.trial, loss);
            trials[ended!.trial]!.losses.push(loss);
            trials[ended!.trial]!.state = 'waiting';
          }
        },
      ),
    );
  });
});

const space = {
  rate: dimensionSchema.parse({ log: [0.0001, 0.1] }),
  share: dimensionSchema.parse({ uniform: [0, 0.5] }),
  units: dimensionSchema.parse({ int: [8, 256], log: true }),
  batch: dimensionSchema.parse({ int: [1, 9] }),
  optimizer: dimensionSchema.parse({ choice: ['adam', 'sgd', 'momentum'] }),
};

describe('a search space', () => {
  test('holds every value it gives, and finds it where it was', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom(...Object.values(space)),
        (place, dimension) => {
          const value = valueAt(dimension, place);
          expect(valueAt(dimension, placeOf(dimension, value))).toEqual(value);
          if ('int' in dimension) {
            expect(Number.isInteger(value)).toBe(true);
            expect(value).toBeGreaterThanOrEqual(dimension.int[0]);
            expect(value).toBeLessThanOrEqual(dimension.int[1]);
          }
        },
      ),
    );
  });

  test('draws whole numbers evenly, ends included', () => {
    const random = seededRandom('even', 1);
    const counts = new Map<unknown, number>();
    for (let i = 0; i < 9000; i++) {
      const { batch } = randomPoint(space, random);
      counts.set(batch, (counts.get(batch) ?? 0) + 1);
    }
    expect(counts.size).toBe(9);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  test('has a grid whose points are all different and all reached', () => {
    const small = { a: space.rate, b: dimensionSchema.parse({ int: [1, 2] }), c: space.optimizer };
    expect(gridSize(small, 4)).toBe(4 * 2 * 3);
    const points = Array.from({ length: 24 }, (_, at) => JSON.stringify(gridPoint(small, 4, 1, at)));
    expect(new Set(points).size).toBe(24);
    expect(points).not.toEqual(
      Array.from({ length: 24 }, (_, at) => JSON.stringify(gridPoint(small, 4, 2, at))),
    );
  });

  test.each([
    [{}, /at least one/],
    [{ rate: { log: [0, 1] } }, /above 0/],
    [{ rate: { uniform: [2, 1] } }, /lower to a higher/],
    [{ units: { int: [1, 2.5] } }, /whole numbers/],
    [{ optimizer: { choice: [] } }, /./],
    [{ Rate: { uniform: [0, 1] } }, /not a name/],
  ])('refuses %j', (bad, why) => {
    const parsed = tuneSchema.safeParse({ space: bad });
    expect(parsed.success).toBe(false);
    expect(JSON.stringify(parsed.error?.issues)).toMatch(why);
  });
});

test('the Parzen estimator comes closer to a known optimum than drawing at random, over most of twenty seeds', () => {
  const loss = (point: Record<string, unknown>) =>
    (placeOf(space.rate, Number(point.rate)) - 0.7) ** 2 +
    (placeOf(space.share, Number(point.share)) - 0.2) ** 2 +
    (point.optimizer === 'momentum' ? 0 : 0.1);
  let wins = 0;
  for (let seed = 0; seed < 20; seed++) {
    const seen: { point: Record<string, number | string | boolean>; loss: number; epochs: number }[] = [];
    for (let at = 0; at < 60; at++) {
      const point = tpePoint(space, seen, seededRandom('tpe', seed, at));
      seen.push({ point, loss: loss(point), epochs: 1 });
    }
    const drawn = Array.from({ length: 60 }, (_, at) =>
      loss(randomPoint(space, seededRandom('random', seed, at))),
    );
    if (Math.min(...seen.map((one) => one.loss)) < Math.min(...drawn)) wins++;
  }
  expect(wins).toBeGreaterThanOrEqual(14);
});

const config = (more: object = {}): TuneConfig =>
  tuneSchema.parse({ space: { rate: { log: [0.0001, 0.1] } }, max_epochs: 9, trials: 20, ...more });

/** Workers on one search, in an order `next` decides, some of which die; every point has its own loss. */
function simulate(
  tune: TuneConfig,
  workers: number,
  next: () => number,
): { tuning: Tuning; trained: number; died: number } {
  let tuning = noTuning;
  let [trained, died, clock] = [0, 0, 1];
  const dead = new Set<string>();
  const busy = new Map<number, { owner: string; trial: number; epochs: number }>();
  let lives = 0;
  for (let turn = 0; turn < 5000; turn++) {
    clock += 1000;
    const worker = Math.floor(next() * workers);
    const has = busy.get(worker);
    if (has) {
      busy.delete(worker);
      if (next() < 0.15) {
        dead.add(has.owner);
        died++;
        continue;
      }
      const trial = tuning.trials[has.trial]!;
      const loss = Math.abs(Math.log10(Number(trial.point.rate)) + 2) + 1 / has.epochs;
      trained += has.epochs - trial.curve.length;
      const curve = Array.from({ length: has.epochs }, (): [number, number] => [loss, 0.5]);
      tuning = update(tuning, has.trial, has.owner, {
        state: 'waiting',
        owner: null,
        losses: [...trial.losses, loss],
        curve,
        seconds: trial.seconds + has.epochs,
      });
      continue;
    }
    const work = planWork(tuning, tune, clock, 1, (trial) => dead.has(trial.owner ?? ''));
    if (work.kind === 'end' && busy.size === 0) return { tuning, trained, died };
    if (work.kind !== 'train') continue;
    const owner = `worker-${worker}-${lives++}`;
    tuning = begin(tuning, work, owner, clock);
    busy.set(worker, { owner, trial: work.trial, epochs: work.epochs });
  }
  throw new Error('the search did not end');
}

describe('a search by several workers', () => {
  test('loses no trial when workers die, tries each configuration once and ends with all of them judged', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 1e6 }), (workers, seed) => {
        const { tuning } = simulate(config(), workers, seededRandom('workers', seed));
        expect(tuning.trials.map((trial) => trial.id)).toEqual(Array.from({ length: 20 }, (_, id) => id));
        expect(new Set(tuning.trials.map((trial) => trial.point.rate)).size).toBe(20);
        expect(tuning.trials.every((trial) => trial.state === 'waiting' && trial.losses.length > 0)).toBe(
          true,
        );
        const best = bestTrial(tuning.trials)!;
        expect(best.losses).toHaveLength(3);
      }),
      { numRuns: 60 },
    );
  });

  test('trains much less than every trial to its end', () => {
    const halving = simulate(config({ trials: 60, max_epochs: 27 }), 4, seededRandom('cost', 1));
    const all = simulate(
      config({ trials: 60, max_epochs: 27, scheduler: 'none' }),
      4,
      seededRandom('cost', 1),
    );
    expect(halving.trained * 3).toBeLessThan(all.trained);
    expect(bestTrial(halving.tuning.trials)!.point).toEqual(bestTrial(all.tuning.trials)!.point);
  });

  test('ends within its budget of time and of GPU-seconds', () => {
    const short = simulate(config({ seconds: 20 }), 2, seededRandom('late', 1));
    expect(short.tuning.trials.length).toBeLessThan(20);
    const dear = simulate(config({ gpu_seconds: 10 }), 1, seededRandom('dear', 1));
    const spent = dear.tuning.trials.reduce((sum, trial) => sum + trial.seconds, 0);
    expect(spent).toBeGreaterThanOrEqual(10);
    expect(spent).toBeLessThanOrEqual(10 + 9);
  });

  test('takes for the best what came far and did not fail on the way on', () => {
    const at = (id: number, state: Trial['state'], losses: number[]): Trial => ({
      ...{ id, state, losses, point: { rate: id }, curve: [], owner: null },
      ...{ since: 0, checkpoint: null, seconds: 1, why: state === 'failed' ? 'it diverged' : null },
    });
    const trials = [at(0, 'failed', [0.5, 0.1]), at(1, 'waiting', [0.6, 0.3]), at(2, 'waiting', [0.2])];
    expect(bestTrial(trials)?.id).toBe(1);
    expect(bestTrial(trials.slice(0, 1))).toBeNull();
  });

  test('takes a grid for all there is', () => {
    expect(mostTrials(config({ sampler: 'grid', grid: 5 }))).toBe(5);
    const { tuning } = simulate(config({ sampler: 'grid', grid: 5 }), 3, seededRandom('grid', 2));
    expect(tuning.trials.map((trial) => trial.point.rate).sort()).toEqual(
      [0.0001, 0.000562341, 0.00316228, 0.0177828, 0.1].sort(),
    );
  });

  test('takes chance for nothing, however few trials there are', () => {
    const both = { rate: space.rate, share: space.share };
    const seen = Array.from({ length: 200 }, (_, seed) => {
      const random = seededRandom('chance', seed);
      const trials = Array.from(
        { length: 8 },
        (_, id): Trial => ({
          ...{ id, point: randomPoint(both, random), state: 'waiting', losses: [random()], curve: [] },
          ...{ owner: null, since: 0, checkpoint: null, seconds: 1, why: null },
        }),
      );
      return importance(both, trials, (name, trial) =>
        placeOf(both[name as 'rate'], trial.point[name]!),
      )[0]![1];
    });
    // Of a value that cannot be below nothing the middle one; uncorrected it is 0.4.
    expect(seen.sort((a, b) => a - b)[100]).toBeLessThan(0.15);
  });

  test('tells what mattered from what did not', () => {
    const random = seededRandom('importance', 1);
    const both = { rate: space.rate, share: space.share };
    const trials = Array.from({ length: 80 }, (_, id): Trial => {
      const point = randomPoint(both, random);
      return {
        id,
        point,
        state: 'waiting',
        losses: [(placeOf(space.rate, point.rate!) - 0.5) ** 2 + random() * 0.01],
        curve: [],
        owner: null,
        since: 0,
        checkpoint: null,
        seconds: 1,
        why: null,
      };
    });
    const [[first, high], [, low]] = importance(both, trials, (name, trial) =>
      placeOf(both[name as 'rate'], trial.point[name]!),
    ) as [[string, number], [string, number]];
    expect(first).toBe('rate');
    expect(high).toBeGreaterThan(0.5);
    expect(low).toBeLessThan(0.15);
  });
});
