import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changelog, differingKeys, type Release } from '../../bot/release-notes.ts';
import { digestJson, parseProject, renderMarkdown } from '../../src/index.ts';
import { factsWith } from './facts.ts';
import { projectYaml, scoresOf } from './world.ts';

const golden = (name: string): string => join(import.meta.dirname, '../golden/comments', `${name}.md`);
const facts = factsWith();
const claim = facts.claim.kind === 'verified' ? facts.claim.claim : null;
const older = {
  ...claim!,
  version: 6,
  candidate: { ...claim!.candidate, dataset: digestJson('earlier data'), code: digestJson('earlier code') },
  tuned: { width: 16 },
};

const file = (path: string, text: string) => ({ path, mode: '100644' as const, digest: digestJson(text) });

function madeWith(yaml: string): Release['now']['madeWith'] {
  const { models, datasets } = parseProject(yaml);
  return { model: models.fashion!, data: datasets.clothes! };
}

const yamlBefore = projectYaml().replace(
  '    code:',
  '    hyperparameters: {epochs: 3, width: 8}\n    code:',
);
const yamlNow = projectYaml()
  .replace('    code:', '    seed: 2\n    hyperparameters: {epochs: 5}\n    code:')
  .replace('min: 0.85', 'min: 0.9')
  .replace('a'.repeat(64), 'c'.repeat(64));

const released: Release = {
  model: 'fashion',
  environment: 'production',
  live: {
    candidate: digestJson(claim!.candidate),
    evaluation: facts.answer!.digest,
    package: claim!.candidate.package,
    plan: facts.plan!.digest,
    version: 7,
    since: '2026-01-01T00:00:00Z',
    commit: 'a'.repeat(40),
  },
  decision: {
    change: '!12',
    approvers: [
      { id: '1', name: 'vera', role: 'validator' },
      { id: '2', name: 'walt', role: 'devops' },
    ],
    baseline: digestJson(older.candidate),
  },
  change: { title: 'Better at *shoes* for @all', url: facts.change.url },
  evaluation: {
    ...facts.answer!.evaluation,
    baseline: digestJson(older.candidate),
    baselineScores: scoresOf(88),
    differences: { accuracy: { value: 0.02, low: 0.01, high: 0.03 } },
  },
  now: {
    candidate: digestJson(claim!.candidate),
    claim: { ...claim!, tuned: { width: 32 } },
    madeWith: madeWith(yamlNow),
    files: [file('model.ts', 'now'), file('lib/@all *x*.ts', 'new'), file('same.ts', 'same')],
    items: { count: 2100, perClass: [1000, 1100] },
  },
  before: {
    candidate: digestJson(older.candidate),
    claim: older,
    madeWith: madeWith(yamlBefore),
    files: [file('model.ts', 'before'), file('old.ts', 'old'), file('same.ts', 'same')],
    items: { count: 2000, perClass: [1000, 1000] },
  },
};

describe('the text of a release', () => {
  const table: [name: string, release: Release][] = [
    ['release', released],
    ['release-first', { ...released, before: null, decision: { ...released.decision, baseline: null } }],
    [
      'release-little-known',
      {
        ...released,
        change: null,
        before: {
          candidate: released.decision.baseline!,
          claim: null,
          madeWith: null,
          files: null,
          items: null,
        },
      },
    ],
    [
      'release-same',
      { ...released, before: { ...released.now, claim: { ...released.now.claim!, version: 6 } } },
    ],
  ];
  it.each(table)('%s', async (name, release) => {
    await expect(renderMarkdown(changelog(release))).toMatchFileSnapshot(golden(name));
  });

  it('counts the differences that are too many to read, and cuts what is too long', () => {
    const many = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`width${i}`, i]));
    const now = structuredClone(released.now);
    Object.assign(now.madeWith!.model.hyperparameters, many, { note: 'x'.repeat(500) });
    const text = renderMarkdown(changelog({ ...released, now }));
    expect(text).toMatch(/and \d+ more/);
    expect(text).not.toContain('x'.repeat(100));
  });

  it('names keys by their way through lists and objects, added and taken out ones too', () => {
    const before = { a: [{ b: 1 }, { b: 2 }], list: [1, 2], gone: { x: true }, same: null };
    expect(differingKeys(before, { a: [{ b: 1 }, { b: 3 }], list: [1], fresh: '', same: null })).toEqual([
      ['a[1].b', '2 → 3'],
      ['fresh', 'not set → '],
      ['gone.x', 'true → not set'],
      ['list', '[1,2] → [1]'],
    ]);
  });
});
