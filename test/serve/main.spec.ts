import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundlePrograms } from './programs.ts';
import { type TinyPackage, writeTinyPackage } from './tiny-package.ts';

let root: string;
let tiny: TinyPackage;
let programs: Awaited<ReturnType<typeof bundlePrograms>>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-main-'));
  tiny = await writeTinyPackage(join(root, 'tiny'));
  programs = await bundlePrograms();
});

afterAll(async () => {
  await programs.remove();
  await rm(root, { recursive: true, force: true });
});

function start(...args: string[]): { child: ChildProcess; first: Promise<string>; stderr: () => string } {
  // An empty environment: the server needs nothing of it.
  const child = spawn(process.execPath, [programs.path('main'), ...args], { env: {}, stdio: 'pipe' });
  let text = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const first = once(createInterface({ input: child.stdout! }), 'line').then(([line]) => String(line));
  return { child, first, stderr: () => text };
}

describe('the server process', () => {
  test('says in one line where it answers, answers, and ends with 0 on SIGTERM', async () => {
    const { child, first } = start('--package', tiny.folder, '--digest', tiny.digest, '--version', '12');
    const said = JSON.parse(await first) as { ready: boolean; port: number; pid: number };
    expect(said).toEqual({ ready: true, port: expect.any(Number), pid: child.pid });
    const response = await fetch(`http://127.0.0.1:${said.port}/v2/models/tiny`);
    expect(await response.json()).toMatchObject({ name: 'tiny', versions: ['12'] });
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  test('ends when whoever it is attached to is gone', async () => {
    const { child, first } = start('--package', tiny.folder, '--digest', tiny.digest, '--attached');
    await first;
    child.stdin!.destroy();
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  test.each([
    [[], 2, /needs --package/],
    [['--unknown'], 2, /'--unknown'/],
    [['--package', 'x', '--digest', 'nonsense'], 2, /--digest sha256/],
    [['--package', '/nowhere', '--digest', `sha256:${'0'.repeat(64)}`], 6, /\/nowhere\/signature.json/],
  ])('with %j ends with exit code %i and one clear sentence', async (args, exit, message) => {
    const { child, first, stderr } = start(...args);
    first.catch(() => {});
    const [code] = await once(child, 'close');
    expect(code).toBe(exit);
    expect(stderr()).toMatch(message);
    expect(stderr()).not.toMatch(/\n\s+at /);
  });
});
