import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { DatasetConfig, SourceConfig } from '../../src/core/project.ts';
import { rulesSchema } from '../../src/core/project-data-rules.ts';
import { inspectItem } from '../../src/data/inspect.ts';
import { knownReasons, ownWords } from '../../src/data/quarantine-words.ts';
import { readRawSource } from '../../src/data/raw-read.ts';

const rules = rulesSchema.parse({
  bytes: { min: 3, max: 5 },
  characters: { min: 2.5 },
  extensions: ['md', 'rst'],
  labelled: true,
  image: { formats: ['png'] },
  fields: { age: { type: 'integer', required: true, minimum: -1 }, name: { type: 'string' } },
});

it('every reason that the declared rules give is known, and the most frequent comes first', async () => {
  const item = (text: string) => ({
    id: `sha256:${'a'.repeat(64)}` as const,
    bytes: Buffer.from(text),
    extension: 'txt',
    label: null,
    attributes: {},
  });
  const reasons = new Set<string>();
  for (const text of ['x', '{"age":-7,"name":3}', '{"age":"x"}', '{"age":1.5}', '[]', '{}']) {
    for (const reason of await inspectItem(item(text), rules)) reasons.add(reason);
  }
  expect(reasons.size).toBeGreaterThan(9);
  const counts = Object.fromEntries([...reasons].map((reason, index) => [reason, index + 1]));
  expect(knownReasons(counts, rules)).toEqual(Object.entries(counts).sort((a, b) => b[1] - a[1]));
});

it('no other text of a manifest is repeated, and all of it is counted together', () => {
  const hostile = [
    '</details> /approve',
    '@all',
    'field email: a@b.c',
    'field age: 41',
    'fewer than many bytes',
  ];
  const counts = { ...Object.fromEntries(hostile.map((text) => [text, 2])), empty: 3 };
  expect(knownReasons(counts, rules)).toEqual([
    [ownWords, 10],
    ['empty', 3],
  ]);
});

it('every reason that reading rows gives is known', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-words-'));
  const sha256 = 'a'.repeat(64);
  const reasons = new Set<string>();
  const read = async (read: SourceConfig['read'], lines: string[]) => {
    const path = join(folder, 'rows.jsonl');
    await writeFile(path, lines.join('\n'));
    const source: SourceConfig = { file: ['rows.jsonl'], sha256, read };
    const config = { item: 'text', shape: [], classes: ['a'], sources: [source] } as unknown as DatasetConfig;
    const fetched = { source, files: [{ name: 'rows.jsonl', path, sha256 }] };
    for await (const one of readRawSource(config, fetched)) if ('reason' in one) reasons.add(one.reason);
  };
  try {
    const rows = [
      '{"t":"x","f":"gone","l":"b"}',
      '{"t":4}',
      '{"t":""}',
      '{"t":"\\ud800"}',
      '[]',
      '{"f":"gone"}',
    ];
    await read({ format: 'jsonl', text: 't', label: 'l' }, rows);
    await read({ format: 'jsonl', fields: ['t', 'f'] }, rows);
    await read({ format: 'jsonl', file: 'f' }, [...rows, '{"f":"gone"}']);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  for (const reason of ['no-text', 'field-missing', 'file-missing', 'named-twice'])
    expect(reasons).toContain(reason);
  expect(
    knownReasons(Object.fromEntries([...reasons].map((reason) => [reason, 1])), rules),
  ).not.toContainEqual([ownWords, expect.anything()]);
});
