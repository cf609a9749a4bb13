import { expect, it } from 'vitest';
import { rulesSchema } from '../../src/core/project-data-rules.ts';
import { inspectItem } from '../../src/data/inspect.ts';
import { knownReasons, ownWords } from '../../src/data/quarantine-words.ts';

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
