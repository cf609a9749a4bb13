import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { UserError } from '../core/error.ts';
import { registerChainedOperations } from './chained.ts';
import { registerKernels, unregisterKernels } from './kernels/index.ts';
import { registerLayerNormalization } from './kernels/layer-normalization.ts';
import type { Tf } from './types.ts';

/** What can run tensors here, best first. */
export const backendNames = ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'] as const;

/** One of {@link backendNames}. */
export type BackendName = (typeof backendNames)[number];

/** TensorFlow.js, ready to use. */
export interface OpenedTf {
  tf: Tf;
  backend: BackendName;
  /** One line per candidate that was looked at: taken, or why not. */
  why: string[];
}

/**
 * Opens TensorFlow.js with the best backend of this machine: the native ones when installed beside this package
 * (optional peers), else WebAssembly with our kernels, else plain JavaScript.
 *
 * TensorFlow.js has one engine a process, so opening again with another `prefer` switches it for everybody.
 * `stockKernels` makes the wasm backend as shipped, for measuring against it. Throws a UserError (not-available) when `prefer` cannot be had.
 */
export async function openTf(
  options: { prefer?: BackendName; stockKernels?: boolean } = {},
): Promise<OpenedTf> {
  const why: string[] = [];
  for (const backend of options.prefer ? [options.prefer] : backendNames) {
    try {
      const tf = await open(backend, options.stockKernels ?? false);
      why.push(`${backend}: taken (${describe(tf, backend)})`);
      return { tf, backend, why };
    } catch (error) {
      why.push(`${backend}: ${reason(error, backend)}`);
    }
  }
  throw new UserError('not-available', `no backend for training: ${why.join('; ')}`);
}

async function open(backend: BackendName, stockKernels: boolean): Promise<Tf> {
  if (backend === 'tfjs-node-gpu' || backend === 'tfjs-node') return openNative(`@tensorflow/${backend}`);
  const [core, layers] = await Promise.all([
    import('@tensorflow/tfjs-core'),
    import('@tensorflow/tfjs-layers'),
  ]);
  // Both are CommonJS: `default` is the complete module, the named exports are what the loader guessed.
  const tf = { ...exportsOf(core), ...exportsOf(layers) } as Tf;
  if (backend === 'wasm') {
    const wasm = await import('@tensorflow/tfjs-backend-wasm');
    const root = dirname(
      createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json'),
    );
    if (!core.findBackend('wasm')) {
      wasm.setWasmPaths(join(root, 'dist', '/'));
    }
    if (stockKernels) unregisterKernels(tf);
    else registerKernels(tf);
  } else {
    await import('@tensorflow/tfjs-backend-cpu');
  }
  if (!(await quietly(tf, () => core.setBackend(backend)))) throw new Error('the backend did not start');
  registerChainedOperations(tf);
  if (!stockKernels) registerLayerNormalization(tf);
  return tf;
}

async function openNative(specifier: string): Promise<Tf> {
  // A variable specifier: the package is an optional peer that neither the compiler nor the bundler may resolve.
  const tf = { ...exportsOf((await import(/* @vite-ignore */ specifier)) as Tf) };
  if (!(await quietly(tf, () => tf.setBackend('tensorflow')))) throw new Error('the backend did not start');
  return tf;
}

function exportsOf<T extends object>(module: T & { default?: unknown }): T {
  return (module.default ?? module) as T;
}

const processEvents = ['uncaughtException', 'unhandledRejection'] as const;

/**
 * Starts a backend without its side effects: the plain one advertises the native ones on first use unless it believes
 * to be under test, and the wasm module adds listeners that turn every unhandled error of the process into its own.
 */
async function quietly<T>(tf: Tf, work: () => Promise<T>): Promise<T> {
  const flag = tf.env().getBool('IS_TEST');
  tf.env().set('IS_TEST', true);
  const before = processEvents.map((event) => process.rawListeners(event));
  try {
    const result = await work();
    tf.tidy(() => tf.add(tf.scalar(1), 1).dataSync());
    return result;
  } finally {
    tf.env().set('IS_TEST', flag);
    processEvents.forEach((event, index) => {
      for (const listener of process.rawListeners(event)) {
        if (!before[index]!.includes(listener)) process.off(event, listener as () => void);
      }
    });
  }
}

function describe(tf: Tf, backend: BackendName): string {
  if (backend === 'wasm')
    return tf.env().getBool('WASM_HAS_SIMD_SUPPORT') ? 'WebAssembly with SIMD' : 'WebAssembly';
  return backend === 'cpu' ? 'plain JavaScript, slow' : 'native';
}

function reason(error: unknown, backend: BackendName): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? error.code : null;
  const absent =
    (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') &&
    message.includes(`@tensorflow/${backend}`);
  if (absent || /Cannot find (package|module) '@tensorflow\/tfjs-node/.test(message)) return 'not installed';
  return `installed, but does not load: ${message.split('\n')[0]}`;
}
