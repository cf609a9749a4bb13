import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import { canonicalJson, type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { LabelsConfig } from '../core/project-labels.ts';
import type { Zone } from '../store/types.ts';
import { type Agreement, agreementOf, listDistance, type Ratings } from './label-agreement.ts';

const voteSchema = z.strictObject({
  item: digestSchema,
  /** The annotation's number on the server it was made on. */
  annotation: z.string(),
  /** Masked: a number of the server, never a name; null where the server does not say who it was. */
  labeler: z.string().nullable(),
  /** Sorted; several where an item may have several labels. */
  choices: z.array(z.string()),
  /** ISO 8601. */
  at: z.string(),
  /** The data version that the item was pushed from, where the server says it. */
  version: digestSchema.optional(),
});

/** What one person says an item is, as it stood at a time. */
export type Vote = z.infer<typeof voteSchema>;

const labelSetSchema = z.strictObject({
  v: z.literal(1),
  project: z.string(),
  dataset: z.string(),
  side: z.enum(['train', 'test']),
  votes: z.array(voteSchema),
});

/** All votes about one side of a data set at one time; content-addressed, so that labels as of it can be had again. */
export type LabelSet = z.infer<typeof labelSetSchema>;

const refSchema = z.strictObject({
  v: z.literal(1),
  digest: digestSchema,
  previous: digestSchema.nullable(),
});

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** The one text of a label set: votes by item, then annotation. */
export function encodeLabelSet(set: LabelSet): string {
  const votes = [...set.votes]
    .map((vote) => ({ ...vote, choices: [...new Set(vote.choices)].sort(order) }))
    .sort((a, b) => order(a.item, b.item) || order(a.annotation, b.annotation));
  return `${canonicalJson({ ...set, votes })}\n`;
}

/** Where the ref of the newest label set is, in the trusted zone. */
export function labelRefKey(project: string, dataset: string, side: LabelSet['side']): string {
  return `labels/${encodeURIComponent(project)}/${dataset}/${side}`;
}

/** The newest label set's digest with the etag to swap it against; null when labels were never synchronised. */
export async function readLabelRef(
  zone: Zone,
  project: string,
  dataset: string,
  side: LabelSet['side'],
): Promise<{ digest: Digest; etag: string } | null> {
  const record = await zone.readRecord(labelRefKey(project, dataset, side));
  if (!record) return null;
  const parsed = refSchema.safeParse(record.value);
  if (parsed.success) return { digest: parsed.data.digest, etag: record.etag };
  throw new UserError('artifact-corrupt', `the label ref of ${dataset} (${side}) is none`);
}

/** A label set by its digest, verified. Throws UserError artifact-missing, artifact-corrupt. */
export async function readLabelSet(zone: Zone, digest: Digest): Promise<LabelSet> {
  const text = (await zone.readBlob(digest)).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError('artifact-corrupt', `${digest} is no label set`, undefined, { cause });
  }
  const parsed = labelSetSchema.safeParse(value);
  if (parsed.success && digestBytes(encodeLabelSet(parsed.data)) === digest) return parsed.data;
  throw new UserError('artifact-corrupt', `${digest} is no label set in canonical form`);
}

/**
 * Stores what `read` gives and points the ref at it. When another writer moves the ref meanwhile, `read` is asked again, so
 * that an older set never replaces a newer one. Returns the digest and whether anything changed.
 */
export async function publishLabelSet(
  zone: Zone,
  scope: Pick<LabelSet, 'project' | 'dataset' | 'side'>,
  read: () => Promise<Vote[]>,
): Promise<{ digest: Digest; changed: boolean }> {
  for (;;) {
    const now = await readLabelRef(zone, scope.project, scope.dataset, scope.side);
    const text = encodeLabelSet({ v: 1, ...scope, votes: await read() });
    const digest = digestBytes(text);
    if (now?.digest === digest) return { digest, changed: false };
    await zone.putBlob(text);
    const done = await zone.writeRecord(
      labelRefKey(scope.project, scope.dataset, scope.side),
      { v: 1, digest, previous: now?.digest ?? null },
      now ? { ifMatch: now.etag } : { ifAbsent: true },
    );
    if (done === 'stored') return { digest, changed: true };
  }
}

/** What became of one item's votes. */
export type Resolution =
  | { kind: 'labelled'; label: string }
  | { kind: 'conflict'; choices: [string, number][] }
  | { kind: 'scarce'; votes: number }
  | { kind: 'unknown-choice'; choice: string };

/** How a list of choices is written as one. */
export function joinChoices(choices: readonly string[]): string {
  return [...new Set(choices)].sort(order).join(' + ');
}

/**
 * Of each labeler the newest vote on an item: nobody is two labelers by annotating twice. Votes without a labeler are each a
 * labeler of their own, since nothing says that two of them are one person's.
 */
function newestVotes(votes: readonly Vote[]): Vote[] {
  const newest = new Map<string, Vote>();
  for (const vote of [...votes].sort((a, b) => order(a.at, b.at)))
    newest.set(vote.labeler ?? `?${vote.annotation}`, vote);
  return [...newest.values()];
}

/**
 * What an item is by its votes: `majority` takes what more than half of all votes say, of lists each choice by itself;
 * `unanimous` what all say, and nothing else; fewer votes than `annotations` decide nothing. An item has one class here:
 * where several choices win, none is its label.
 */
export function resolveVotes(
  votes: readonly Vote[],
  config: Pick<LabelsConfig, 'annotations' | 'resolve'>,
  classes: readonly string[],
): Resolution {
  const said = newestVotes(votes.filter(({ choices }) => choices.length > 0));
  if (said.length < config.annotations) return { kind: 'scarce', votes: said.length };
  const strange = said.flatMap(({ choices }) => choices).find((choice) => !classes.includes(choice));
  if (strange !== undefined) return { kind: 'unknown-choice', choice: strange };
  const counts = new Map<string, number>();
  for (const { choices } of said) {
    const answer = joinChoices(choices);
    counts.set(answer, (counts.get(answer) ?? 0) + 1);
  }
  const ranked = [...counts].sort((a, b) => b[1] - a[1] || order(a[0], b[0]));
  const agreed = classes.filter((name) => {
    const count = said.filter(({ choices }) => choices.includes(name)).length;
    return config.resolve === 'unanimous' ? count > 0 : count * 2 > said.length;
  });
  // Of all that anybody said one choice: nobody said another.
  return agreed.length === 1
    ? { kind: 'labelled', label: agreed[0]! }
    : { kind: 'conflict', choices: ranked };
}

/** Votes by item, in the order of the items' ids. */
export function votesByItem(votes: readonly Vote[]): Map<Digest, Vote[]> {
  const items = new Map<Digest, Vote[]>();
  for (const vote of [...votes].sort((a, b) => order(a.item, b.item) || order(a.annotation, b.annotation))) {
    const list = items.get(vote.item);
    if (list) list.push(vote);
    else items.set(vote.item, [vote]);
  }
  return items;
}

/** Votes as a table of items by labelers; those without a labeler have columns of their own. */
export function ratingsOf(votes: readonly Vote[]): Ratings {
  const items = [...votesByItem(votes.filter(({ choices }) => choices.length > 0)).values()];
  const named = [...new Set(items.flat().flatMap(({ labeler }) => labeler ?? []))].sort(order);
  const nameless = Math.max(0, ...items.map((list) => list.filter((vote) => vote.labeler === null).length));
  return items.map((list) => {
    const newest = newestVotes(list);
    const without = newest.filter(({ labeler }) => labeler === null);
    return [
      ...named.map((name) => newest.find(({ labeler }) => labeler === name)),
      ...Array.from({ length: nameless }, (_, index) => without[index]),
    ].map((vote) => (vote ? joinChoices(vote.choices) : null));
  });
}

/** How far the labelers agree; lists of choices that share some agree in part. */
export function agreementOfVotes(votes: readonly Vote[]): Agreement {
  const lists = new Map(votes.map(({ choices }) => [joinChoices(choices), choices]));
  return agreementOf(ratingsOf(votes), (a, b) => listDistance(lists.get(a)!, lists.get(b)!));
}
