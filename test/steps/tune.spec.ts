import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
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

const small =
  '{ space: { learning_rate: { log: [0.001, 0.1] }, hidden: { int: [2, 16] } }, max_epochs: 4, reduction: 2, trials: 6 }';

let scratch: Scratch;
afterEach(() => scratch.remove());

async function trialsOf(digest: string): Promise<Omit<Trial, 'owner' | 'since' | 'checkpoint'>[]> {
  const zone = await (await scratch.context()).zone('work');
  const { files } = await zone.getArtifact(digest as Digest);
  return JSON.parse((await zone.readBlob(files[0]!.digest)).toString('utf8'));
}

describe('the step tune', () => {
  it('finds a configuration that train then uses, explains it, and is looked up the next time', async () => {
    scratch = await openScratch(searching(small));
    const ctx = await scratch.context();
    await runStep(ingest, ctx, all);
    const plain = await runStep(train, ctx, all);
    const tuned = await runStep(tuneStep, ctx, all);
    const trials = await trialsOf(tuned.outputs.tuning!);
    expect(trials.map((trial) => trial.id)).toEqual([0, 1, 2, 3, 4, 5]);
    // 6 begin, 3 go on at least once, and what goes on goes on from where it was.
    const reached = trials.map((trial) => trial.losses.length);
    expect(reached.filter((rungs) => rungs > 1).length).toBeGreaterThanOrEqual(2);
    for (const trial of trials) expect(trial.curve).toHaveLength([1, 2, 4][trial.losses.length - 1]!);
    const best = JSON.parse(tuned.outputs.best!) as Record<string, number>;
    expect(trials.map((trial) => trial.point)).toContainEqual(best);
    expect(tuned.report.summary).toContain('Of 6 configurations');

    const after = await runStep(train, ctx, all);
    expect(after.key).not.toBe(plain.key);
    const run = await (await ctx.zone('work')).getArtifact(after.outputs.run as Digest);
    expect(run.meta.hyperparameters).toEqual({ epochs: 2, batch_size: 16, ...best });
    expect(run.meta.tuning).toBe(tuned.outputs.tuning);
    expect((await runStep(tuneStep, ctx, all)).cached).toBe(true);
    expect((await runStep(train, ctx, all)).cached).toBe(true);
  });

  it('is done by several processes, one of which is killed, without losing a trial', async () => {
    scratch = await openScratch(searching(small.replace('trials: 6', 'trials: 10')));
    await runStep(ingest, await scratch.context(), all);
    const env = { ...scratch.env, CDL_WORK_STORE: `file://${join(scratch.root, '.cdl', 'store', 'work')}` };
    const workers = [0, 1].map(() => startCdl(['tune'], { cwd: scratch.root, env }));
    const victim = workers[0]!;
    await new Promise<void>((resolve) => {
      const look = () => {
        if (/trial \d+ \(/.test(victim.said.stderr + victim.said.stdout)) resolve();
      };
      victim.child.stdout.on('data', look);
      victim.child.stderr.on('data', look);
      victim.child.on('exit', () => resolve());
    });
    victim.child.kill('SIGKILL');
    await victim.ended;
    const end = await workers[1]!.ended;
    expect(end.stderr).not.toMatch(/bug/);
    expect(end.code).toBe(0);
    const outputs = JSON.parse(
      await readFile(join(scratch.root, '.cdl', 'sides.tune.outputs.json'), 'utf8'),
    ) as { tuning: string };
    const trials = await trialsOf(outputs.tuning);
    expect(trials).toHaveLength(10);
    expect(trials.every((trial) => trial.state === 'waiting' && trial.losses.length > 0)).toBe(true);
  });

  it('goes on with the others when configurations cannot be trained, and says why when none can', async () => {
    scratch = await openScratch(
      searching('{ space: { hidden: { choice: [4, 0] } }, sampler: grid, max_epochs: 2, trials: 2 }'),
    );
    const ctx = await scratch.context();
    await runStep(ingest, ctx, all);
    const { outputs, report } = await runStep(tuneStep, ctx, all);
    const trials = await trialsOf(outputs.tuning!);
    const failed = trials.filter((trial) => trial.state === 'failed');
    expect(failed.map((trial) => trial.point)).toEqual([{ hidden: 0 }]);
    expect(failed[0]!.why).toMatch(/build/);
    expect(JSON.parse(outputs.best!)).toEqual({ hidden: 4 });
    expect(JSON.stringify(report.blocks)).toContain('1 failed');

    await scratch.write(
      searching('{ space: { hidden: { choice: [0, -1] } }, sampler: grid, max_epochs: 2, trials: 2 }'),
    );
    await expect(runStep(tuneStep, await scratch.context(), all)).rejects.toThrow(
      /no configuration of sides could be trained: .*build/,
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
