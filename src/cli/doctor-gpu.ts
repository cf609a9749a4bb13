import { readdir, readFile } from 'node:fs/promises';
import { z } from 'zod';
import { run } from '../exec/run.ts';
import type { Check, Look } from './doctor.ts';

/**
 * What tfjs-node-gpu loads of CUDA: TensorFlow 2.9.1 is built for CUDA 11.2 and cuDNN 8.1 (its `scripts/deps-constants.js`;
 * tensorflow.org/install/source, tested build configurations). Every CUDA 11 has these names, no CUDA 12 does.
 */
const libraries = [
  'libcudart.so.11.0',
  'libcublas.so.11',
  'libcublasLt.so.11',
  'libcufft.so.10',
  'libcurand.so.10',
  'libcusolver.so.11',
  'libcusparse.so.11',
  'libcudnn.so.8',
];

const torchScript = `import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda,
  "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []}))`;
const torchSchema = z.object({
  version: z.string(),
  cuda: z.string().nullable(),
  devices: z.array(z.string()),
});

/** What a program says; null where there is none, or it fails. */
async function said(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<string | null> {
  const result = await run(command, args, { env }).catch(() => null);
  return result?.code === 0 ? result.stdout.toString().trim() : null;
}

async function driver(env: NodeJS.ProcessEnv): Promise<Omit<Check, 'name'>> {
  const query = '--query-gpu=name,driver_version,memory.total';
  const listed = await said('nvidia-smi', [query, '--format=csv,noheader'], env);
  if (listed) return { state: 'ok', text: listed };
  const module = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => null);
  if (module) {
    const text = `${module.split('\n')[0]!.trim()}\nnvidia-smi is not there or fails: its container lacks --gpus all, or the driver's tools`;
    return { state: 'problem', text };
  }
  return {
    state: 'problem',
    text: 'no NVIDIA driver: neither nvidia-smi nor /proc/driver/nvidia\n→ install the driver on the machine; give a container the GPU (docker run --gpus all, runners/gpu/config.toml)',
  };
}

/** The shared libraries that the loader of this machine finds (ld.so(8)). */
async function loadable(env: NodeJS.ProcessEnv): Promise<Set<string>> {
  const cached = (await said('ldconfig', ['-p'], env)) ?? (await said('/sbin/ldconfig', ['-p'], env)) ?? '';
  const names = [...cached.matchAll(/^\s*(\S+) \(/gm)].map((match) => match[1]!);
  for (const folder of (env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean)) {
    names.push(...(await readdir(folder).catch(() => [])));
  }
  return new Set(names);
}

async function cuda(env: NodeJS.ProcessEnv): Promise<Omit<Check, 'name'>> {
  const here = await loadable(env);
  const missing = libraries.filter((name) => !here.has(name));
  if (missing.length === 0) return { state: 'ok', text: 'CUDA 11 and cuDNN 8, as tfjs-node-gpu needs them' };
  return {
    state: 'note',
    text: `tfjs-node-gpu would miss ${missing.join(', ')}: it is built for CUDA 11 with cuDNN 8 (PyTorch brings its own)`,
  };
}

async function tensorflow(): Promise<Omit<Check, 'name'>> {
  const { openTf } = await import('../train/backend.ts');
  const opened = await openTf({ prefer: 'tfjs-node-gpu' }).catch((error: Error) => error);
  if (opened instanceof Error) {
    return { state: 'note', text: `${opened.message}\n→ npm install @tensorflow/tfjs-node-gpu beside cdl` };
  }
  // Not in its types. Without the libraries above it loads, and computes on the processor.
  const backend = opened.tf.backend() as { isUsingGpuDevice?: boolean };
  return backend.isUsingGpuDevice === true
    ? { state: 'ok', text: 'tfjs-node-gpu loads and computes on the GPU' }
    : {
        state: 'note',
        text: 'tfjs-node-gpu loads, but computes on the processor: it found no GPU it can use',
      };
}

async function torch(env: NodeJS.ProcessEnv): Promise<Omit<Check, 'name'>> {
  for (const python of ['python3', 'python']) {
    const told = await said(python, ['-c', torchScript], env);
    if (told === null) continue;
    const { version, cuda: built, devices } = torchSchema.parse(JSON.parse(told.split('\n').at(-1)!));
    if (devices.length > 0) return { state: 'ok', text: `PyTorch ${version} sees ${devices.join(', ')}` };
    const why =
      built === null ? 'it is built without CUDA' : `it is built for CUDA ${built} and finds no GPU`;
    return { state: 'note', text: `PyTorch ${version} of ${python} sees no GPU: ${why}` };
  }
  return { state: 'note', text: 'no python3 that can import torch' };
}

/**
 * What `cdl doctor --gpu` looks at, in order. That tfjs-node-gpu or PyTorch cannot use a GPU is no problem as long as the
 * other one can: the last line says whether anything here trains on one.
 */
export function gpuLooks(env: NodeJS.ProcessEnv): [string, Look][] {
  const able: string[] = [];
  const note =
    (name: string, look: Look): Look =>
    async () => {
      const found = await look();
      if (found.state === 'ok') able.push(name);
      return found;
    };
  return [
    ['driver', () => driver(env)],
    ['cuda', () => cuda(env)],
    ['tfjs-node-gpu', note('the built-in trainer', tensorflow)],
    ['pytorch', note('commands with PyTorch', () => torch(env))],
    [
      'training',
      async () =>
        able.length > 0
          ? { state: 'ok', text: `${able.join(' and ')} can train on the GPU` }
          : { state: 'problem', text: 'nothing here can train on a GPU; runners/gpu has images that can' },
    ],
  ];
}
