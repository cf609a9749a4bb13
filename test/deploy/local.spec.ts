import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { openLocalTarget } from '../../src/deploy/local.ts';
import { targetContract } from '../contract/target.ts';
import { bundlePrograms } from '../serve/programs.ts';
import { writeTinyPackage } from '../serve/tiny-package.ts';

let root: string;
let programs: Awaited<ReturnType<typeof bundlePrograms>>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-local-'));
  programs = await bundlePrograms();
});

afterAll(async () => {
  await programs.remove();
  await rm(root, { recursive: true, force: true });
});

targetContract('local', async () => {
  const target = openLocalTarget({
    folder: join(root, 'target'),
    program: programs.path('gateway-main'),
    observe: { requests: 1, milliseconds: 0 },
  });
  return {
    target,
    good: (bias) => writeTinyPackage(join(root, `good-${bias}`), { bias }),
    bad: (fault) => writeTinyPackage(join(root, fault), { fault }),
    stop: () => target.stop(),
  };
});
