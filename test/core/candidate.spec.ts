import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Candidate,
  type CodeFile,
  candidateDigest,
  candidateSchema,
  codeDigest,
  reviewDigest,
} from '../../src/core/candidate.ts';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { selectCode } from '../../src/exec/code.ts';
import { type ScratchRepo, scratchRepo } from './scratch-repo.ts';

const digest = fc.nat(1000).map((n) => digestBytes(String(n)));
const file: fc.Arbitrary<CodeFile> = fc.record({
  path: fc.stringMatching(/^[a-z]{1,4}(\/[a-zé .-]{1,4}){0,2}$/),
  mode: fc.constantFrom('100644', '100755'),
  digest,
});
const files = fc.uniqueArray(file, { selector: (one) => one.path, minLength: 1, maxLength: 8 });
const candidate: fc.Arbitrary<Candidate> = fc.record({
  model: fc.stringMatching(/^[a-z]{1,8}$/),
  code: digest,
  config: digest,
  dataset: digest,
  transform: fc.option(digest),
  checkpoint: digest,
  package: digest,
});

describe('the digest of the code', () => {
  it('does not depend on the order of the files', () => {
    fc.assert(
      fc.property(
        files.chain((some) =>
          fc.tuple(fc.constant(some), fc.shuffledSubarray(some, { minLength: some.length })),
        ),
        ([some, shuffled]) => {
          expect(codeDigest(shuffled)).toBe(codeDigest(some));
        },
      ),
    );
  });

  it('changes with a path, a mode, the bytes of a file, and with a file more or less', () => {
    fc.assert(
      fc.property(files, fc.nat(), (some, n) => {
        const at = n % some.length;
        const one = some[at]!;
        const change = (part: Partial<CodeFile>) => some.with(at, { ...one, ...part });
        const all = [
          some,
          change({ path: `${one.path}!` }),
          change({ mode: one.mode === '100644' ? '100755' : '100644' }),
          change({ digest: digestBytes('other') }),
          some.toSpliced(at, 1),
          [...some, { path: '!', mode: '100644' as const, digest: one.digest }],
        ];
        expect(new Set(all.map(codeDigest)).size).toBe(all.length);
      }),
    );
  });

  it('changes when two files swap their bytes', () => {
    const one: CodeFile = { path: 'a', mode: '100644', digest: digestBytes('1') };
    const other: CodeFile = { path: 'b', mode: '100644', digest: digestBytes('2') };
    const swapped = [
      { ...one, digest: other.digest },
      { ...other, digest: one.digest },
    ];
    expect(codeDigest(swapped)).not.toBe(codeDigest([one, other]));
  });

  it('is none when two files share a path', () => {
    const one: CodeFile = { path: 'a', mode: '100644', digest: digestBytes('1') };
    expect(() => codeDigest([one, { ...one, digest: digestBytes('2') }])).toThrow(
      /the file a is listed twice/,
    );
  });
});

describe('the digest of a candidate', () => {
  it('changes with each of its parts', () => {
    fc.assert(
      fc.property(candidate, (one) => {
        const other = digestBytes('other');
        const all: Candidate[] = [
          one,
          { ...one, model: `${one.model}x` },
          { ...one, code: other },
          { ...one, config: other },
          { ...one, dataset: other },
          { ...one, transform: other },
          { ...one, checkpoint: other },
          { ...one, package: other },
        ];
        expect(new Set(all.map(candidateDigest)).size).toBe(Object.keys(one).length + 1);
      }),
    );
  });

  it('changes when two parts swap their values', () => {
    fc.assert(
      fc.property(candidate, (one) => {
        fc.pre(one.code !== one.config);
        expect(candidateDigest({ ...one, code: one.config, config: one.code })).not.toBe(
          candidateDigest(one),
        );
      }),
    );
  });

  it('holds nothing but content: commits, runs, version numbers and times do not enter', () => {
    fc.assert(
      fc.property(candidate, fc.nat(), fc.date({ noInvalidDate: true }), (one, version, date) => {
        const told = { ...one, commit: 'c0ffee', run: digestBytes('run'), version, time: date.toISOString() };
        expect(candidateDigest(told)).toBe(candidateDigest(one));
        expect(candidateSchema.safeParse(told).success).toBe(false);
      }),
    );
  });

  it('is the agreed one for a fixed candidate', () => {
    const fixed: Candidate = {
      model: 'fashion',
      code: digestBytes('code'),
      config: digestBytes('config'),
      dataset: digestBytes('dataset'),
      transform: null,
      checkpoint: digestBytes('checkpoint'),
      package: digestBytes('package'),
    };
    expect(candidateDigest(fixed)).toMatchInlineSnapshot(
      `"sha256:fafa2b591a4d9c74610a769ac1db06ad91acc2731a7cf1d8525ea19680d0311a"`,
    );
  });
});

describe('what a validator saw', () => {
  it('is other when the candidate, its evaluation or the plan is', () => {
    const seen = { candidate: digestBytes('c'), evaluation: digestBytes('e'), plan: digestBytes('p') };
    const other = digestBytes('other');
    const all = [
      seen,
      { ...seen, candidate: other },
      { ...seen, evaluation: other },
      { ...seen, plan: other },
    ];
    expect(new Set(all.map(reviewDigest)).size).toBe(4);
    const swapped = { ...seen, candidate: seen.evaluation, evaluation: seen.candidate };
    expect(reviewDigest(swapped)).not.toBe(reviewDigest(seen));
  });
});

describe('the code of a real git repository', () => {
  const globs = ['models/fashion/**', 'package-lock.json'];
  let repo: ScratchRepo;
  let start: string;
  let feature: string;

  async function codeAt(ref: string | null): Promise<Digest> {
    return codeDigest(await selectCode(repo.root, ref, globs));
  }

  beforeAll(() => {
    repo = scratchRepo();
    repo.write('models/fashion/model.ts', 'export const units = 64;\n');
    repo.write('models/fashion/data/words.txt', 'boot\nbag\n');
    repo.write('package-lock.json', '{}\n');
    repo.write('README.md', 'Fashion\n');
    start = repo.commit('start');
    repo.git('checkout', '-q', '-b', 'feature');
    repo.write('models/fashion/model.ts', 'export const units = 128;\n');
    repo.commit('wider');
    repo.write('models/fashion/run.sh', '#!/bin/sh\n', 0o755);
    feature = repo.commit('a script');
    repo.git('checkout', '-q', 'main');
    repo.write('README.md', 'Fashion, ten kinds\n');
    repo.commit('main moves on');
  });
  afterAll(() => repo.dispose());

  it('is other than where the branch began', async () => {
    expect(await codeAt(feature)).not.toBe(await codeAt(start));
  });

  it('keeps its digest through a squash merge', async () => {
    repo.git('checkout', '-q', '-B', 'squashed', 'main');
    repo.git('merge', '-q', '--squash', 'feature');
    expect(await codeAt(repo.commit('squashed'))).toBe(await codeAt(feature));
  });

  it('keeps its digest through a rebase', async () => {
    repo.git('checkout', '-q', '-B', 'rebased', 'feature');
    repo.git('rebase', '-q', 'main');
    const rebased = repo.git('rev-parse', 'HEAD').trim();
    expect(rebased).not.toBe(feature);
    expect(await codeAt(rebased)).toBe(await codeAt(feature));
  });

  it('keeps its digest through a merge commit, an amended message and another date', async () => {
    repo.git('checkout', '-q', '-B', 'merged', 'main');
    repo.git('merge', '-q', '--no-ff', '-m', 'merge', 'feature');
    expect(await codeAt('HEAD')).toBe(await codeAt(feature));
    repo.git('commit', '-q', '--amend', '-m', 'told otherwise', '--date', '2001-02-03T04:05:06Z');
    expect(await codeAt('HEAD')).toBe(await codeAt(feature));
  });

  it('keeps its digest through the lock commit, even when a glob takes in everything', async () => {
    repo.git('checkout', '-q', '-B', 'locked', 'feature');
    const before = codeDigest(await selectCode(repo.root, 'HEAD', ['**']));
    repo.write('cdl.lock', 'version: 1\nmodels: {}\n');
    repo.commit('chore: lock');
    expect(codeDigest(await selectCode(repo.root, 'HEAD', ['**']))).toBe(before);
    expect(await codeAt('HEAD')).toBe(await codeAt(feature));
  });

  it('has the same digest in the worktree as in the commit checked out there', async () => {
    repo.git('checkout', '-q', '-f', 'feature');
    expect(await codeAt(null)).toBe(await codeAt('feature'));
  });

  it('takes another digest with any change of content within the globs, and with none outside', async () => {
    repo.git('checkout', '-q', '-B', 'changing', 'feature');
    const before = await codeAt('HEAD');
    const edits: [what: string, edit: () => void, voids: boolean][] = [
      ['one byte', () => repo.write('models/fashion/model.ts', 'export const units = 129;\n'), true],
      ['the final newline', () => repo.write('models/fashion/model.ts', 'export const units = 128;'), true],
      ['a mode', () => repo.write('models/fashion/run.sh', '#!/bin/sh\n', 0o644), true],
      ['a new file', () => repo.write('models/fashion/.hidden', ''), true],
      ['a file removed', () => repo.write('models/fashion/data/words.txt', null), true],
      ['a file renamed', () => repo.git('mv', 'models/fashion/run.sh', 'models/fashion/go.sh'), true],
      ['the lockfile', () => repo.write('package-lock.json', '{"lockfileVersion":3}\n'), true],
      ['a file outside', () => repo.write('README.md', 'other\n'), false],
      ['another model', () => repo.write('models/news/model.ts', 'export {};\n'), false],
    ];
    for (const [what, edit, voids] of edits) {
      edit();
      const after = await codeAt(repo.commit(what));
      if (voids) expect(after, what).not.toBe(before);
      else expect(after, what).toBe(before);
      repo.git('reset', '-q', '--hard', 'feature');
    }
  });

  it('takes another digest with random bytes, and the old one when they are taken back', async () => {
    repo.git('checkout', '-q', '-B', 'random', 'feature');
    const before = await codeAt('HEAD');
    const original = Buffer.from('boot\nbag\n');
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 20 }), async (bytes) => {
        repo.write('models/fashion/data/words.txt', bytes);
        const there = await codeAt(repo.commit('change'));
        expect(there === before).toBe(original.equals(bytes));
        repo.write('models/fashion/data/words.txt', original);
        expect(await codeAt(repo.commit('back'))).toBe(before);
      }),
      { numRuns: 8 },
    );
  });

  it('counts files whose names need quoting', async () => {
    repo.git('checkout', '-q', '-B', 'names', 'feature');
    const seen = new Set([await codeAt('HEAD')]);
    const odd = ['a b', 'é', '"q"', 'tab\there', 'line\nbreak', '日本', '-x', '*'];
    for (const name of odd) {
      repo.write(`models/fashion/odd/${name}`, 'x');
      const at = repo.commit('odd');
      seen.add(await codeAt(at));
      expect(await codeAt(null)).toBe(await codeAt(at));
      const paths = (await selectCode(repo.root, at, globs)).map((one) => one.path);
      expect(paths).toContain(`models/fashion/odd/${name}`);
    }
    expect(seen.size).toBe(odd.length + 1);
  });
});
