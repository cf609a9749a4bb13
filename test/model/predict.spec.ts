import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { idxHeader } from '../../src/data/idx.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { detectConfinement, moduleFolders } from '../../src/model/isolation.ts';
import { buildPackage } from '../../src/model/package.ts';
import { medianOf, type PredictionJob, predictIsolated } from '../../src/model/predict.ts';
import { openTf } from '../../src/train/backend.ts';
import { encodeModel } from '../../src/train/model-files.ts';

const honest = `
export function build(tf) { throw new Error('not called'); }
export function preprocess(tf, raw) { return tf.div(tf.cast(tf.reshape(raw, [-1, 4]), 'float32'), 255); }
`;
/** Model code that runs \`body\` when it preprocesses. */
const withBody = (body: string, top = '') => `${top}
export function preprocess(tf, raw) { ${body}; return tf.div(tf.cast(tf.reshape(raw, [-1, 4]), 'float32'), 255); }`;

const count = 300;
let folder: string;
let built: string;
let images: string;
let checkpoint: string;
let serial = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-predict-test-'));
  // Beside the packages it imports, as the shipped bundle is.
  built = await mkdtemp(join(packageRoot(), 'node_modules', '.cdl-test-'));
  await build({
    entryPoints: [join(packageRoot(), 'src/model/child.ts')],
    outfile: join(built, 'child.js'),
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'error',
  });
  await writeFile(join(built, 'package.json'), '{"type":"module"}');
  images = join(folder, 'images.idx');
  const bytes = Buffer.from(Array.from({ length: count * 4 }, (_, i) => (i * i * 7 + i) % 251));
  await writeFile(images, Buffer.concat([idxHeader([count, 2, 2]), bytes]));
  await writeFile(join(folder, 'labels.idx'), Buffer.concat([idxHeader([count]), Buffer.alloc(count)]));
  const { tf } = await openTf();
  const model = tf.sequential({
    layers: [
      tf.layers.dense({
        inputShape: [4],
        units: 3,
        activation: 'softmax',
        kernelInitializer: tf.initializers.randomUniform({ minval: -2, maxval: 2, seed: 3 }),
      }),
    ],
  });
  checkpoint = join(folder, 'checkpoint');
  await mkdir(checkpoint);
  for (const [name, content] of Object.entries(encodeModel(model)))
    await writeFile(join(checkpoint, name), content);
});

afterAll(async () => {
  await rm(built, { recursive: true, force: true });
  await rm(folder, { recursive: true, force: true });
});

async function packageOf(code: string): Promise<string> {
  const target = join(folder, `package-${++serial}`);
  await mkdir(target);
  await buildPackage({ checkpointFolder: checkpoint, code, manifest: { v: 1 }, folder: target });
  return target;
}

async function predictWith(code: string, options: Partial<PredictionJob> = {}) {
  return predictIsolated({
    packageFolder: await packageOf(code),
    items: images,
    count,
    classes: 3,
    out: null,
    program: join(built, 'child.js'),
    ...options,
  });
}

describe('predicting in isolation', () => {
  test('finds packages also where node_modules is a link', async () => {
    const folder = await realpath(await mkdtemp(join(tmpdir(), 'cdl-modules-')));
    try {
      await mkdir(join(folder, 'shared'));
      await mkdir(join(folder, 'cdl', 'dist'), { recursive: true });
      await symlink(join(folder, 'shared'), join(folder, 'cdl', 'node_modules'));
      expect(moduleFolders(join(folder, 'cdl', 'dist')).filter((path) => path.startsWith(folder))).toEqual([
        join(folder, 'cdl', 'node_modules'),
        join(folder, 'shared'),
      ]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('gives checked probabilities and a latency, and keeps them where asked', async () => {
    const out = join(folder, 'kept.f32');
    const result = await predictWith(honest, { out });
    expect(result.probabilities.length).toBe(count * 3);
    expect(new Set(result.probabilities).size).toBeGreaterThan(count);
    const { value, low, high } = result.latencyMs;
    expect([low > 0, low <= value, value <= high]).toEqual([true, true, true]);
    const again = await predictWith(honest, { out });
    expect(again.probabilities).toEqual(result.probabilities);
  });

  test('tells the model code nothing of its surroundings', async () => {
    const code = withBody(
      'throw new Error("SEEN " + Object.keys(process.env).sort().join() + " " + process.cwd())',
    );
    const failure = await predictWith(code).catch((error: unknown) => String(error));
    const seen = /SEEN (\S*)/.exec(String(failure))?.[1] ?? '';
    expect(seen.split(',').filter((name) => !['HOME', 'PATH', 'TMPDIR'].includes(name))).toEqual([]);
    expect(seen).not.toBe('');
  });

  test.each([
    ['read a file', `readFileSync('/etc/hostname')`],
    ['list a folder', `readdirSync('/etc')`],
    ['read the labels', `readFileSync(LABELS)`],
    ['replace its output by a link', `symlinkSync('/etc/hostname', OUT + 'probabilities.f32')`],
    ['read its own process', `readFileSync('/proc/self/environ')`],
    ['write a file', `writeFileSync('${tmpdir()}/cdl-escape', 'x')`],
    ['start a program', `execFileSync('/bin/true')`],
    ['start a worker', `new Worker('1', { eval: true })`],
  ])('does not let the model code %s', async (_, act) => {
    const top = `import { readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process'; import { Worker } from 'node:worker_threads';
const LABELS = '${join(folder, 'labels.idx')}'; const OUT = JSON.parse(process.argv[2]).out.replace(/[^/]*$/, '');`;
    const code = withBody(
      `try { ${act} } catch (error) { throw new Error('DENIED ' + error.code) } throw new Error('DONE')`,
      top,
    );
    await expect(predictWith(code)).rejects.toMatchObject({
      code: 'code-invalid',
      message: expect.stringContaining('DENIED ERR_ACCESS_DENIED'),
    });
  });

  test('gives the model code no network and no other process to signal', async (context) => {
    if ((await detectConfinement()).isolation === 'none')
      context.skip('unshare is not allowed on this machine');
    let connections = 0;
    const server: Server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const top = `import { connect } from 'node:net';
const reason = await new Promise((resolve) => connect(${port}, '127.0.0.1').on('connect', () => resolve('CONNECTED')).on('error', (e) => resolve(e.code)));
let signal; try { process.kill(${process.pid}, 0); signal = 'ALIVE'; } catch (e) { signal = e.code; }`;
    const failure = await predictWith(
      withBody('throw new Error("NET " + reason + " PID " + signal)', top),
    ).catch((e: unknown) => String(e));
    server.close();
    expect(failure).toMatch(/NET (ENETUNREACH|ECONNREFUSED) PID ESRCH/);
    expect(connections).toBe(0);
  });

  test.each([
    ['too few classes', 'predict', { classes: 4 }, /row|out of turn|bytes instead of/],
    ['another number of items', 'predict', { count: 299 }, /holds 300 items, not 299/],
  ])('refuses %s', async (_, __, options, message) => {
    await expect(predictWith(honest, options)).rejects.toThrow(message);
  });

  test('refuses numbers that are no probabilities', async () => {
    const code = withBody('return tf.fill([raw.shape[0], 4], NaN)');
    await expect(predictWith(code)).rejects.toMatchObject({ code: 'code-invalid' });
  });

  test.each([
    ['negative probabilities', '[-0.5, 1.5, 0]', /-0.5 as a probability of item 0/],
    ['rows that do not sum to 1', '[0.5, 0.4, 0]', /sums to 0.9/],
    ['a short file', '[1]', /has 1200 bytes instead of 3600/],
    ['rows it made up', '[1, 0, 0]', /differently alone and among others/],
  ])('refuses %s that the model code wrote itself, saying it was done', async (_, row, message) => {
    const top = `import { writeFileSync } from 'node:fs';`;
    const code = withBody(
      `if (raw.shape[0] > 1) {
        writeFileSync(JSON.parse(process.argv[2]).out, new Uint8Array(new Float32Array(Array(${count}).fill(${row}).flat()).buffer));
        process.send({ kind: 'done' }, () => process.exit(0));
        for (const end = Date.now() + 20_000; Date.now() < end; );
      }`,
      top,
    );
    await expect(predictWith(code)).rejects.toThrow(message);
  });

  test('refuses a model that answers differently when it sees all items at once', async () => {
    const code = withBody('if (raw.shape[0] > 1) return tf.zeros([raw.shape[0], 4])');
    await expect(predictWith(code)).rejects.toThrow(/differently alone and among others/);
  });

  test('reports an error, an exit and a missing function of the model code', async () => {
    await expect(predictWith(withBody('raw.nothing.here'))).rejects.toMatchObject({
      code: 'code-invalid',
      message: expect.stringContaining('TypeError'),
    });
    await expect(predictWith(withBody('process.exit(0)'))).rejects.toThrow(/ended early, with exit code 0/);
    await expect(predictWith('export const build = 1;')).rejects.toThrow(
      /does not export the function preprocess/,
    );
    await expect(predictWith('export const = ;')).rejects.toThrow(/SyntaxError/);
    await expect(predictWith(withBody('process.send({kind: "gibberish"})'))).rejects.toThrow(
      /malformed message/,
    );
  });

  test('ends model code that never returns, when its time is over and when told to stop', async () => {
    const forever = withBody('for (;;);');
    await expect(predictWith(forever, { limits: { seconds: 2 } })).rejects.toThrow(/more than 2 s/);
    const stop = new AbortController();
    const running = predictWith(
      withBody('process.send({kind: "ready", backend: "x", count: 300}); for (;;);'),
      {
        signal: stop.signal,
      },
    );
    const timer = setTimeout(() => stop.abort(), 1500);
    await expect(running).rejects.toMatchObject({ code: 'interrupted' });
    clearTimeout(timer);
    const left = execFileSync('ps', ['-eo', 'args']).toString();
    expect(left).not.toContain(join(built, 'child.js'));
  });

  test('ends model code that takes too much memory', async () => {
    const top = 'const kept = [];';
    const code = withBody('for (;;) { const b = Buffer.alloc(1 << 24, 1); kept.push(b); }', top);
    await expect(predictWith(code, { limits: { memory: 600 * 2 ** 20, seconds: 60 } })).rejects.toMatchObject(
      {
        code: 'code-invalid',
      },
    );
  });

  test('refuses a package whose weights are damaged', async () => {
    const target = await packageOf(honest);
    await writeFile(join(target, 'weights.bin'), 'short');
    const job = {
      packageFolder: target,
      items: images,
      count,
      classes: 3,
      out: null,
      program: join(built, 'child.js'),
    };
    await expect(predictIsolated(job)).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });
});

test.each([
  // Table of order statistics for the median (Conover 1999, table A3): the k-th smallest and the k-th largest.
  [5, 1],
  [6, 1],
  [9, 2],
  [15, 4],
  [21, 6],
  [50, 18],
])('the interval of the median of %i values begins at number %i from each end', (count, place) => {
  const values = Array.from({ length: count }, (_, at) => (at * 11) % count);
  expect(new Set(values).size).toBe(count);
  const sorted = values.toSorted((a, b) => a - b);
  expect(medianOf(values)).toEqual({
    value: sorted[count >> 1],
    low: sorted[place - 1],
    high: sorted[count - place],
  });
});
