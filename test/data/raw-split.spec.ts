import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import type { DatasetConfig, SourceConfig } from '../../src/core/project.ts';
import { readSides, recordSides, type Sides } from '../../src/data/carried.ts';
import type { DatasetMeta } from '../../src/data/dataset.ts';
import { createNearIndex } from '../../src/data/near.ts';
import { buildRawDataset, type Conflict } from '../../src/data/raw-dataset.ts';
import type { RawItem } from '../../src/data/raw-item.ts';
import { countVersion, manifestLie } from '../../src/data/recount.ts';
import { readRawItems } from '../../src/data/shards.ts';
import { checkStratified, sidesOf } from '../../src/data/sides.ts';
import { createZone, openStore, type Zone } from '../../src/store/index.ts';

let folder: string;
let zone: Zone;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-split-'));
  zone = createZone('work', await openStore(`file:${folder}/store`, null));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Line {
  t: string;
  y: string;
  who?: string;
}

/** A line of the quarantine. */
interface Aside {
  reason: string;
  item: Digest;
  class?: number;
  joins?: Digest;
}

const sha256 = 'a'.repeat(64);
const idOf = (t: string): Digest => `sha256:${createHash('sha256').update(t).digest('hex')}`;

/** Both sides of these lines, as data versions and as items. */
async function build(
  lines: readonly Line[],
  split: Partial<DatasetConfig['split']> = {},
  only?: SourceConfig['side'],
  before?: Sides,
) {
  const path = join(folder, 'lines.jsonl');
  await writeFile(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const source: SourceConfig = {
    file: ['lines.jsonl'],
    sha256,
    ...(only && { side: only }),
    read: {
      ...{ format: 'jsonl', text: 't', label: 'y' },
      ...(lines.some(({ who }) => who !== undefined) && { attributes: ['who'] }),
    },
  };
  const config: DatasetConfig = {
    item: 'text',
    shape: [],
    classes: ['a', 'b'],
    sources: [source],
    split: { key: 'k', test: 0.3, validation: 0.1, ...split },
    rules: { min_items: 1, min_per_class: 1, max_invalid: 0.5 },
  };
  const fetched = { source, files: [{ name: 'lines.jsonl', path, sha256 }] };
  const made = {
    digest: {} as Record<string, string>,
    items: [] as (RawItem & { side: string })[],
    aside: [] as Aside[],
  };
  const metas = [];
  const carried: (Digest | null)[] = [];
  let conflicts: Conflict[] = [];
  for (const side of ['train', 'test'] as const) {
    const built = await buildRawDataset('d', config, fetched, side, zone, before);
    const { digest, meta, sides } = built;
    conflicts = built.conflicts;
    made.digest[side] = digest;
    carried.push(sides);
    metas.push(meta);
    const target = await mkdtemp(join(folder, 'open-'));
    await zone.saveArtifact(digest, target);
    for await (const item of readRawItems(target)) made.items.push({ ...item, side });
    const text = await readFile(join(target, 'quarantine.jsonl'), 'utf8');
    for (const one of text.split('\n')) if (one !== '') made.aside.push(JSON.parse(one));
  }
  // Both sides tell the same of all items.
  expect(carried[0]).toBe(carried[1]);
  return { ...made, metas, conflicts, sides: carried[0]!, config };
}

const sides = (made: Awaited<ReturnType<typeof build>>) =>
  new Map(made.items.map((item) => [item.id, item.side]));

const line = fc.record({
  t: fc.stringMatching(/^[a-f]{1,3}$/),
  y: fc.constantFrom('a', 'b'),
  who: fc.constantFrom('ann', 'bob', 'cyd', 'dan'),
});
// One label for each text: copies that disagree are another matter.
const lines = fc
  .array(line, { minLength: 1, maxLength: 40 })
  .map((all) => all.map((one) => ({ ...one, y: one.t.length % 2 ? 'a' : 'b' })));

/** For each text those that are grouped with it. */
function groupsOf(texts: readonly string[], threshold = 0.5): string[][] {
  const index = createNearIndex(threshold);
  for (const text of texts) index.add(Buffer.from(text));
  const roots = index.groups();
  return texts.map((_, at) => texts.filter((_, other) => roots[other] === roots[at]).sort());
}

describe('the split of raw items', () => {
  test('never moves an item when others come, and does not depend on their order', async () => {
    await fc.assert(
      fc.asyncProperty(lines, lines, async (before, more) => {
        const small = await build(before);
        const grown = await build([...more.toReversed(), ...before.toReversed()]);
        const now = sides(grown);
        for (const [id, side] of sides(small)) expect(now.get(id)).toBe(side);
        expect(new Set(grown.items.map((item) => item.id)).size).toBe(grown.items.length);
        expect((await build(before.toReversed())).digest).toEqual(small.digest);
      }),
      { numRuns: 8 },
    );
  });

  test('keeps a declared group whole, on a side that growth does not change', async () => {
    await fc.assert(
      fc.asyncProperty(lines, lines, async (before, more) => {
        // Each text belongs to one person, or its copies would tie two groups together.
        const who = (one: Line) => ({ ...one, who: ['ann', 'bob', 'cyd', 'dan'][one.t.charCodeAt(0) % 4]! });
        const small = await build(before.map(who), { group_by: 'who' });
        const grown = await build([...before, ...more].map(who), { group_by: 'who' });
        const of = (made: typeof small) => {
          const found = new Map<string, Set<string>>();
          for (const { attributes, side } of made.items) {
            found.set(attributes.who!, (found.get(attributes.who!) ?? new Set()).add(side));
          }
          return found;
        };
        for (const [name, side] of of(grown)) expect([name, side.size]).toEqual([name, 1]);
        for (const [name, side] of of(small)) expect(of(grown).get(name)).toEqual(side);
        expect(grown.metas[0]!.groups).toBe(of(grown).size);
      }),
      { numRuns: 6 },
    );
  });

  test('withholds about the share that was asked for, of every class', async () => {
    const many = Array.from({ length: 2000 }, (_, n) => ({ t: `text ${n}`, y: n % 4 ? 'a' : 'b' }));
    const { metas } = await build(many, { stratify: true });
    const [train, withheld] = metas.map((meta) => meta.perClass);
    for (const label of [0, 1]) {
      const share = withheld![label]! / (withheld![label]! + train![label]!);
      expect(share).toBeGreaterThan(0.24);
      expect(share).toBeLessThan(0.36);
    }
  });

  test('is counted again from its files: what says something else, or names an item twice, is found', async () => {
    const made = await build(
      ['one', 'two', 'three', 'same'].flatMap((t) => [
        { t, y: 'a' },
        ...(t === 'same' ? [{ t, y: 'b' }] : []),
      ]),
    );
    const [meta] = made.metas as [DatasetMeta];
    const version = made.digest.train as Digest;
    const { files } = await zone.getArtifact(version);
    const counts = await countVersion(zone, version, files, 2);
    expect(manifestLie(meta, counts)).toBeNull();
    expect(counts).toMatchObject({ count: meta.count, aside: 2 });
    const lie = { ...meta, quarantined: {} };
    expect(manifestLie(lie, counts)).toBe('its manifest says 0 items set aside, its files hold 2');
    const index = files.find(({ path }) => path === 'index.jsonl')!;
    const doubled = `${await zone.readBlob(index.digest)}`.repeat(2);
    const other = { ...index, ...(await zone.putBlob(doubled)) };
    await expect(
      countVersion(zone, version, [other, ...files.filter((file) => file !== index)], 2),
    ).rejects.toMatchObject({ code: 'artifact-corrupt', message: expect.stringContaining('each once') });
  });

  test('sets copies with different labels aside, all of them, and counts exact copies', async () => {
    const { items, metas, conflicts, aside } = await build([
      { t: 'same', y: 'a' },
      { t: 'same', y: 'b' },
      { t: 'twice', y: 'a' },
      { t: 'twice', y: 'a' },
    ]);
    expect(items.map((item) => Buffer.from(item.bytes).toString())).toEqual(['twice']);
    expect(metas[0]).toMatchObject({ duplicates: 1, quarantined: { 'conflicting-labels': 2 } });
    expect(aside.map((one) => [one.reason, one.item, one.class])).toEqual([
      ['conflicting-labels', idOf('same'), 0],
      ['conflicting-labels', idOf('same'), 1],
    ]);
    // The version is the same in whatever order they come, so that only the report tells the lines.
    expect(conflicts.map(({ position, label }) => [position, label])).toEqual([
      ['lines.jsonl:1', 'a'],
      ['lines.jsonl:2', 'b'],
    ]);
  });

  test('gives a source of one side wholly to it', async () => {
    const { metas } = await build(
      [
        { t: 'one', y: 'a' },
        { t: 'two', y: 'b' },
      ],
      {},
      'test',
    );
    expect(metas[1]!.count).toBe(2);
  });
});

describe('stratify', () => {
  const groups = (rare: number) =>
    Array.from({ length: 200 }, (_, n) => ({ name: `item ${n}`, labels: [n < rare ? 1 : 0] }));

  test('refuses a split that leaves a class on one side, and names a key that does better', () => {
    // With three items of a class a key that withholds none of them is easily found.
    const split = { test: 0.2, validation: 0.1, stratify: true };
    const bad = Array.from({ length: 50 }, (_, n) => `try-${n}`).find((key) =>
      sidesOf(groups(3), { ...split, key })
        .slice(0, 3)
        .every((side) => side === 'train'),
    )!;
    let hint = '';
    try {
      checkStratified(groups(3), { ...split, key: bad }, ['common', 'rare']);
    } catch (error) {
      hint = (error as { hint: string }).hint;
    }
    const key = /split\.key: (\S+),/.exec(hint)?.[1];
    expect(key).toMatch(/^try-\d+$/);
    expect(() => checkStratified(groups(3), { ...split, key: key! }, ['common', 'rare'])).not.toThrow();
    expect(() => checkStratified(groups(1), { ...split, key: bad }, ['common', 'rare'])).toThrow(
      /of 1 items of rare/,
    );
  });
});

describe('texts nearly the same', () => {
  const words = (from: number, count: number) =>
    Array.from({ length: count }, (_, n) => `word${(from * 7919 + n) % 99991}`).join(' ');

  test('are found, also when one holds the other, whatever the order', () => {
    const long = words(1, 400);
    const part = long.split(' ').slice(100, 250).join(' ');
    const edited = long.replace('word7950', 'another');
    const texts = [long, words(90, 400), part, edited, words(50, 300), 'too short'];
    const first = groupsOf(texts);
    expect(first[0]).toEqual([long, part, edited].sort());
    expect(first[1]).toEqual([texts[1]]);
    const back = groupsOf(texts.toReversed()).toReversed();
    expect(back).toEqual(first);
  });

  test('are told by the threshold: half of a text shared is not nine tenths', () => {
    const [a, b] = [words(1, 200), words(60, 60)];
    const mixed = `${a.split(' ').slice(0, 120).join(' ')} ${b}`;
    expect(groupsOf([a, mixed], 0.5)[0]!.length).toBe(2);
    expect(groupsOf([a, mixed], 0.9)[0]!.length).toBe(1);
  });

  /** A text of 200 words in so many versions, each with one word of its own. */
  const copies = (count: number, from = 1) =>
    Array.from({ length: count }, (_, n) => {
      const all = words(from, 200).split(' ');
      all[(n * 37) % 200] = `own${n}`;
      return all.join(' ');
    });

  test.each([33, 100])('are found however many there are: %d copies', (count) => {
    const [family, other] = [copies(count), copies(count, 77)];
    const texts = family.flatMap((text, n) => [text, other[n]!]);
    const first = groupsOf(texts);
    expect(first[0]).toEqual(family.toSorted());
    expect(first[1]).toEqual(other.toSorted());
    expect(new Set(first.map((group) => group.length))).toEqual(new Set([count]));
    expect(groupsOf(texts.toReversed()).toReversed()).toEqual(first);
  });

  test('are grouped the same whatever the order, also where many share what they share', () => {
    const family = copies(40);
    const footer = words(500, 60);
    const texts = [...family, ...Array.from({ length: 40 }, (_, n) => `${words(n * 300 + 9, 30)} ${footer}`)];
    const expected = new Map(groupsOf(texts).map((group, at) => [texts[at]!, group]));
    const shuffled = fc.shuffledSubarray(texts, { minLength: texts.length });
    fc.assert(
      fc.property(shuffled, (other) => {
        for (const [at, group] of groupsOf(other).entries()) expect(group).toEqual(expected.get(other[at]!));
      }),
      { numRuns: 20 },
    );
  });

  test('are not those that share a footer with many others, and not the footer itself', () => {
    const footer = words(500, 60);
    const texts = Array.from({ length: 50 }, (_, n) => `${words(n * 300 + 9, 150)} ${footer}`);
    expect(groupsOf([...texts, footer]).every((group) => group.length === 1)).toBe(true);
  });

  test('are found among long texts too, where a phrase said over and over counts once', () => {
    const chant = (last: string) => `${'to be or not to be that is the question '.repeat(400)} ${last}`;
    const [long, hamlet] = [words(1, 30_000), chant(words(40, 120))];
    const edited = long.replaceAll(/word\d*7 /g, (word, at: number) => (at % 5 === 0 ? 'another ' : word));
    const groups = groupsOf([long, edited, words(60, 30_000), hamlet, chant(words(80, 120))]);
    expect(groups.map((group) => group.length)).toEqual([2, 2, 1, 1, 1]);
    expect(groupsOf([hamlet, `${hamlet} ${words(40, 5)}`])[0]).toHaveLength(2);
  });

  test('are told of a binary of many megabytes as well, without holding all that is in it', () => {
    const bytes = Buffer.alloc(24 << 20);
    for (let at = 0, state = 1; at < bytes.length; at += 4) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      bytes.writeUInt32LE((state ^ (state >>> 15)) >>> 0, at);
    }
    const index = createNearIndex(0.5);
    const held = process.memoryUsage().rss;
    for (const one of [bytes, Buffer.from(words(1, 50)), bytes.subarray(0, bytes.length - 99)])
      index.add(one);
    expect([...index.groups()]).toEqual([0, 1, 0]);
    // All of its five million shingles at once take more than this.
    expect(process.memoryUsage().rss - held).toBeLessThan(500 << 20);
  });

  test('stay on one side', async () => {
    const many = Array.from({ length: 30 }, (_, n) => words(n * 100, 60)).flatMap((text, n) => [
      { t: text, y: n % 2 ? 'a' : 'b' },
      { t: `${text} and a little more`, y: n % 2 ? 'a' : 'b' },
    ]);
    const { items, metas } = await build(many);
    expect(metas[0]!.alike).toBe(30);
    const bySide = new Map<string, Set<string>>();
    for (const { bytes, side } of items) {
      const start = Buffer.from(bytes).toString().split(' ')[0]!;
      bySide.set(start, (bySide.get(start) ?? new Set()).add(side));
    }
    expect([...bySide.values()].every((set) => set.size === 1)).toBe(true);
    expect((await build(many, { group_near: 'off' })).metas[0]!.alike).toBeUndefined();
  });
});

describe('a split that goes on from the version before', () => {
  const words = (from: number, count: number) =>
    Array.from({ length: count }, (_, n) => `w${from + n}`).join(' ');
  /** Copies of six texts, each with words of its own at its end, and texts that hold two of them. */
  const text = fc.oneof(
    { weight: 4, arbitrary: fc.record({ family: fc.nat(5), own: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ family: fc.nat(5), other: fc.nat(5), own: fc.nat(30) }) },
  );
  const lineOf = (one: { family: number; other?: number; own: number }): Line => ({
    t: [
      words(one.family * 100, 40),
      ...('other' in one ? [words(one.other! * 100, 40)] : []),
      `own${one.own}`,
    ].join(' '),
    y: 'a',
  });

  test('moves no item and parts no copies, in whatever order and portions they come', async () => {
    const portions = fc.array(fc.array(text.map(lineOf), { minLength: 1, maxLength: 8 }), {
      minLength: 2,
      maxLength: 4,
    });
    let moves = 0;
    let aside = 0;
    await fc.assert(
      fc.asyncProperty(portions, async (all) => {
        const given: Line[] = [];
        let was = new Map<Digest, string>();
        let before: Sides | undefined;
        for (const [at, portion] of all.entries()) {
          given.push(...portion);
          const made = await build(given, {}, undefined, before);
          const now = sides(made);
          // Without what was before, at the end: what comes out of that alone.
          const anew = at === all.length - 1 ? sides(await build(given.toReversed())) : now;
          for (const [id, side] of was) {
            expect([id, now.get(id)]).toEqual([id, side]);
            if (anew.get(id) !== side) moves += 1;
          }
          // Whoever came is on the side of what was there and is grouped with it, or set aside.
          const ids = new Set(given.map(({ t }) => idOf(t)));
          const quarantined = made.metas[0]!.quarantined['joins-both-sides'] ?? 0;
          aside += quarantined;
          for (const one of made.aside) {
            const group = groupsOf([...new Set(given.map(({ t }) => t))]).find((all) =>
              all.map(idOf).includes(one.item),
            );
            expect(group!.map(idOf)).toContain(one.joins);
            expect([one.reason, was.get(one.joins!)]).toEqual(['joins-both-sides', 'train']);
          }
          expect(now.size + quarantined).toBe(ids.size);
          for (const group of groupsOf([...new Set(given.map((one) => one.t))])) {
            const members = group.map(idOf);
            const old = new Set(members.filter((id) => was.has(id)).map((id) => was.get(id)));
            const came = members.filter((id) => !was.has(id)).map((id) => now.get(id));
            if (old.size === 2) expect(new Set([undefined, ...came])).toEqual(new Set([undefined]));
            else expect(new Set([...old, ...came]).size).toBe(1);
          }
          was = now;
          const next = await readSides([zone], made.sides);
          if (at === all.length - 1)
            expect((await build(given.toReversed(), {}, undefined, before)).digest).toEqual(made.digest);
          before = next;
        }
      }),
      { numRuns: 6, seed: 5 },
    );
    // These portions do hold what an earlier version of the split got wrong.
    expect(moves).toBeGreaterThan(0);
    expect(aside).toBeGreaterThan(0);
  });

  test('is asked for when an item would move, with the line to write', async () => {
    const scope = { project: 'p', dataset: 'grown' };
    const base = { family: 1, own: 1 };
    const first = await build([lineOf(base)]);
    await recordSides(zone, scope, first.config, first.sides);
    const side = [...sides(first).values()][0];
    // Copies until one has a smaller id and a name on the other side: that would take the first with it.
    for (let own = 2; ; own++) {
      const lines = [lineOf(base), lineOf({ family: 1, own })];
      const grown = await build(lines);
      if (sides(grown).get(idOf(lines[0]!.t)) === side) continue;
      await expect(recordSides(zone, scope, grown.config, grown.sides)).rejects.toMatchObject({
        message: '1 items of grown would change sides: what came since joins them with others',
        hint: expect.stringContaining(`after: ${first.sides} }`),
      });
      const kept = await build(lines, {}, undefined, await readSides([zone], first.sides));
      expect(new Set(sides(kept).values())).toEqual(new Set([side]));
      await recordSides(zone, scope, kept.config, kept.sides);
      break;
    }
    await expect(readSides([zone], `sha256:${'0'.repeat(64)}`)).rejects.toMatchObject({
      code: 'input-missing',
    });
  });
});
