import { afterEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { listVersions, registerVersion } from '../../src/model/registry.ts';
import { noteRun } from '../../src/model/runs.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { reproduce } from '../../src/steps/reproduce.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { tuneStep } from '../../src/steps/tune.ts';
import { onnxFiles } from './onnx-project.ts';
import { openScratch, type Scratch, tinyConfig, tinyFiles } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };
const asked = { model: '', version: 1, run: '', environment: 'production', tolerance: 0.0001 };

let scratch: Scratch;
afterEach(() => scratch.remove());

async function registerOne(withSearch = false): Promise<Record<string, string>> {
  const ctx = await scratch.context();
  await runStep(ingest, ctx, all);
  if (withSearch) await runStep(tuneStep, ctx, all);
  const trained = await runStep(train, ctx, all);
  await runStep(packageStep, ctx, all);
  await runStep(register, ctx, all);
  return trained.outputs;
}

describe('the step reproduce', () => {
  it('trains a searched version again, bit by bit the same, also after the branch has moved on', async () => {
    const tune = '{ space: { hidden: { int: [2, 16] } }, max_epochs: 2, trials: 3 }';
    scratch = await openScratch({
      ...tinyFiles(),
      'cdl.yaml': tinyConfig().replace('    gates:', `    tune: ${tune}\n    gates:`),
    });
    const made = await registerOne(true);

    await scratch.write({ 'lib/scale.ts': 'export const scale = 127;\n' });
    await scratch.git('commit', '--quiet', '--all', '--message', 'another scale');
    const { outputs: found, report } = await runStep(reproduce, await scratch.context(), asked);
    expect(found).toMatchObject({ verdict: 'bit-identical', checkpoint: made.checkpoint, largest: '0' });
    expect(report.summary).toContain('every bit is the same');
  });

  it('says which tensors differ, and by how much, when something else comes out', async () => {
    scratch = await openScratch();
    const one = await registerOne();
    await scratch.write({ 'cdl.yaml': tinyConfig().replace('    gates:', '    seed: 5\n    gates:') });
    const other = await runStep(train, await scratch.context(), all);
    await scratch.git('checkout', '--quiet', '.');
    const zone = await (await scratch.context()).zone('work');
    const [first] = await listVersions(zone, 'tiny', 'sides');
    // A version that claims to come of this code and seed, but has other weights.
    await registerVersion(zone, {
      project: 'tiny',
      model: 'sides',
      candidate: { ...first!.candidate, checkpoint: other.outputs.checkpoint as Digest },
      run: one.run as Digest,
    });
    const { outputs, report } = await runStep(reproduce, await scratch.context(), { ...asked, version: 2 });
    expect(outputs.verdict).toBe('differs');
    expect(outputs.checkpoint).toBe(one.checkpoint);
    expect(report.verdict).toBe('fail');
    const table = report.blocks.find((block) => block.kind === 'table')!;
    expect(table.kind === 'table' && table.rows.map((row) => row[0]!)).toContain('dense_Dense1/kernel');
    const near = await runStep(reproduce, await scratch.context(), { ...asked, version: 2, tolerance: 100 });
    expect([near.outputs.verdict, near.report.verdict]).toEqual(['within tolerance', 'warn']);
  });

  it('names the tensor of a command’s model that differs most, within tolerance or not', async () => {
    const files = onnxFiles();
    const noisy = String(files['train.mjs'])
      .replace(/^tell\(\{ kind: 'done'/m, "writeFileSync(job.output + '/model/log.txt', 'trained');\n$&")
      .replace(
        'const bias =',
        'weights[3] += 1e-6 * (1 + Number(process.hrtime.bigint() % 997n));\nconst bias =',
      );
    scratch = await openScratch({ ...files, 'train.mjs': noisy });
    await registerOne();
    const near = await runStep(reproduce, await scratch.context(), { ...asked, tolerance: 0.01 });
    expect([near.outputs.verdict, near.report.verdict]).toEqual(['within tolerance', 'warn']);
    expect(near.report.summary).toMatch(/no weight differs by more than [\d.e-]+\.$/);
    const { outputs, report } = await runStep(reproduce, await scratch.context(), { ...asked, tolerance: 0 });
    expect([outputs.verdict, report.verdict]).toEqual(['differs', 'fail']);
    expect(Number(outputs.largest)).toBeGreaterThan(0);
    expect(Number(outputs.largest)).toBeLessThan(0.001);
    expect(report.summary).toMatch(/differs: 1 tensor by up to [\d.e-]+, most of all model\.onnx: w\. The/);
    const table = report.blocks.find((block) => block.kind === 'table')!;
    expect(table.kind === 'table' && table.rows).toEqual([
      ['model.onnx: w', '16 × 2', Number(outputs.largest).toPrecision(3), expect.any(String)],
    ]);
  });

  it('trains what was never committed again from the files kept with the run, also one that has no version', async () => {
    scratch = await openScratch();
    await scratch.write({ 'lib/scale.ts': 'export const scale = 127;\n' });
    const made = await registerOne();
    await scratch.git('checkout', '--quiet', '.');
    const same = { verdict: 'bit-identical', checkpoint: made.checkpoint };
    const version = await runStep(reproduce, await scratch.context(), asked);
    expect(version.outputs).toMatchObject(same);
    const run = await runStep(reproduce, await scratch.context(), { ...asked, run: made.run!.slice(7, 15) });
    expect(run.outputs).toMatchObject(same);
    expect(run.report.summary).toMatch(/^Run [0-9a-f]{8,12} was trained again/);
    expect(scratch.lines.join('\n')).toContain('from the files that were kept with it');
  });

  it('names what it tried when the code is nowhere, and takes no files of git for those of a run', async () => {
    scratch = await openScratch();
    const made = await registerOne();
    const zone = await (await scratch.context()).zone('work');
    const honest = await zone.getArtifact(made.run as Digest);
    const runOf = async (path: string) => {
      const blob = await zone.putBlob('[core]\n\tfsmonitor = touch hit\n');
      const source = { kind: 'source' as const, name: 'sides', files: [{ path, ...blob }], meta: {} };
      const parents = [await zone.putArtifact({ ...source, parents: [] })];
      for (const one of honest.parents) {
        if ((await zone.getArtifact(one)).kind !== 'source') parents.push(one);
      }
      const run = await zone.putArtifact({ ...honest, parents });
      await noteRun(zone, 'tiny', run);
      return { ...asked, run };
    };
    await scratch.write({ 'lib/scale.ts': 'export const scale = 127;\n' });
    await scratch.git('commit', '--quiet', '--all', '--amend', '--message', 'another scale');
    await scratch.git('reflog', 'expire', '--expire=now', '--all');
    await scratch.git('gc', '--quiet', '--prune=now');
    await expect(runStep(reproduce, await scratch.context(), await runOf('.GIT/config'))).rejects.toThrow(
      /is no source of a run: it holds .GIT\/config/,
    );
    await expect(runStep(reproduce, await scratch.context(), await runOf('other.ts'))).rejects.toThrow(
      /there is no cdl.yaml/,
    );
    await expect(runStep(reproduce, await scratch.context(), { ...asked, version: 7 })).rejects.toThrow(
      /no version 7 of sides; it has 1/,
    );
    await expect(runStep(reproduce, await scratch.context(), { ...asked, version: 0 })).rejects.toThrow(
      /cdl.lock has no entry for sides/,
    );
    await expect(runStep(reproduce, await scratch.context(), { ...asked, run: 'abcd' })).rejects.toThrow(
      /there is no run abcd/,
    );
  });
});
