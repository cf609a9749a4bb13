import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { writePins } from '../../src/data/pin-text.ts';
import { openScratch, type Scratch, tinyConfig, tinyData } from '../steps/project.ts';
import { runCdl } from './run-cdl.ts';

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const { images, labels } = tinyData();
const pins = [sha256(images), sha256(labels)];
const unpinned = tinyConfig().replace(/ {8}sha256: .*\n/, '        # what it is pinned by comes here\n');

let scratch: Scratch | null = null;
afterEach(async () => {
  await scratch?.remove();
  scratch = null;
});
const config = async () => readFile(join(scratch!.root, 'cdl.yaml'), 'utf8');

describe('pins', () => {
  it('are written beside their source, in block and in flow, and change nothing else', () => {
    const written = writePins(unpinned, [{ dataset: 'halves', source: 0, sha256: pins }]);
    expect(written.replace(/ {8}sha256: \[ .*\n/, '')).toBe(unpinned);
    expect(written).toContain('# what it is pinned by comes here\n        sha256: [ ');
    const flow = unpinned.replace(
      / {6}- file:[\s\S]*?read: (.*)\n/,
      '      - { file: [data/images.idx], read: $1 } # one\n',
    );
    const one = writePins(flow, [{ dataset: 'halves', source: 0, sha256: pins[0]! }]);
    expect(one).toBe(flow.replace(', read:', `, sha256: ${pins[0]}, read:`));
    const other = writePins(one, [{ dataset: 'halves', source: 0, sha256: 'e'.repeat(64) }]);
    expect(other).toBe(one.replace(pins[0]!, 'e'.repeat(64)));
  });
});

describe('cdl data pin', () => {
  it('pins what is not pinned yet, and with --force what is there now', async () => {
    scratch = await openScratch();
    await scratch.write({ 'cdl.yaml': unpinned });
    const run = (...args: string[]) =>
      runCdl(['data', 'pin', ...args], { cwd: scratch!.root, env: scratch!.env });
    expect((await run()).stdout).toContain(`${pins[0]}  data/images.idx`);
    expect(await config()).toContain(pins[0]);
    expect((await run()).stdout).toContain('every source is pinned');
    const changed = Buffer.from([...labels].reverse());
    await scratch.write({ 'data/labels.idx': changed });
    expect((await run('--force', 'halves')).stdout).toContain(`${sha256(changed)}  data/labels.idx`);
    expect(await config()).toContain(sha256(changed));
    expect(await config()).toContain('# what it is pinned by comes here');
    const wrong = await run('halve');
    expect(wrong.code).toBe(3);
    expect(wrong.stderr).toContain('did you mean halves?');
  });
});
