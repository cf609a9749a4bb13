import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TuneConfig, tuneSchema } from '../../src/core/project-tune.ts';
import type { TrainingMessage, TrainingRequest } from '../../src/steps/training.ts';
import { type Bench, trainTrial } from '../../src/steps/trial.ts';
import { createZone, openStore, type Zone } from '../../src/store/index.ts';
import {
  begin,
  planWork,
  readTuning,
  swapTuning,
  type Trial,
  update,
  type Work,
} from '../../src/train/tuning.ts';
import type { Metrics } from '../../src/train/types.ts';

const key = 'tuning/test.json';
const space = { rate: { log: [0.001, 0.1] } };
let folder: string;
let zone: Zone;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-trial-'));
  zone = createZone('work', await openStore(`file:${folder}/store`, null));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A trainer that says what the test has it say. */
type Script = (request: TrainingRequest) => AsyncIterable<TrainingMessage>;

const epoch = (number: number, metrics: Metrics, checkpoint: string | null = null): TrainingMessage => ({
  kind: 'event',
  event: { kind: 'epoch', epoch: number, step: number, metrics, checkpoint, samplesPerSecond: 1 },
});
const aborted = async (signal: AbortSignal) => {
  if (!signal.aborted) await once(signal, 'abort');
};

async function checkpointAt(request: TrainingRequest, stand: string): Promise<string> {
  const path = join(request.folder, `checkpoint-${stand}`);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'stand'), stand);
  return path;
}

function benchOf(
  script: Script,
  tune: TuneConfig,
  owner: string,
  signal = new AbortController().signal,
): Bench {
  return {
    ctx: { signal } as Bench['ctx'],
    zone,
    key,
    owner,
    tune,
    training: { run: script },
    hyperparameters: { epochs: 5, width: 3 },
    folder,
    model: 'tests',
    gpus: 1,
    beat: 1,
  };
}

/** A free worker takes up what is next. */
async function take(
  tune: TuneConfig,
  owner: string,
): Promise<{ trial: Trial; work: Work & { kind: 'train' } }> {
  const { tuning, said } = await swapTuning<Work>(zone, key, (found) => {
    const work = planWork(found, tune, Date.now(), 1, (trial) => trial.owner === null);
    return { tuning: work.kind === 'train' ? begin(found, work, owner, Date.now()) : null, said: work };
  });
  if (said.kind !== 'train') throw new Error(`nothing to do: ${JSON.stringify(said)}`);
  return { trial: tuning.trials[said.trial]!, work: said };
}

async function train(script: Script, tune: TuneConfig, owner = 'first', signal?: AbortSignal) {
  const { trial, work } = await take(tune, owner);
  return trainTrial(benchOf(script, tune, owner, signal), trial, work, Date.now());
}

const tuneOf = (more: object = {}): TuneConfig =>
  tuneSchema.parse({ space, max_epochs: 9, trials: 3, ...more });

describe('the training of a trial', () => {
  it('is given the trial’s values and its rung, and leaves nothing on the disk', async () => {
    const asked: TrainingRequest[] = [];
    const trained = await train(
      async function* (request) {
        asked.push(request);
        yield epoch(1, { validationLoss: 0.5, validationAccuracy: 0.75 }, await checkpointAt(request, 'one'));
      },
      tuneOf({ metric: 'validation_accuracy' }),
    );
    expect(asked[0]).toMatchObject({ epochs: 1, resume: null, hyperparameters: { epochs: 5, width: 3 } });
    expect(asked[0]!.hyperparameters.rate).toBeGreaterThan(0.001);
    expect(trained).toMatchObject({ kind: 'done', loss: 0.25, curve: [[0.5, 0.75]] });
    expect(await readdir(folder)).toEqual(['store']);
  });

  it('that a worker left in the middle goes on from the checkpoint which that worker had kept', async () => {
    const died = new AbortController();
    const released = train(
      async function* (request) {
        yield epoch(1, { validationLoss: 0.5 }, await checkpointAt(request, 'one'));
        // Until the shared record tells of the checkpoint.
        while (!(await readTuning(zone, key)).trials[0]!.checkpoint)
          yield {
            kind: 'event',
            event: { kind: 'step', epoch: 2, step: 2, metrics: {}, samplesPerSecond: 1 },
          };
        died.abort();
        await aborted(request.signal!);
        throw new Error('the worker is dead');
      },
      tuneOf({ grace: 3 }),
      'dead',
      died.signal,
    );
    await expect(released).rejects.toThrow('the worker is dead');
    const { trials } = await readTuning(zone, key);
    expect(trials[0]).toMatchObject({ owner: 'dead', state: 'running', losses: [], curve: [[0.5, null]] });

    await swapTuning(zone, key, (found) => ({
      tuning: update(found, 0, 'dead', { owner: null }),
      said: null,
    }));
    const trained = await train(
      async function* (request) {
        expect(await readFile(join(request.resume!, 'stand'), 'utf8')).toBe('one');
        // What came after the checkpoint is told again.
        for (const at of [1, 2, 3]) yield epoch(at, { validationLoss: 0.5 / at });
      },
      tuneOf({ grace: 3 }),
    );
    expect(trained).toMatchObject({
      kind: 'done',
      curve: [
        [0.5, null],
        [0.25, null],
        [0.5 / 3, null],
      ],
    });
  });

  it('ends when another worker has it by now, whose result alone counts', async () => {
    const trained = await train(async function* (request) {
      await swapTuning(zone, key, (found) => ({
        tuning: update(found, 0, 'first', { owner: 'second' }),
        said: null,
      }));
      await aborted(request.signal!);
      yield epoch(1, { validationLoss: 0.1 });
    }, tuneOf());
    expect(trained).toEqual({ kind: 'lost' });
    expect((await readTuning(zone, key)).trials[0]).toMatchObject({ owner: 'second', curve: [] });
  });

  it.each([
    ['time', { seconds: 0.05 }],
    ['GPU-seconds', { gpu_seconds: 0.05 }],
  ])(
    'ends when the search has spent its budget of %s, and keeps its last checkpoint',
    async (_what, budget) => {
      const trained = await train(async function* (request) {
        await aborted(request.signal!);
        const checkpoint = await checkpointAt(request, 'half');
        yield { kind: 'event', event: { kind: 'stopped', epoch: 1, step: 7, checkpoint } };
      }, tuneOf(budget));
      if (trained.kind !== 'released') throw new Error(trained.kind);
      expect(await zone.hasArtifact(trained.checkpoint!)).toBe(true);
      const { tuning } = await swapTuning(zone, key, (found) => ({
        tuning: update(found, 0, 'first', { owner: null, seconds: 0.06 }),
        said: null,
      }));
      expect(planWork(tuning, tuneOf(budget), Date.now(), 1, () => true)).toMatchObject({ kind: 'end' });
    },
  );

  it.each<[string, Metrics, RegExp]>([
    ['told nothing of what is searched for', { loss: 1 }, /told no validation_loss/],
    ['told no number', { validationLoss: Number.NaN }, /validation_loss is NaN/],
  ])('that %s is a failure of this configuration alone', async (_what, metrics, why) => {
    const trained = await train(async function* () {
      yield epoch(1, metrics);
    }, tuneOf());
    expect(trained).toMatchObject({ kind: 'failed', why: expect.stringMatching(why) });
  });
});

it('workers that come to the end of a rung at the same moment all find their results kept', async () => {
  const tune = tuneOf({ trials: 12 });
  const owners = Array.from({ length: 12 }, (_, at) => `worker-${at}`);
  const taken = await Promise.all(owners.map((owner) => take(tune, owner)));
  expect(new Set(taken.map(({ trial }) => trial.id)).size).toBe(12);
  await Promise.all(
    taken.map(({ trial }) =>
      swapTuning(zone, key, (found) => ({
        tuning: update(found, trial.id, trial.owner!, { state: 'waiting', owner: null, losses: [trial.id] }),
        said: null,
      })),
    ),
  );
  expect((await readTuning(zone, key)).trials.map((trial) => trial.losses)).toEqual(
    owners.map((_, id) => [id]),
  );
  // Twelve stand at the first rung, a third of them may go on; each of four workers gets another one.
  const next = await Promise.all(['a', 'b', 'c', 'd'].map((owner) => take(tune, owner)));
  expect(next.map(({ trial }) => trial.id).sort()).toEqual([0, 1, 2, 3]);
  expect(next.every(({ work }) => work.rung === 1)).toBe(true);
});
