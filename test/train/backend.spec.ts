import { describe, expect, it, vi } from 'vitest';
import { openTf } from '../../src/train/backend.ts';
import { registerKernels } from '../../src/train/kernels/index.ts';
import { permutation, seededRandom, withRandom } from '../../src/train/random.ts';

describe('opening TensorFlow.js', () => {
  it('says of every candidate before the one it takes why not, and leaves no listeners on the process', async () => {
    const listeners = () =>
      ['uncaughtException', 'unhandledRejection'].map((name) => process.listenerCount(name));
    const before = listeners();
    const { backend, why, tf } = await openTf();
    expect(listeners()).toEqual(before);
    expect(why.at(-1)).toMatch(new RegExp(`^${backend}: taken`));
    expect(why.map((line) => line.split(':')[0])).toEqual(
      ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'].slice(0, why.length),
    );
    for (const line of why.slice(0, -1))
      expect(line).toMatch(/: (not installed|installed, but does not load: )/);
    expect(typeof tf.sequential).toBe('function');
    expect(typeof tf.layers.dense).toBe('function');
    expect(typeof tf.initializers.glorotUniform).toBe('function');
    expect(typeof tf.train.adam).toBe('function');
  });

  it('prints nothing, with the plain backend neither', async () => {
    const spies = (['log', 'warn', 'error', 'info'] as const).map((name) => vi.spyOn(console, name));
    try {
      for (const prefer of ['cpu', 'wasm'] as const) {
        const { tf } = await openTf({ prefer });
        expect([...tf.add(tf.tensor1d([1, 2]), 1).dataSync()]).toEqual([2, 3]);
      }
      for (const spy of spies) expect(spy).not.toHaveBeenCalled();
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  });

  it('registers kernels once: again changes nothing', async () => {
    const { tf } = await openTf({ prefer: 'wasm' });
    const before = tf.getKernel('BatchMatMul', 'wasm').kernelFunc;
    expect(registerKernels(tf)).toContain('MaxPoolGrad');
    expect(tf.getKernel('BatchMatMul', 'wasm').kernelFunc).toBe(before);
    await openTf({ prefer: 'wasm', stockKernels: true });
    expect(tf.getKernel('BatchMatMul', 'wasm').kernelFunc).not.toBe(before);
    expect(tf.getKernel('Conv2DBackpropFilter', 'wasm')).toBeUndefined();
    await openTf({ prefer: 'wasm' });
    expect(tf.getKernel('Conv2DBackpropFilter', 'wasm')).toBeDefined();
  });

  it('gives tensors their operations as methods', async () => {
    const { tf } = await openTf({ prefer: 'wasm' });
    const raw = tf.tensor(
      [
        [0, 51],
        [102, 255],
      ],
      [2, 2],
      'int32',
    ) as unknown as {
      toFloat(): { div(by: number): { flatten(): { dataSync(): Float32Array } } };
    };
    expect([...raw.toFloat().div(255).flatten().dataSync()].map((v) => Math.round(v * 10) / 10)).toEqual([
      0, 0.2, 0.4, 1,
    ]);
  });

  it('refuses a backend that is not there with the reason', async () => {
    const native = await openTf({ prefer: 'tfjs-node-gpu' }).catch((error: unknown) => error);
    if (native instanceof Error) {
      expect(native).toMatchObject({
        code: 'not-available',
        message: expect.stringContaining('tfjs-node-gpu: '),
      });
    } else expect(native).toMatchObject({ backend: 'tfjs-node-gpu' });
  });
});

describe('seeded randomness', () => {
  it('is the same for the same parts, another for others, and uniform', () => {
    const draw = (...parts: (string | number)[]) => Array.from({ length: 4000 }, seededRandom(...parts));
    expect(draw(1, 'a')).toEqual(draw(1, 'a'));
    expect(draw(1, 'a')).not.toEqual(draw(1, 'b'));
    expect(draw('1', 'a')).not.toEqual(draw(1, 'a'));
    const values = draw(3);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    // Mean of 4000 uniform numbers: standard error 0.0046; five of them.
    expect(Math.abs(values.reduce((a, b) => a + b) / 4000 - 0.5)).toBeLessThan(0.023);
  });

  it('permutes: every item once', () => {
    expect([...permutation(100, seededRandom(1))].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 100 }, (_, k) => k),
    );
    expect([...permutation(100, seededRandom(1))]).not.toEqual([...permutation(100, seededRandom(2))]);
  });

  it('gives Math.random back, also after an error, and refuses work that outlives the call', () => {
    const original = Math.random;
    const numbers = () => withRandom(seededRandom(1), 'test', () => [Math.random(), Math.random()]);
    expect(numbers()).toEqual(numbers());
    expect(() => withRandom(seededRandom(1), 'test', () => Promise.resolve())).toThrow('synchronous');
    expect(Math.random).toBe(original);
  });
});
