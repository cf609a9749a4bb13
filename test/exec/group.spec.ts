import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { clearGroup } from '../../src/exec/group.ts';
import { isProcessAlive } from '../../src/exec/owner.ts';

it('clears who has the variable of the mark, wherever it stands, and nobody with one whose name or value is longer', async () => {
  const value = randomUUID();
  const environments = [
    { CDL_MARK: value },
    { A: '1', CDL_MARK: value, Z: '1' },
    { XCDL_MARK: value },
    { A: '1', XCDL_MARK: value },
    { CDL_MARK: `${value}0` },
    { A: `CDL_MARK=${value}` },
  ];
  const children = environments.map((env) => spawn('/bin/sleep', ['1000'], { env, stdio: 'ignore' }));
  try {
    await Promise.all(children.map((child) => once(child, 'spawn')));
    const ends = children.slice(0, 2).map((child) => once(child, 'exit'));
    await clearGroup(undefined, { name: 'CDL_MARK', value });
    await Promise.all(ends);
    expect(children.map(({ pid }) => isProcessAlive(pid!))).toEqual([false, false, true, true, true, true]);
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
});
