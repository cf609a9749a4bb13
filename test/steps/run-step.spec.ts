import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Digest } from '../../src/core/digest.ts';
import type { UserError } from '../../src/core/error.ts';
import type { SelectedFile } from '../../src/exec/code.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { cacheKey, runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import type { Ctx, Inputs, Step } from '../../src/steps/types.ts';
import { validate } from '../../src/steps/validate.ts';
import { modelCode, openScratch, type Scratch, tinyConfig } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };

describe('an outcome that was seen before', () => {
  let scratch: Scratch;
  let ctx: Ctx;
  let runs = 0;

  const params = z.object({ text: z.string(), verdict: z.enum(['pass', 'fail']).default('pass') });
  /** A step whose work can be counted; what it stores differs from run to run, so that adoption shows. */
  const counting = (during?: () => Promise<void>): Step<typeof params> => ({
    name: 'counting',
    summary: 'count',
    epoch: 1,
    stage: 'data',
    params,
    inputs: async (_ctx, given) => ({
      subject: 'thing',
      zone: 'work',
      key: { text: given.text },
      files: [],
      artifacts: ['made'],
      cache: true,
    }),
    async run(ctx, given) {
      runs++;
      await during?.();
      const zone = await ctx.zone('work');
      const blob = await zone.putBlob(`${given.text} ${runs}`);
      const made = await zone.putArtifact({
        kind: 'delta',
        name: 'thing',
        files: [{ path: 'text', ...blob }],
        parents: [],
        meta: {},
      });
      return {
        outputs: { made },
        report: { key: 'k', title: 't', verdict: given.verdict, summary: `run ${runs}`, blocks: [] },
      };
    },
  });

  beforeAll(async () => {
    scratch = await openScratch();
    ctx = await scratch.context();
  });
  afterEach(() => {
    runs = 0;
  });
  afterAll(() => scratch.remove());

  it('is looked up, report and all, and handed on as if it had been made now', async () => {
    const first = await runStep(counting(), ctx, { text: 'a', verdict: 'pass' });
    await rm(join(scratch.root, '.cdl', 'thing.counting.outputs.json'));
    const again = await runStep(counting(), ctx, { text: 'a', verdict: 'pass' });
    expect([first.cached, again.cached, runs]).toEqual([false, true, 1]);
    expect(again.outputs).toEqual(first.outputs);
    expect(again.report).toEqual(first.report);
    expect(await ctx.handover.read('counting', 'thing')).toEqual(first.outputs);
  });

  it('does not count once an artifact among its outputs is gone, and what replaces it is found again', async () => {
    const first = await runStep(counting(), ctx, { text: 'b', verdict: 'pass' });
    const hex = first.outputs.made!.slice(7);
    const zone = await ctx.zone('work');
    expect(await zone.hasArtifact(first.outputs.made as Digest)).toBe(true);
    await zone.store.delete(`work/artifacts/${hex.slice(0, 2)}/${hex}.json`);
    const second = await runStep(counting(), ctx, { text: 'b', verdict: 'pass' });
    expect([second.cached, runs]).toEqual([false, 2]);
    expect(second.outputs).not.toEqual(first.outputs);
    const third = await runStep(counting(), ctx, { text: 'b', verdict: 'pass' });
    expect(third.cached).toBe(true);
    expect(third.outputs).toEqual(second.outputs);
  });

  it('is not kept when the verdict is fail: somebody may put right what it depends on', async () => {
    await runStep(counting(), ctx, { text: 'c', verdict: 'fail' });
    const again = await runStep(counting(), ctx, { text: 'c', verdict: 'fail' });
    expect([again.cached, runs]).toEqual([false, 2]);
  });

  it('of two runs at once is the one that was written first, for both', async () => {
    // Both are inside `run` before either writes.
    let inside = 0;
    let open = () => {};
    const both = new Promise<void>((resolve) => {
      open = resolve;
    });
    const step = counting(async () => {
      if (++inside === 2) open();
      await both;
    });
    const other = await scratch.context();
    const results = await Promise.all([
      runStep(step, ctx, { text: 'd', verdict: 'pass' }),
      runStep(step, other, { text: 'd', verdict: 'pass' }),
    ]);
    expect(inside).toBe(2);
    expect(results[0].outputs).toEqual(results[1].outputs);
    expect(results.map((one) => one.cached).sort()).toEqual([false, true]);
  });

  it('belongs to its epoch', async () => {
    await runStep(counting(), ctx, { text: 'e', verdict: 'pass' });
    const later = await runStep({ ...counting(), epoch: 2 }, ctx, { text: 'e', verdict: 'pass' });
    expect([later.cached, runs]).toEqual([false, 2]);
  });
});

describe('the cache key', () => {
  const digest = fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 64, maxLength: 64 })
    .map((hex) => `sha256:${hex}` as Digest);
  const file: fc.Arbitrary<SelectedFile> = fc.record({
    path: fc.string({ minLength: 1, maxLength: 12 }),
    mode: fc.constantFrom('100644', '100755'),
    digest,
    bytes: fc.constant(Buffer.alloc(0)),
  });
  const files = fc.uniqueArray(file, { selector: (one) => one.path, minLength: 1, maxLength: 5 });
  const key = fc.dictionary(
    fc.stringMatching(/^[a-z]{1,6}$/),
    fc.oneof(fc.string(), fc.integer(), fc.boolean()),
    {
      maxKeys: 5,
    },
  );
  const inputs = (over: Partial<Inputs>): Inputs => ({
    subject: 's',
    zone: 'work',
    key: {},
    files: [],
    artifacts: [],
    cache: true,
    ...over,
  });
  const step = { name: 'train', epoch: 1 };

  it('differs when a path, a mode, the bytes, a parameter, the step or its epoch differs', () => {
    fc.assert(
      fc.property(files, key, fc.nat(), digest, (files, key, pick, other) => {
        const before = cacheKey(step, inputs({ files, key }));
        const at = pick % files.length;
        const change = (over: Partial<SelectedFile>) =>
          cacheKey(
            step,
            inputs({ key, files: files.map((one, i) => (i === at ? { ...one, ...over } : one)) }),
          );
        const one = files[at]!;
        expect(change({ path: `${one.path}x` })).not.toBe(before);
        expect(change({ mode: one.mode === '100644' ? '100755' : '100644' })).not.toBe(before);
        if (other !== one.digest) expect(change({ digest: other })).not.toBe(before);
        expect(cacheKey(step, inputs({ key, files: files.slice(1) }))).not.toBe(before);
        expect(cacheKey(step, inputs({ files, key: { ...key, more: 1 } }))).not.toBe(before);
        expect(cacheKey({ ...step, epoch: 2 }, inputs({ files, key }))).not.toBe(before);
        expect(cacheKey({ ...step, name: 'tune' }, inputs({ files, key }))).not.toBe(before);
      }),
    );
  });

  it('does not depend on the order in which parameters are written', () => {
    fc.assert(
      fc.property(key, (key) => {
        const turned = Object.fromEntries(Object.entries(key).reverse());
        expect(cacheKey(step, inputs({ key: turned }))).toBe(cacheKey(step, inputs({ key })));
      }),
    );
  });

  it('of a real step is the same in another commit, at another time, in another clone', async () => {
    const [one, two] = [await openScratch(), await openScratch()];
    try {
      const key = async (scratch: Scratch, env = {}) => {
        const ctx = await scratch.context(env);
        await ctx.handover.write('ingest', 'halves', { dataset: `sha256:${'a'.repeat(64)}` });
        return cacheKey(train, await train.inputs(ctx, all));
      };
      const before = await key(one);
      await two.write({ 'README.md': 'another file\n' });
      await two.git('add', '--all');
      await two.git('commit', '--quiet', '--message', 'another commit', '--date', '2001-01-01T00:00:00Z');
      expect(await key(two)).toBe(before);
      await chmod(join(two.root, 'model.ts'), 0o755);
      expect(await key(two)).not.toBe(before);
      await chmod(join(two.root, 'model.ts'), 0o644);
      await two.write({ 'lib/more.ts': '' });
      expect(await key(two)).not.toBe(before);
      await two.git('clean', '--quiet', '--force');
      expect(await key(two)).toBe(before);
      await two.write({ 'cdl.yaml': tinyConfig().replace('hidden: 4', 'hidden: 5') });
      expect(await key(two)).not.toBe(before);
      await two.write({ 'cdl.yaml': tinyConfig().replace('min: 0.5', 'min: 0.9') });
      expect(await key(two), 'a gate does not shape the model').toBe(before);
    } finally {
      await one.remove();
      await two.remove();
    }
  });
});

describe('what a step sees', () => {
  let scratch: Scratch;
  beforeAll(async () => {
    scratch = await openScratch();
    await runStep(ingest, await scratch.context(), all);
  });
  afterAll(() => scratch.remove());

  /** Trains with another model.ts and gives the error. */
  async function failure(code: string, env = {}): Promise<UserError> {
    await scratch.write({ 'model.ts': code });
    return runStep(train, await scratch.context(env), all).then(
      () => {
        throw new Error('the training did not fail');
      },
      (error: UserError) => error,
    );
  }

  it('is no file that code: does not name, wherever it lies', async () => {
    await scratch.write({ 'secret.ts': 'export const scale = 1;\n' });
    for (const path of [
      './secret.ts',
      '../../secret.ts',
      join(scratch.root, 'secret.ts'),
      'file:///etc/passwd',
    ]) {
      const error = await failure(modelCode.replace('./lib/scale.ts', path));
      expect(error.code, path).toBe('code-invalid');
      expect(error.message).toContain('model.ts:1:');
      expect(error.message).toContain(path);
    }
  });

  it('is no file beside the temporary folder either, even where it exists', async () => {
    const outside = await mkdtemp(join(tmpdir(), 'cdl-outside-'));
    await writeFile(join(outside, 'scale.ts'), 'export const scale = 1;\n');
    try {
      const error = await failure(modelCode.replace('./lib/scale.ts', `../${basename(outside)}/scale.ts`));
      expect(error.code).toBe('code-invalid');
      expect(error.message).toContain('not available to model code');
    } finally {
      await rm(outside, { recursive: true });
    }
  });

  it('is no package; the message says what to do instead', async () => {
    for (const name of ['@tensorflow/tfjs-core', 'node:fs', 'fs', '#internal']) {
      const error = await failure(`import x from '${name}';\n${modelCode}\nexport { x };\n`);
      expect(error.code).toBe('code-invalid');
      expect(error.message).toMatch(/^model\.ts:1:\d+ {2}"/);
      expect(error.message).toContain('tf is an argument, and files must be listed under code:');
    }
  });

  it('is no variable of the environment but the few it declares', async () => {
    const code = modelCode.replace(
      'return tf.sequential',
      `throw new Error('sees ' + Object.keys(process.env).sort().join(' ') + ' in ' + process.cwd());\n  return tf.sequential`,
    );
    const error = await failure(code, {
      CDL_BOT_TOKEN: 'glpat-very-secret',
      CDL_WORK_SECRET_KEY: 'secret-of-the-store',
      CI_JOB_TOKEN: 'job-token',
      NODE_OPTIONS: '--no-warnings',
      CUDA_VISIBLE_DEVICES: '0',
      TZ: 'UTC',
    });
    expect(error.message).toMatch(/sees CUDA_VISIBLE_DEVICES HOME PATH TZ in .*cdl-step-/);
  });
});

describe('the steps of a change, one after the other', () => {
  let scratch: Scratch;
  beforeAll(async () => {
    scratch = await openScratch();
  });
  afterAll(() => scratch.remove());

  it('make the same version from the same content in another clone, all of it cached the second time', async () => {
    const work = `file:${join(scratch.root, '..', 'store')}`;
    const outputs: Record<string, string>[] = [];
    const cached: boolean[][] = [];
    const other = await openScratch();
    try {
      for (const one of [scratch, other]) {
        const ctx = await one.context({ CDL_WORK_STORE: work });
        const results = [];
        for (const step of [ingest, validate, train, packageStep, register] as Step[]) {
          results.push(await runStep(step, ctx, all));
        }
        outputs.push(Object.assign({}, ...results.map((result) => result.outputs)));
        cached.push(results.map((result) => result.cached));
      }
    } finally {
      await other.remove();
    }
    expect(cached).toEqual([
      [false, false, false, false, false],
      [true, true, true, true, false],
    ]);
    expect(outputs[1]).toEqual(outputs[0]);
    expect(outputs[0]).toMatchObject({ version: '1', verdict: 'pass' });
    expect(Number(outputs[0]!.items)).toBeGreaterThan(100);
  });

  it('keep data sets of the same bytes and other names apart', async () => {
    const config = tinyConfig();
    const block = /^ {2}halves:\n(?: {4}.*\n)+/m.exec(config)![0];
    await scratch.write({
      'cdl.yaml': config.replace(block, `${block}${block.replace('halves:', 'sides:')}`),
    });
    const ctx = await scratch.context();
    const one = await runStep(ingest, ctx, { dataset: 'halves', side: 'train' });
    const two = await runStep(ingest, ctx, { dataset: 'sides', side: 'train' });
    expect(two.cached).toBe(false);
    expect(two.report.title).toContain('sides');
    expect(two.outputs.dataset).not.toBe(one.outputs.dataset);
  });
});
