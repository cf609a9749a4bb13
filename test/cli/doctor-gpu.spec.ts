import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCdl } from './run-cdl.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-gpu-'));
  await mkdir(join(folder, 'bin'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A machine with just these programs, each a shell script. */
async function doctorOn(programs: Record<string, string>, more: NodeJS.ProcessEnv = {}) {
  for (const [name, script] of Object.entries(programs)) {
    await writeFile(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`);
    await chmod(join(folder, 'bin', name), 0o755);
  }
  const env = { PATH: join(folder, 'bin'), HOME: folder, ...more };
  const { code, stdout } = await runCdl(['doctor', '--gpu'], { cwd: folder, env });
  const of = (name: string) => stdout.split('\n').find((line) => line.slice(2).startsWith(`${name} `)) ?? '';
  return { code, stdout, of };
}

const torch = (version: string, cuda: string | null, devices: string[]) =>
  `echo '${JSON.stringify({ version, cuda, devices })}'`;

describe('doctor --gpu', () => {
  it('says on a machine without a GPU what is missing, and ends with 69', async () => {
    const { code, stdout, of } = await doctorOn({
      ldconfig: 'echo "libcudart.so.12 (libc6,x86-64) => /usr/lib/libcudart.so.12"',
      python3: torch('2.13.0+cpu', null, []),
    });
    expect(code).toBe(69);
    // A machine that has a driver tells of it without any program.
    expect(stdout).toMatch(/✗ driver +(no NVIDIA driver|NVRM version)/);
    expect(of('cuda')).toMatch(/· cuda +tfjs-node-gpu would miss libcudart\.so\.11\.0, .*libcudnn\.so\.8/);
    expect(of('pytorch')).toMatch(
      /· pytorch +PyTorch 2\.13\.0\+cpu of python3 sees no GPU: it is built without CUDA/,
    );
    expect(of('training')).toMatch(/✗ training +nothing here can train on a GPU/);
    expect(stdout).toContain('2 problem(s)');
  });

  it('says what a GPU is used by, and ends with 0', async () => {
    const libraries = [
      'cudart.so.11.0',
      'cublas.so.11',
      'cublasLt.so.11',
      'cufft.so.10',
      'curand.so.10',
      'cusolver.so.11',
    ];
    await mkdir(join(folder, 'lib'));
    for (const name of ['libcusparse.so.11', 'libcudnn.so.8']) await writeFile(join(folder, 'lib', name), '');
    const { code, of, stdout } = await doctorOn(
      {
        'nvidia-smi': 'echo "NVIDIA H100 80GB HBM3, 570.86.15, 81559 MiB"',
        ldconfig: libraries
          .map((name) => `echo "	lib${name} (libc6,x86-64) => /usr/lib/lib${name}"`)
          .join('\n'),
        python3: torch('2.13.0', '13.0', ['NVIDIA H100 80GB HBM3']),
      },
      { LD_LIBRARY_PATH: join(folder, 'lib') },
    );
    expect(code, stdout).toBe(0);
    expect(of('driver')).toMatch(/✓ driver +NVIDIA H100 80GB HBM3, 570\.86\.15/);
    expect(of('cuda')).toMatch(/✓ cuda/);
    expect(of('pytorch')).toMatch(/✓ pytorch +PyTorch 2\.13\.0 sees NVIDIA H100 80GB HBM3/);
    expect(of('training')).toMatch(/✓ training .*commands with PyTorch.* can train on the GPU/);
  });
});
