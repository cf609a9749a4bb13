import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { expect, it } from 'vitest';
import type { TrainEvent } from '../../src/train/types.ts';
import { inFolder } from './fixtures.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Trains in a child and kills it with SIGKILL at the end of an epoch: before or while it goes on; null never kills. */
async function trainAndKill(
  script: string,
  output: string,
  kill: { epoch: number; when: 'waiting' | 'working' } | null,
): Promise<{ signal: string | null; epochs: number[]; last: TrainEvent | undefined }> {
  const child = spawn(process.execPath, [script, output], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  const events: TrainEvent[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as TrainEvent;
    events.push(event);
    if (event.kind !== 'epoch') continue;
    const now = event.epoch === kill?.epoch;
    if (!now || kill?.when === 'working') child.stdin.write('\n');
    if (now) child.kill('SIGKILL');
  }
  const [, signal] = (await exit) as [number | null, string | null];
  const epochs = events.flatMap((event) => (event.kind === 'epoch' ? [event.epoch] : []));
  return { signal, epochs, last: events.at(-1) };
}

it('a training killed twice with SIGKILL ends with the bytes of one that was left alone', () =>
  inFolder(async (folder) => {
    const script = join(folder, 'child.mjs');
    await build({
      entryPoints: [join(root, 'test/train/child.ts')],
      outfile: script,
      bundle: true,
      packages: 'external',
      platform: 'node',
      format: 'esm',
      logLevel: 'error',
    });
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
    const [whole, parts] = [join(folder, 'whole'), join(folder, 'parts')];
    expect(await trainAndKill(script, whole, null)).toMatchObject({ signal: null, last: { kind: 'done' } });

    const first = await trainAndKill(script, parts, { epoch: 2, when: 'waiting' });
    expect(first).toMatchObject({ signal: 'SIGKILL', epochs: [1, 2] });
    const second = await trainAndKill(script, parts, { epoch: 4, when: 'working' });
    expect(second.signal).toBe('SIGKILL');
    expect(second.epochs.slice(0, 2)).toEqual([3, 4]);
    // As if the kill had come in the middle of writing.
    await mkdir(join(parts, 'checkpoints', '.step-000000077.1.new'));
    const third = await trainAndKill(script, parts, null);
    expect(third).toMatchObject({ signal: null, last: { kind: 'done' } });
    expect(third.epochs[0]).toBeGreaterThan(4);

    expect(await readdir(join(parts, 'checkpoints'))).toEqual(['step-000000065', 'step-000000078']);
    for (const path of ['model', 'checkpoints/step-000000078']) {
      const files = (await readdir(join(whole, path))).sort();
      expect((await readdir(join(parts, path))).sort()).toEqual(files);
      for (const file of files) {
        expect(await readFile(join(parts, path, file))).toEqual(await readFile(join(whole, path, file)));
      }
    }
  }));
