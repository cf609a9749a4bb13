import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type Candidate, candidateDigest } from '../../src/core/candidate.ts';
import { candidateKey } from '../../src/core/claim.ts';
import type { Digest } from '../../src/core/digest.ts';
import { openDataset } from '../../src/data/dataset.ts';
import { readCi } from '../../src/forge/ci.ts';
import { tryOnnx } from '../../src/model/onnx.ts';
import { predictIsolated } from '../../src/model/predict.ts';
import { listVersions } from '../../src/model/registry.ts';
import { readSteps } from '../../src/model/run-steps.ts';
import { listRuns } from '../../src/model/runs.ts';
import { filesFromSource, packageProblems } from '../../src/model/source-files.ts';
import { openServable } from '../../src/serve/tfjs.ts';
import { evaluate } from '../../src/steps/evaluate.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { onnxFiles } from './onnx-project.ts';
import { openScratch, type Scratch } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };
let scratch: Scratch;
afterEach(() => scratch.remove());

describe('a model that a command trains and exports as ONNX', () => {
  it('is trained, packed, registered, evaluated and served like any other, with the same numbers', async () => {
    scratch = await openScratch(onnxFiles());
    const ctx = await scratch.context({ PATH: `${join(process.execPath, '..')}:${process.env.PATH}` });
    for (const step of [ingest, train, packageStep, register] as const)
      await runStep(step as never, ctx, all as never);
    const work = await ctx.zone('work');
    const [version] = await listVersions(work, 'tiny', 'sides');
    const candidate: Candidate = version!.candidate;
    const run = await work.getArtifact(version!.run);
    expect(run.meta).toMatchObject({
      epochs: [{ epoch: 1, step: 1, metrics: { loss: 0.5, validationLoss: 0.6 } }],
      environment: { backend: 'node', framework: 'none' },
    });
    expect(await readSteps(work, version!.run)).toEqual([{ epoch: 1, step: 1, metrics: { loss: 0.7 } }]);
    expect((await runStep(train, ctx, all)).cached).toBe(true);
    const packaged = await work.getArtifact(candidate.package);
    expect(packaged.files.map((file) => file.path)).toEqual(['model.onnx', 'signature.json']);
    const data = { item: 'tensor' as const, shape: [4, 4], classes: ['left', 'right'] };
    const made = await filesFromSource({
      model: 'sides',
      files: [],
      entry: 'model.ts',
      runtime: 'onnx',
      ...data,
    });
    const { files } = await work.getArtifact(candidate.checkpoint);
    expect(packageProblems(packaged.files, files, made, undefined, 'onnx')).toEqual([]);

    await runStep(ingest, ctx, { ...all, side: 'test' });
    const trusted = await ctx.zone('trusted');
    const digest = candidateDigest(candidate);
    await trusted.writeRecord(candidateKey(digest), candidate);
    const judged = await runStep(evaluate, ctx, {
      model: '',
      environment: 'production',
      candidate: digest,
      question: '',
    });
    expect(judged.outputs.verdict).toBe('pass');

    const folder = join(scratch.root, '.cdl', 'package');
    await work.saveArtifact(candidate.package, folder);
    await work.saveArtifact(candidate.dataset, join(scratch.root, '.cdl', 'data'));
    const set = await openDataset(join(scratch.root, '.cdl', 'data'));
    const isolated = await predictIsolated({
      packageFolder: folder,
      items: join(scratch.root, '.cdl', 'data', 'images.idx'),
      count: set.count,
      classes: 2,
      out: null,
    });
    expect(isolated.backend).toBe('onnxruntime');
    const servable = await openServable(folder, { package: candidate.package, version: '1' });
    const input = {
      name: 'input',
      datatype: 'UINT8' as const,
      shape: [set.count, 4, 4],
      data: set.x as Uint8Array,
    };
    const [probabilities] = await servable.infer([input]);
    servable.dispose();
    expect([...(probabilities!.data as Float32Array)]).toEqual([...isolated.probabilities]);
  });

  it('goes on from its checkpoint when the program fails, or when the job was stopped', async () => {
    scratch = await openScratch(onnxFiles('{ epochs: 1, crash: true }'));
    const ctx = await scratch.context({ PATH: `${join(process.execPath, '..')}:${process.env.PATH}` });
    await runStep(ingest, ctx, all);
    const { outputs } = await runStep(train, ctx, all);
    expect(scratch.lines.join('\n')).toMatch(/exit code 9; it goes on from its last checkpoint/);
    expect((await (await ctx.zone('work')).getArtifact(outputs.checkpoint as Digest)).files).toHaveLength(1);
  });

  it('is kept as a run also when it fails: its curve, the files it saw, the GPUs of the machine, who asked for it', async () => {
    const files = onnxFiles('{ epochs: 1, crash: true }');
    const config = String(files['cdl.yaml']).replace('restarts: 1', 'restarts: 0');
    const query = "printf 'NVIDIA H100 80GB HBM3, 550.54.15\\nNVIDIA H100 80GB HBM3, 550.54.15\\n'";
    scratch = await openScratch({
      ...files,
      'cdl.yaml': config.replace('    gates:', '    resources: { train: { gpu: 2 } }\n    gates:'),
      'bin/nvidia-smi': `#!/bin/sh\n${query}\n`,
    });
    await chmod(join(scratch.root, 'bin/nvidia-smi'), 0o755);
    const path = [join(scratch.root, 'bin'), join(process.execPath, '..'), process.env.PATH].join(':');
    const ci = readCi({
      CI_PROJECT_PATH: 'acme/tiny',
      CI_JOB_ID: '7',
      CI_PIPELINE_ID: '31',
      GITLAB_USER_LOGIN: 'dana',
    });
    const ctx = { ...(await scratch.context({ PATH: path })), ci };
    await runStep(ingest, ctx, all);
    await expect(runStep(train, ctx, all)).rejects.toMatchObject({ code: 'training-failed' });
    const work = await ctx.zone('work');
    const [run] = await listRuns(work, 'tiny');
    expect(run!.facts).toMatchObject({
      status: 'failed',
      reason: expect.stringMatching(/exit code 9/),
      epochs: [{ epoch: 1, step: 1, metrics: { loss: 0.5, validationLoss: 0.6 } }],
      environment: { backend: 'node', gpu: '2 × NVIDIA H100 80GB HBM3', driver: '550.54.15' },
      gpus: 2,
      who: 'dana',
      pipeline: '31',
    });
    expect(run!.checkpoint).toBeNull();
    const source = await work.getArtifact(run!.source!);
    expect(source.files.map((file) => file.path).sort()).toEqual(['cdl.yaml', 'train.mjs']);
  });

  it('that was stopped or failed tells in the run of the job that goes on all it told, and its time once', async () => {
    const trainer = `import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
const { hyperparameters, output, resume } = JSON.parse(readFileSync(process.env.CDL_JOB, 'utf8'));
const from = resume ? Number(readFileSync(resume + '/epoch', 'utf8')) : 0;
const tell = (event) => appendFileSync(process.env.CDL_EVENTS, JSON.stringify(event) + '\\n');
mkdirSync(output + '/at');
for (let epoch = from + 1; epoch <= from + 1 || epoch <= hyperparameters.epochs && from > 1; epoch++) {
  tell({ kind: 'step', epoch, step: epoch * 5, metrics: { loss: epoch } });
  writeFileSync(output + '/at/epoch', String(epoch));
  tell({ kind: 'epoch', epoch, step: epoch * 10, metrics: { loss: epoch }, checkpoint: 'at' });
}
if (from === 0) setInterval(() => {}, 1000);
else if (from === 1) process.exit(9);
else tell({ kind: 'done', model: 'at' });
`;
    const files = onnxFiles('{ epochs: 4 }');
    const config = String(files['cdl.yaml']).replace('restarts: 1', 'restarts: 0');
    scratch = await openScratch({ ...files, 'cdl.yaml': config, 'train.mjs': trainer });
    const ctx = await scratch.context({ PATH: `${join(process.execPath, '..')}:${process.env.PATH}` });
    await runStep(ingest, ctx, all);
    const stop = new AbortController();
    const began = Date.now();
    const log = (line: string) => line.startsWith('epoch 1') && stop.abort();
    const first = runStep(train, { ...ctx, log, signal: stop.signal }, all);
    await expect(first).rejects.toMatchObject({ code: 'interrupted' });
    const between = Date.now();
    await expect(runStep(train, ctx, all)).rejects.toMatchObject({ code: 'training-failed' });
    const { report } = await runStep(train, ctx, all);
    // No curve is drawn of what the program never told.
    const drawn = report.blocks.flatMap((block) =>
      block.kind === 'chart' && block.chart.kind === 'lines'
        ? block.chart.series.map(({ name }) => name)
        : [],
    );
    expect(drawn).toEqual(['training']);
    const work = await ctx.zone('work');
    const runs = await listRuns(work, 'tiny');
    const [failed, done] = ['failed', 'done'].map(
      (status) => runs.find(({ facts }) => facts.status === status)!,
    );
    expect(failed!.facts.epochs.map(({ epoch }) => epoch)).toEqual([1, 2]);
    expect(done!.facts.epochs.map(({ epoch, step }) => [epoch, step])).toEqual([
      [1, 10],
      [2, 20],
      [3, 30],
      [4, 40],
    ]);
    expect((await readSteps(work, done!.digest)).map(({ step }) => step)).toEqual([5, 10, 15, 20]);
    const endOf = ({ facts }: typeof failed & object) => Date.parse(facts.started_at) + facts.seconds * 1000;
    // The failed run has the time of the stopped job as well, the last has its own alone.
    expect(Date.parse(failed!.facts.started_at)).toBeGreaterThanOrEqual(began);
    expect(Date.parse(failed!.facts.started_at)).toBeLessThanOrEqual(between);
    expect(Date.parse(done!.facts.started_at)).toBeGreaterThanOrEqual(endOf(failed!) - 1);
  });

  it('cannot load native code of its own beside it, nor a model that is none', async () => {
    scratch = await openScratch(onnxFiles());
    const ctx = await scratch.context({ PATH: `${join(process.execPath, '..')}:${process.env.PATH}` });
    await runStep(ingest, ctx, all);
    await runStep(train, ctx, all);
    const { outputs } = await runStep(packageStep, ctx, all);
    const folder = join(scratch.root, '.cdl', 'package');
    const work = await ctx.zone('work');
    await work.saveArtifact(outputs.package as Digest, folder);
    const { dataset } = (await ctx.handover.read('ingest', 'halves')) as { dataset: string };
    await work.saveArtifact(dataset as Digest, join(scratch.root, '.cdl', 'data'));
    const predict = () =>
      predictIsolated({
        packageFolder: folder,
        items: join(scratch.root, '.cdl', 'data', 'images.idx'),
        count: 1,
        classes: 2,
        out: null,
      });
    await writeFile(
      join(folder, 'code.mjs'),
      `import { createRequire } from 'node:module';
      const path = createRequire('${join(process.cwd(), 'package.json')}').resolve('onnxruntime-node');
      createRequire(path)(path.replace(/dist.*/, 'bin/napi-v6/' + process.platform + '/' + process.arch + '/onnxruntime_binding.node') + '');
      process.dlopen({ exports: {} }, '/x.node');`,
    );
    await expect(predict()).rejects.toMatchObject({
      message: expect.stringMatching(/native code is not available/),
    });
    await writeFile(join(folder, 'model.onnx'), 'not a model');
    await expect(predict()).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });

  it('is packed when it fits the items and the classes of the data set, and else says what does not', async () => {
    scratch = await openScratch(onnxFiles());
    const ctx = await scratch.context({ PATH: `${join(process.execPath, '..')}:${process.env.PATH}` });
    await runStep(ingest, ctx, all);
    await runStep(train, ctx, all);
    const { report, outputs } = await runStep(packageStep, ctx, all);
    expect(report.summary).toMatch(/Tried with items of 4 × 4 numbers: it answers for 2 classes\.$/);
    const folder = join(scratch.root, '.cdl', 'packed');
    await (await ctx.zone('work')).saveArtifact(outputs.package as Digest, folder);
    const items = { type: 'uint8' as const, shape: [4, 4], classes: 2 };
    expect(await tryOnnx(folder, items)).toBe(true);
    await expect(tryOnnx(folder, { ...items, classes: 3 })).rejects.toMatchObject({
      code: 'code-invalid',
      message: 'model.onnx answers with 2 numbers an item, and there are 3 classes',
      hint: expect.stringContaining('the items are uint8 [N, 4, 4], the answers must be [N, 3]'),
    });
    await expect(tryOnnx(folder, { ...items, shape: [5, 4] })).rejects.toMatchObject({
      code: 'code-invalid',
      hint: expect.stringContaining('[N, 5, 4]'),
    });
    await writeFile(join(folder, 'model.onnx'), 'not a model');
    await expect(tryOnnx(folder, items)).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });
});
