import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Candidate, candidateDigest } from '../../src/core/candidate.ts';
import { candidateKey } from '../../src/core/claim.ts';
import { listVersions } from '../../src/model/registry.ts';
import { evaluate } from '../../src/steps/evaluate.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { readEvaluation } from '../../src/steps/trusted.ts';
import { openScratch, type Scratch, tinyConfig } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };
const pinned = (version: string, key = 'halves-1') =>
  tinyConfig()
    .replace('    shape: [4, 4]\n', `    shape: [4, 4]\n    test_version: ${version}\n`)
    .replace('key: halves-1', `key: ${key}`);

describe('the withheld set that the default branch pins', () => {
  let scratch: Scratch;
  let candidate: Candidate;
  let first: string;
  let training: string;
  beforeAll(async () => {
    scratch = await openScratch();
    const ctx = await scratch.context();
    training = (await runStep(ingest, ctx, all)).outputs.dataset!;
    for (const step of [train, packageStep, register] as const)
      await runStep(step as never, ctx, all as never);
    const [version] = await listVersions(await ctx.zone('work'), 'tiny', 'sides');
    candidate = version!.candidate;
    const trusted = await ctx.zone('trusted');
    await trusted.writeRecord(candidateKey(candidateDigest(candidate)), candidate);
    first = (await runStep(ingest, ctx, { ...all, side: 'test' })).outputs.dataset!;
  });
  afterAll(() => scratch.remove());

  const judge = async () => {
    const ctx = await scratch.context();
    const given = {
      model: '',
      environment: 'production',
      candidate: candidateDigest(candidate),
      question: '',
    };
    const { outputs } = await runStep(evaluate, ctx, given);
    return readEvaluation(await ctx.zone('trusted'), outputs.evaluation as never);
  };

  it('measures, whatever the pipeline has collected meanwhile', async () => {
    await scratch.write({ 'cdl.yaml': pinned(first, 'halves-2') });
    const other = (await runStep(ingest, await scratch.context(), { ...all, side: 'test' })).outputs.dataset!;
    expect(other).not.toBe(first);
    expect((await judge()).testset).toBe(first);
    // A new one comes by a change of the pin, and is another question.
    await scratch.write({ 'cdl.yaml': pinned(other, 'halves-2') });
    expect((await judge()).testset).toBe(other);
    await scratch.write({ 'cdl.yaml': pinned(first, 'halves-2') });
    expect((await judge()).testset).toBe(first);
  });

  it('must be there, be a withheld set and have the declared classes', async () => {
    await scratch.write({ 'cdl.yaml': pinned(`sha256:${'0'.repeat(64)}`) });
    await expect(judge()).rejects.toMatchObject({ code: 'artifact-missing' });
    const ctx = await scratch.context();
    await (await ctx.zone('trusted')).copyArtifact(await ctx.zone('work'), training as never);
    await scratch.write({ 'cdl.yaml': pinned(training) });
    await expect(judge()).rejects.toMatchObject({ message: expect.stringContaining('not a test set') });
    await scratch.write({ 'cdl.yaml': pinned(first).replace('[left, right]', '[right, left]') });
    await expect(judge()).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('has the classes left, right'),
    });
  });

  it('is judged in slices too, each with its own gates, paired with what is live', async () => {
    const slices = '    evaluate: { slices: { classes: { bright_left: [left] } } }\n';
    const gates = "gates: [{ metric: 'accuracy[bright_left]', min: 2 }, { metric: accuracy, min: 0 }]";
    await scratch.write({
      'cdl.yaml': `${pinned(first).replace(/gates: .*/, gates)}${slices}`,
    });
    const { gates: said, scores, verdict } = await judge();
    expect([verdict, said.map(({ status }) => status)]).toEqual(['fail', ['fail', 'pass', 'pass']]);
    const left = scores.perClass.find(({ name }) => name === 'left')!;
    expect(scores.metrics['accuracy[bright_left]']!.value, 'of one class that is its recall').toBeCloseTo(
      left.recall,
      12,
    );
    const widget = await readFile(join(scratch.root, '.cdl', 'metrics.txt'), 'utf8');
    expect(widget).toMatch(/^cdl_accuracy\{.*slice="bright_left"\} /m);
  });

  it('must meet the rules of its data, or its numbers say nothing', async () => {
    await scratch.write({ 'cdl.yaml': pinned(first).replace('min_items: 50', 'min_items: 5000') });
    const { gates, verdict } = await judge();
    expect(verdict).toBe('fail');
    expect(gates.at(-1)).toMatchObject({
      name: 'the withheld set meets the rules of its data',
      status: 'fail',
      explanation: expect.stringMatching(/1 of 3 rules broken: at least \d+ items, but \d+ items/),
    });
  });

  it('is a digest, and nothing else', async () => {
    await scratch.write({ 'cdl.yaml': pinned('latest') });
    await expect(scratch.context()).rejects.toMatchObject({ code: 'config-invalid' });
  });
});
