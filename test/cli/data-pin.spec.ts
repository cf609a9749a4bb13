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
    const sides = [{ dataset: 'halves', after: `sha256:${'f'.repeat(64)}` as const }];
    const text = one
      .replace('shape: [4, 4]', 'item: text')
      .replace(/read: .*\}/, 'read: { format: text-folder } }');
    expect(text).toContain('split: { key: halves-1,');
    const split = text.replace(
      /split: \{ (.*) \}/,
      (_, keys: string) => `split: # as ever\n      ${keys.replaceAll(', ', '\n      ')}`,
    );
    for (const before of [text, split]) {
      const after = writePins(before, [], sides);
      expect(after.replace(/after: sha256:f+(, |\n {6})/, '')).toBe(before);
      expect(writePins(after, [], [{ dataset: 'halves', after: `sha256:${'0'.repeat(64)}` }])).toBe(
        after.replace(/f{64}/, '0'.repeat(64)),
      );
    }
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

  it('writes the sides of the items so far beside what is new, so that no one changes sides', async () => {
    const lines = (count: number) =>
      Array.from({ length: count }, (_, n) =>
        JSON.stringify({ t: `word${n}`, who: `p${n % 7}`, y: n % 2 ? 'a' : 'b' }),
      ).join('\n');
    scratch = await openScratch({
      'cdl.yaml': `version: 1
project: grows
requirements: { problem: x, owner: y }
datasets:
  lines:
    item: text
    classes: [a, b]
    sources: [{ file: [lines.jsonl], read: { format: jsonl, text: t, label: y, group: who } }]
    split: { key: k, test: 0.3 }
models: { m: { data: lines, code: [model.ts] } }
`,
      'lines.jsonl': lines(20),
    });
    const run = (...args: string[]) => runCdl(args, { cwd: scratch!.root, env: scratch!.env });
    expect((await run('ingest')).code).toBe(0);
    await run('data', 'pin');
    expect(await config()).not.toContain('after');
    await scratch.write({ 'lines.jsonl': lines(30) });
    expect((await run('data', 'pin', '--force')).stdout).toContain('for split.after');
    const after = /after: (sha256:[0-9a-f]{64})/.exec(await config())![1]!;
    expect((await run('ingest')).code).toBe(0);
    await run('data', 'pin', '--force');
    expect(await config()).toContain(after);
  });
});
