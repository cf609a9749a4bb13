import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { candidateDigest } from '../../src/core/candidate.ts';
import { digestBytes } from '../../src/core/digest.ts';
import {
  createEntry,
  emptyLock,
  entryCandidate,
  type Lock,
  type LockEntry,
  lockEntry,
  mergeLocks,
  parseLock,
  renderLock,
  withEntry,
} from '../../src/core/lock.ts';
import { type ScratchRepo, scratchRepo } from './scratch-repo.ts';

/** An evaluation is about one candidate: with another candidate it is another evaluation. */
function tied(model: string, entry: LockEntry, evaluation: string): LockEntry {
  const candidate = entryCandidate(model, entry);
  return createEntry(candidate, digestBytes(candidateDigest(candidate) + evaluation), entry.info);
}

// Few values, so that entries share some of their lines: the hardest case for a merge by lines.
const few = fc.constantFrom('a', 'b', 'c').map((text) => digestBytes(text));

function entryOf(model: string): fc.Arbitrary<LockEntry> {
  return fc
    .record({
      code: few,
      config: few,
      dataset: few,
      transform: fc.option(few),
      checkpoint: few,
      package: few,
      evaluation: few,
      version: fc.integer({ min: 1, max: 4 }),
      run: few,
    })
    .map(({ evaluation, version, run, ...content }) =>
      tied(model, createEntry({ model, ...content }, evaluation, { version, run }), evaluation),
    );
}

/** Another entry that keeps some of the lines of `entry`. */
function changeOf(model: string, entry: LockEntry): fc.Arbitrary<LockEntry> {
  const fields = [
    'code',
    'config',
    'dataset',
    'transform',
    'checkpoint',
    'package',
    'evaluation',
    'info',
  ] as const;
  return fc.tuple(entryOf(model), fc.subarray([...fields], { minLength: 1 })).map(([other, taken]) => {
    const mixed = { ...entry };
    for (const field of taken) Object.assign(mixed, { [field]: other[field] });
    const same = candidateDigest(entryCandidate(model, mixed)) === entry.candidate;
    return same && !taken.includes('evaluation') ? mixed : tied(model, mixed, other.evaluation);
  });
}

const names = ['fashion', 'news', 'a-1'];
const places = ['dev', 'production', 'staging'];
const lock: fc.Arbitrary<Lock> = fc
  .array(
    fc
      .constantFrom(...names)
      .chain((model) => fc.tuple(fc.constant(model), fc.constantFrom(...places), entryOf(model))),
    { maxLength: 6 },
  )
  .map((entries) =>
    entries.reduce((all, [model, place, entry]) => withEntry(all, model, place, entry), emptyLock),
  );

/** Two locks made from one by changing, adding, copying or removing a few entries each. */
const threeLocks: fc.Arbitrary<[base: Lock, ours: Lock, theirs: Lock]> = lock.chain((base) => {
  const step = fc
    .tuple(fc.constantFrom(...names), fc.constantFrom(...places), fc.constantFrom(...places))
    .chain(([model, place, from]) => {
      const now = lockEntry(base, model, place);
      const copied = lockEntry(base, model, from);
      const next: fc.Arbitrary<LockEntry | null>[] = [fc.constant(null), entryOf(model)];
      if (now) next.push(changeOf(model, now), changeOf(model, now));
      if (copied) next.push(fc.constant(copied), fc.constant(copied));
      return fc.tuple(fc.constant(model), fc.constant(place), fc.oneof(...next));
    });
  const side = fc
    .array(step, { minLength: 1, maxLength: 3 })
    .map((steps) => steps.reduce((all, [model, place, entry]) => withEntry(all, model, place, entry), base));
  return fc.tuple(fc.constant(base), side, side);
});

const sample = (model: string, seed: string): LockEntry =>
  createEntry(
    {
      model,
      code: digestBytes(`${seed} code`),
      config: digestBytes(`${seed} config`),
      dataset: digestBytes(`${seed} dataset`),
      transform: null,
      checkpoint: digestBytes(`${seed} checkpoint`),
      package: digestBytes(`${seed} package`),
    },
    digestBytes(`${seed} evaluation`),
    { version: seed.length, run: digestBytes(`${seed} run`) },
  );

const two = withEntry(
  withEntry(emptyLock, 'fashion', 'production', sample('fashion', 'x')),
  'news',
  'staging',
  sample('news', 'y'),
);

describe('cdl.lock', () => {
  it('comes back as it was written', () => {
    fc.assert(
      fc.property(lock, (one) => {
        const text = renderLock(one);
        const back = parseLock(text);
        expect(renderLock(back)).toBe(text);
        for (const model of names) {
          for (const place of places)
            expect(lockEntry(back, model, place)).toEqual(lockEntry(one, model, place));
        }
      }),
    );
  });

  it('has one text, in whatever order entries were set', () => {
    fc.assert(
      fc.property(lock, (one) => {
        let turned = emptyLock;
        for (const [model, environments] of Object.entries(one.models).reverse()) {
          for (const [place, entry] of Object.entries(environments).reverse())
            turned = withEntry(turned, model, place, entry);
        }
        expect(renderLock(turned)).toBe(renderLock(one));
      }),
    );
  });

  it('keeps names that YAML would take for something else, and those every object seems to have', () => {
    for (const model of ['true', 'null', '1', '0x1f', '1e3', 'no', 'constructor']) {
      expect(lockEntry(emptyLock, model, 'name')).toBeNull();
      const one = withEntry(emptyLock, model, 'constructor', sample(model, 'x'));
      expect(lockEntry(one, model, 'name')).toBeNull();
      expect(lockEntry(parseLock(renderLock(one)), model, 'constructor')).toEqual(sample(model, 'x'));
    }
  });

  it('starts each entry with the candidate, the evaluation and the info, a line each', () => {
    const entry = sample('fashion', 'x');
    expect(renderLock(two)).toContain(
      `    production: # fashion production\n      candidate: ${entry.candidate} # fashion production\n      evaluation: ${entry.evaluation} # fashion production\n      info: {version: 1, run: ${entry.info.run}} # fashion production\n      code: `,
    );
  });

  it('is empty when the file is', () => {
    expect(parseLock('')).toEqual(emptyLock);
  });

  it('may have the line ends of Windows', () => {
    expect(parseLock(renderLock(two).replaceAll('\n', '\r\n'))).toEqual(two);
  });

  const text = renderLock(two);
  const entry = sample('fashion', 'x');
  it.each([
    ['an unknown key at the top', `${text}extra: 1\n`],
    ['an unknown key in an entry', text.replace('      code:', '      note: x\n      code:')],
    ['an unknown key in info', text.replace('{version:', '{by: me, version:')],
    ['another version', text.replace('version: 1', 'version: 2')],
    ['a wrong candidate', text.replace(entry.candidate, digestBytes('other'))],
    ['a wrong line below a right candidate', text.replace(entry.package, digestBytes('other'))],
    ['an entry of another model', text.replace('  news:', '  newt:')],
    ['a missing line', text.replace(/ {6}code: .*\n/, '')],
    ['a key twice', text.replace('    production:', `    production: {}\n    production:`)],
    ['a model twice', `${text}  news: {}\n`],
    [
      'an alias',
      text.replace(`code: ${entry.code}`, `code: &c ${entry.code}`).replace(/dataset: .*/, 'dataset: *c'),
    ],
    ['an alias of nothing', text.replace(/dataset: .*/, 'dataset: *c')],
    ['an anchor', text.replace('    production:', '    production: &p')],
    ['a tag', text.replace(`code: ${entry.code}`, `code: !x ${entry.code}`)],
    ['a standard tag', text.replace(`code: ${entry.code}`, `code: !!str ${entry.code}`)],
    ['a merge key', text.replace('      code:', '      <<: {}\n      code:')],
    ['a second document', `${text}---\n${text}`],
    ['broken YAML', `${text}  {`],
    ['a comment of somebody', text.replace('      code:', '      # mine\n      code:')],
    ['the place of another entry', text.replace('# fashion production', '# fashion staging')],
    ['lines after the end', `${text}\n`],
    ['a list', '- 1\n'],
    ['a name that is none', text.replace('    production:', '    __proto__:')],
  ])('is refused with %s', (_what, wrong) => {
    expect(wrong).not.toBe(text);
    expect(() => parseLock(wrong)).toThrow(expect.objectContaining({ code: 'lock-invalid' }));
  });

  it('says where an entry contradicts itself', () => {
    const wrong = text.replace(entry.package, digestBytes('other'));
    expect(() => parseLock(wrong, 'main:cdl.lock')).toThrow(
      /^main:cdl\.lock:6:7 {2}fashion\.production says candidate sha256:/,
    );
  });

  it.each(['<<<<<<< HEAD', '=======', '>>>>>>> theirs'])(
    'is refused with the conflict marker %s',
    (marker) => {
      const wrong = text.replace('      code:', `${marker}\n      code:`);
      expect(() => parseLock(wrong)).toThrow(expect.objectContaining({ code: 'lock-conflict' }));
    },
  );

  it('has no line whose change goes unseen', () => {
    const lines = text.split('\n');
    fc.assert(
      fc.property(fc.nat(lines.length - 1), fc.constantFrom('0', '1', '2', '3'), (line, letter) => {
        const changed = lines
          .map((l, i) => (i === line ? l.replace(/sha256:./, `sha256:${letter}`) : l))
          .join('\n');
        fc.pre(changed !== text && !/evaluation|run/.test(lines[line]!));
        expect(() => parseLock(changed)).toThrow(expect.objectContaining({ code: 'lock-invalid' }));
      }),
    );
  });
});

describe('the structural merge', () => {
  it('is symmetric', () => {
    fc.assert(
      fc.property(threeLocks, ([base, ours, theirs]) => {
        const one = mergeLocks(base, ours, theirs);
        const other = mergeLocks(base, theirs, ours);
        expect(other).toEqual(one);
      }),
    );
  });

  it('is idempotent, and takes the only side that changed whole', () => {
    fc.assert(
      fc.property(threeLocks, ([base, ours, theirs]) => {
        for (const merge of [
          mergeLocks(base, ours, ours),
          mergeLocks(base, ours, base),
          mergeLocks(base, base, ours),
        ]) {
          expect(merge.kind === 'merged' && renderLock(merge.lock)).toBe(renderLock(ours));
        }
        const merged = mergeLocks(base, ours, theirs);
        if (merged.kind === 'conflict') return;
        const again = mergeLocks(base, merged.lock, theirs);
        expect(again.kind === 'merged' && renderLock(again.lock)).toBe(renderLock(merged.lock));
      }),
    );
  });

  it('never invents an entry, and names exactly those that both sides changed differently', () => {
    fc.assert(
      fc.property(threeLocks, ([base, ours, theirs]) => {
        const merge = mergeLocks(base, ours, theirs);
        for (const model of names) {
          for (const place of places) {
            const [b, o, t] = [base, ours, theirs].map((one) => JSON.stringify(lockEntry(one, model, place)));
            const both = b !== o && b !== t && o !== t;
            if (merge.kind === 'conflict') {
              expect(merge.entries.some(([m, p]) => m === model && p === place)).toBe(both);
            } else {
              expect(both).toBe(false);
              expect(JSON.stringify(lockEntry(merge.lock, model, place))).toBe(b === o ? t : o);
            }
          }
        }
      }),
    );
  });

  it('keeps a change of info alone', () => {
    const entry = sample('fashion', 'x');
    const ours = withEntry(two, 'fashion', 'production', { ...entry, info: { ...entry.info, version: 77 } });
    const merge = mergeLocks(two, ours, two);
    expect(merge.kind === 'merged' && lockEntry(merge.lock, 'fashion', 'production')?.info.version).toBe(77);
  });
});

describe('git, which merges cdl.lock line by line', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'cdl-lock-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** `git merge-file` is the merge that `git merge` does for one file. Null when it conflicts. */
  function mergeFile(base: Lock, ours: Lock, theirs: Lock): string | null {
    const files = Object.entries({ ours, base, theirs }).map(([name, one]) => {
      writeFileSync(join(folder, name), renderLock(one));
      return name;
    });
    const result = spawnSync('git', ['merge-file', '-p', ...files], { cwd: folder, encoding: 'utf8' });
    expect(result.status).toBeGreaterThanOrEqual(0);
    expect(result.status).toBeLessThan(128);
    return result.status === 0 ? result.stdout : null;
  }

  it('never makes a hybrid of two changes of one entry: it conflicts, or one side stays whole, or the parser refuses', () => {
    const pair = fc
      .constantFrom(...names)
      .chain((model) =>
        entryOf(model).chain((start) =>
          fc.tuple(fc.constant(model), fc.constant(start), changeOf(model, start), changeOf(model, start)),
        ),
      );
    let merged = 0;
    fc.assert(
      fc.property(pair, ([model, start, one, other]) => {
        const [base, ours, theirs] = [start, one, other].map((entry) =>
          withEntry(two, model, 'production', entry),
        );
        const text = mergeFile(base!, ours!, theirs!);
        if (text === null) return;
        let result: LockEntry | null;
        try {
          result = lockEntry(parseLock(text), model, 'production');
        } catch {
          return;
        }
        merged++;
        expect([one, other]).toContainEqual(result);
      }),
      { numRuns: 150 },
    );
    expect(merged).toBeGreaterThan(0);
  });

  it('agrees with the structural merge whenever it merges and the parser accepts, also where entries are copied', () => {
    let clean = 0;
    fc.assert(
      fc.property(threeLocks, ([base, ours, theirs]) => {
        const text = mergeFile(base, ours, theirs);
        if (text === null) return;
        let result: Lock;
        try {
          result = parseLock(text);
        } catch {
          return;
        }
        clean++;
        const structural = mergeLocks(base, ours, theirs);
        expect(structural.kind === 'merged' && renderLock(structural.lock)).toBe(renderLock(result));
      }),
      { numRuns: 200 },
    );
    expect(clean).toBeGreaterThan(20);
  });
});

describe('git merge of two branches', () => {
  let repo: ScratchRepo;
  beforeAll(() => {
    repo = scratchRepo();
  });
  afterAll(() => repo.dispose());

  /** Commits `base` on main and each side on its own branch, then merges. The text, or null for a conflict. */
  function merge(base: Lock, ours: Lock, theirs: Lock): string | null {
    repo.git('checkout', '-q', '--orphan', `base-${process.hrtime.bigint()}`);
    const commitLock = (one: Lock) => {
      repo.write('cdl.lock', renderLock(one));
      return repo.commit('lock');
    };
    const start = commitLock(base);
    const mine = commitLock(ours);
    repo.git('checkout', '-q', '--detach', start);
    commitLock(theirs);
    const clean = repo.tryGit('merge', '-q', '-m', 'merge', mine);
    const text = readFileSync(join(repo.root, 'cdl.lock'), 'utf8');
    if (clean) return text;
    expect(() => parseLock(text)).toThrow(expect.objectContaining({ code: 'lock-conflict' }));
    repo.git('merge', '--abort');
    return null;
  }

  it('conflicts when both put another candidate into one entry, and the parser refuses what git leaves', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 99 }), { minLength: 3, maxLength: 3 }),
        (seeds) => {
          const [base, ours, theirs] = seeds.map((seed) =>
            withEntry(two, 'fashion', 'production', sample('fashion', `seed ${seed}`)),
          );
          expect(merge(base!, ours!, theirs!)).toBeNull();
        },
      ),
      { numRuns: 5 },
    );
  });

  it('joins changes of different models, and so does the structural merge', () => {
    const ours = withEntry(two, 'fashion', 'production', sample('fashion', 'ours'));
    const theirs = withEntry(two, 'news', 'staging', sample('news', 'theirs'));
    const both = withEntry(ours, 'news', 'staging', sample('news', 'theirs'));
    expect(merge(two, ours, theirs)).toBe(renderLock(both));
    expect(mergeLocks(two, ours, theirs)).toEqual({ kind: 'merged', lock: both });
  });

  it('joins changes of different environments of one model, by the structural merge at the least', () => {
    const base = withEntry(two, 'fashion', 'staging', sample('fashion', 'z'));
    const ours = withEntry(base, 'fashion', 'production', sample('fashion', 'ours'));
    const theirs = withEntry(base, 'fashion', 'staging', sample('fashion', 'theirs'));
    const both = renderLock(withEntry(ours, 'fashion', 'staging', sample('fashion', 'theirs')));
    expect([null, both]).toContain(merge(base, ours, theirs));
    const structural = mergeLocks(base, ours, theirs);
    expect(structural.kind === 'merged' && renderLock(structural.lock)).toBe(both);
  });

  it('does not put a change into the copy when the other side copies the entry and changes the original', () => {
    const moved = withEntry(two, 'fashion', 'canary', sample('fashion', 'x'));
    const theirs = withEntry(moved, 'fashion', 'production', sample('fashion', 'theirs'));
    // The same candidate evaluated anew: the case in which line 1 stays and cannot collide.
    const again = { ...sample('fashion', 'x'), evaluation: digestBytes('again') };
    const ours = withEntry(two, 'fashion', 'production', again);
    expect(merge(two, ours, theirs)).toBeNull();
    expect(mergeLocks(two, ours, theirs)).toEqual({ kind: 'conflict', entries: [['fashion', 'production']] });
  });

  it('does not mix a promotion that copies an entry with a change of the entry that is copied', () => {
    const copied = withEntry(two, 'fashion', 'staging', sample('fashion', 'x'));
    const changed = withEntry(two, 'fashion', 'production', sample('fashion', 'new'));
    const text = merge(two, copied, changed);
    const wanted = withEntry(changed, 'fashion', 'staging', sample('fashion', 'x'));
    expect([null, renderLock(wanted)]).toContain(text);
  });
});

describe('an entry', () => {
  it('names the candidate of its own lines', () => {
    fc.assert(
      fc.property(entryOf('fashion'), (entry) => {
        expect(candidateDigest(entryCandidate('fashion', entry))).toBe(entry.candidate);
        expect(candidateDigest(entryCandidate('other', entry))).not.toBe(entry.candidate);
      }),
    );
  });
});
