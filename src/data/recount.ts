import { createInterface } from 'node:readline';
import { z } from 'zod';
import { type Artifact, digestSchema } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';
import type { DatasetMeta } from './dataset.ts';
import { parseIdx } from './idx.ts';

const countsSchema = z.strictObject({
  v: z.literal(1),
  count: z.int().nonnegative(),
  perClass: z.array(z.int().nonnegative()),
  unlabelled: z.int().nonnegative(),
  aside: z.int().nonnegative(),
});

/** What the files of a data version hold: items, those of each class, those without a label, and lines of its quarantine. */
export type Counts = z.output<typeof countsSchema>;

const lineSchema = z.object({ id: digestSchema, label: z.int().nonnegative().nullable() });

/**
 * Counts a data version from its own files: the index of raw items or the labels of tensors, by which it is trained, and the
 * quarantine. Items stay where they are. Throws UserError artifact-missing or artifact-corrupt, also for an index that
 * names an item twice or a class that is none.
 */
export async function countVersion(
  zone: Zone,
  version: Digest,
  files: Artifact['files'],
  classes: number,
): Promise<Counts> {
  const bad = (what: string) => new UserError('artifact-corrupt', `the data version ${version} ${what}`);
  const find = (path: string) => files.find((file) => file.path === path)?.digest ?? null;
  const counts: Counts = {
    v: 1,
    count: 0,
    perClass: Array.from({ length: classes }, () => 0),
    unlabelled: 0,
    aside: 0,
  };
  const add = (label: number | null) => {
    counts.count += 1;
    if (label === null) counts.unlabelled += 1;
    else if (label < classes) counts.perClass[label]! += 1;
    else throw bad(`has an item of class ${label}, of ${classes}`);
  };
  const lines = async function* (digest: Digest) {
    for await (const line of createInterface({ input: await zone.openBlob(digest) })) if (line) yield line;
  };
  const [index, labels, quarantine] = ['index.jsonl', 'labels.idx', 'quarantine.jsonl'].map(find);
  if (index) {
    let last = '';
    for await (const line of lines(index)) {
      const one = lineSchema.safeParse(jsonOf(line));
      if (!one.success) throw bad('has an index.jsonl that is none');
      if (one.data.id <= last) throw bad('has an index.jsonl that is not in the order of its ids, each once');
      last = one.data.id;
      add(one.data.label);
    }
  } else if (labels) {
    for (const label of parseIdx(await zone.readBlob(labels), 'labels.idx').data) add(label);
  } else throw bad('has neither index.jsonl nor labels.idx');
  if (!quarantine) throw bad('has no quarantine.jsonl');
  for await (const _ of lines(quarantine)) counts.aside += 1;
  return counts;
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/**
 * As {@link countVersion}, counted once: a version never changes, so that the counts are kept in the trusted zone, where
 * nobody writes who could lie.
 */
export async function recount(
  work: Zone,
  trusted: Zone,
  version: Digest,
  files: Artifact['files'],
  classes: number,
): Promise<Counts> {
  const key = `recounts/${version.slice(7)}-${classes}`;
  const known = countsSchema.safeParse((await trusted.readRecord(key))?.value);
  if (known.success) return known.data;
  const counts = await countVersion(work, version, files, classes);
  await trusted.writeRecord(key, counts);
  return counts;
}

/** What a manifest says of its version that is not so; null when all of it is. */
export function manifestLie(meta: DatasetMeta, counts: Counts): string | null {
  const told = Object.values(meta.quarantined).reduce((sum, count) => sum + count, 0);
  const pairs: [string, number, number][] = [
    ['items', meta.count, counts.count],
    ...meta.classes.map((name, at): [string, number, number] => [
      `items of ${name}`,
      meta.perClass[at] ?? 0,
      counts.perClass[at] ?? 0,
    ]),
    ...(meta.labels
      ? [
          ['items without a label', meta.labels.unlabelled, counts.unlabelled] satisfies [
            string,
            number,
            number,
          ],
        ]
      : []),
    ['items set aside', told, counts.aside],
  ];
  const wrong = pairs.find(([, said, found]) => said !== found);
  if (wrong) return `its manifest says ${wrong[1]} ${wrong[0]}, its files hold ${wrong[2]}`;
  return meta.perClass.length === meta.classes.length
    ? null
    : 'its manifest counts other classes than it has';
}
