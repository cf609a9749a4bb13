import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { cacheKey, runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { tuneStep } from '../../src/steps/tune.ts';
import type { Trial } from '../../src/train/tuning.ts';
import { runCdl, startCdl } from '../cli/run-cdl.ts';
import { openScratch, type Scratch, tinyConfig, tinyFiles } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };

/** The tiny project with a search of the given budget. */
const searching = (tune: string): Record<string, string | Buffer> => ({
  ...tinyFiles(),
  'cdl.yaml': tinyConfig().replace('    gates:', `    tune: ${tune}\n    gates:`),
});

/**
 * A trainer that only tells: the loss is least where \`rate\` is 0.01, and falls with the epochs. The first one that finds no
 * file at \`meet\` makes it and goes on for ever; with a rate above 0.05 it fails.
 */
const teller = `import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
const job = JSON.parse(readFileSync(process.env.CDL_JOB, 'utf8'));
const tell = (event) => appendFileSync(process.env.CDL_EVENTS, JSON.stringify(event) + '\\n');
const { epochs, rate, meet } = job.hyperparameters;
if (rate > 0.05) throw new Error('it diverges');
const from = job.resume ? Number(readFileSync(job.resume + '/epoch', 'utf8')) : 0;
tell({ kind: 'log', message: 'from epoch ' + from });
for (let epoch = from + 1; epoch <= epochs; epoch++) {
  mkdirSync(job.output + '/' + epoch, { recursive: true });
  writeFileSync(job.output + '/' + epoch + '/epoch', String(epoch));
  const loss = Math.abs(Math.log10(rate) + 2) + 1 / epoch;
  tell({ kind: 'epoch', epoch, metrics: { validation_loss: loss }, checkpoint: String(epoch) });
}
try {
  if (meet) {
    writeFileSync(meet, '', { flag: 'wx' });
    tell({ kind: 'log', message: 'it takes its time' });
    setInterval(() => {}, 1e6);
  }
} catch (error) {
  // Another trial is the one that takes its time.
  if (error.code !== 'EEXIST') throw error;
}
tell({ kind: 'done', model: String(epochs) });
`;

const telling = (tune: string, hyperparameters = '{ epochs: 1 }'): Record<string, string | Buffer> => {
  const { 'model.ts': _model, 'lib/scale.ts': _scale, ...files } = searching(tune);
  const config = String(files['cdl.yaml'])
    .replace('code: [model.ts, "lib/**"]', `code: [train.mjs]\n    train: { command: [node, train.mjs] }`)
    .replace(/hyperparameters: .*/, `hyperparameters: ${hyperparameters}`);
  return { ...files, 'cdl.yaml': config, 'train.mjs': teller };
};
const node = { PATH: `${join(process.execPath, '..')}:${process.env.PATH}` };

let scratch: Scratch;
afterEach(() => scratch.remove());

async function trialsOf(digest: string): Promise<Omit<Trial, 'owner' | 'since' | 'checkpoint'>[]> {
  const zone = await (await scratch.context()).zone('work');
  const { files } = await zone.getArtifact(digest as Digest);
  return JSON.parse((await zone.readBlob(files[0]!.digest)).toString('utf8'));
}

describe('the step tune', () => {
  it('finds a configuration that train then uses, explains it, and is looked up the next time', async () => {
    scratch = await openScratch(
      searching(
        '{ space: { learning_rate: { log: [0.001, 0.1] }, hidden: { int: [2, 16] } }, max_epochs: 2, reduction: 2, trials: 3 }',
      ),
    );
    const ctx = await scratch.context();
    await runStep(ingest, ctx, all);
    const plain = cacheKey(train, await train.inputs(ctx, all));
    const tuned = await runStep(tuneStep, ctx, all);
    const trials = await trialsOf(tuned.outputs.tuning!);
    expect(trials.map((trial) => trial.id)).toEqual([0, 1, 2]);
    // What goes on goes on from where it was.
    expect(trials.some((trial) => trial.losses.length === 2)).toBe(true);
    for (const trial of trials) expect(trial.curve).toHaveLength(trial.losses.length);
    const best = JSON.parse(tuned.outputs.best!) as Record<string, number>;
    expect(trials.map((trial) => trial.point)).toContainEqual(best);
    expect(tuned.report.summary).toContain(
      `Of 3 configurations the best has validation_loss ${trials
        .find(({ point }) => point.hidden === best.hidden)!
        .losses.at(-1)!
        .toFixed(4)}: learning_rate`,
    );

    const after = await runStep(train, ctx, all);
    expect(after.key).not.toBe(plain);
    const run = await (await ctx.zone('work')).getArtifact(after.outputs.run as Digest);
    expect(run.meta.hyperparameters).toEqual({ epochs: 2, batch_size: 16, ...best });
    expect(run.meta.tuning).toBe(tuned.outputs.tuning);
    expect((await runStep(tuneStep, ctx, all)).cached).toBe(true);
    expect((await runStep(train, ctx, all)).cached).toBe(true);
  });

  it('is done by several processes, one of which is killed, without losing a trial', async () => {
    const tune = '{ space: { rate: { log: [0.001, 0.04] } }, max_epochs: 4, reduction: 2, trials: 8 }';
    scratch = await openScratch();
    await scratch.write(telling(tune, `{ epochs: 1, meet: "${join(scratch.root, '.cdl', 'met')}" }`));
    await runStep(ingest, await scratch.context(), all);
    const env = {
      ...scratch.env,
      ...node,
      CDL_WORK_STORE: `file://${join(scratch.root, '.cdl', 'store', 'work')}`,
    };
    const worker = () => startCdl(['tune'], { cwd: scratch.root, env });
    const victim = worker();
    const others = [worker()];
    await new Promise<void>((resolve) => {
      for (const { child, said } of [victim, ...others]) {
        child.stderr.on('data', () => {
          if (!said.stderr.includes('it takes its time')) return;
          child.kill('SIGKILL');
          resolve();
        });
      }
    });
    const ends = await Promise.all([victim, ...others].map((one) => one.ended));
    expect(ends.map((end) => end.code).sort()).toEqual([0, null]);
    const survivor = ends.find((end) => end.code === 0)!;
    expect(survivor.stderr).toMatch(/from epoch [12]/);
    const outputs = JSON.parse(
      await readFile(join(scratch.root, '.cdl', 'sides.tune.outputs.json'), 'utf8'),
    ) as { tuning: string };
    const trials = await trialsOf(outputs.tuning);
    expect(trials).toHaveLength(8);
    for (const { state, losses, curve } of trials) {
      expect(state).toBe('waiting');
      expect(curve).toHaveLength([1, 2, 4][losses.length - 1]!);
    }
  });

  it('goes on with the others when configurations cannot be trained, and says why when none can', async () => {
    const grid = (rates: string) =>
      telling(`{ space: { rate: { choice: [${rates}] } }, sampler: grid, max_epochs: 1, trials: 2 }`);
    scratch = await openScratch(grid('0.01, 0.1'));
    const ctx = await scratch.context(node);
    await runStep(ingest, ctx, all);
    const { outputs, report } = await runStep(tuneStep, ctx, all);
    const trials = await trialsOf(outputs.tuning!);
    const failed = trials.filter((trial) => trial.state === 'failed');
    expect(failed.map((trial) => trial.point)).toEqual([{ rate: 0.1 }]);
    expect(failed[0]!.why).toMatch(/it diverges/);
    expect(JSON.parse(outputs.best!)).toEqual({ rate: 0.01 });
    expect(JSON.stringify(report.blocks)).toContain('1 failed');

    await scratch.write(grid('0.1, 0.2'));
    await expect(runStep(tuneStep, await scratch.context(node), all)).rejects.toThrow(
      /no configuration of sides could be trained up to its first rung: .*exit code 1[\s\S]*it diverges/,
    );
  });

  it('says what to write where a model has nothing to search', async () => {
    scratch = await openScratch();
    const { code, stderr } = await runCdl(['tune'], { cwd: scratch.root, env: scratch.env });
    expect(code).toBe(3);
    expect(stderr).toContain('models.sides has no tune: in cdl.yaml');
    expect(stderr).toContain('tune: { space:');
  });
});
