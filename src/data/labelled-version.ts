import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson, type Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { LabelsConfig } from '../core/project-labels.ts';
import type { Zone } from '../store/types.ts';
import { placesOfVersion, storeFiles } from './in-place.ts';
import type { Agreement } from './label-agreement.ts';
import {
  agreementOfVotes,
  type LabelSet,
  type Resolution,
  resolveVotes,
  type Vote,
  votesByItem,
} from './label-set.ts';
import type { RawItem } from './raw-item.ts';
import { readRawItems, writeShards } from './shards.ts';
import { indexOfVersion } from './version-index.ts';

const rawMetaSchema = z.looseObject({
  v: z.literal(2, 'only texts, images, records and files are labelled'),
  side: z.enum(['train', 'test']),
  classes: z.array(z.string()),
  quarantined: z.record(z.string(), z.int()),
});

/** What a labelled version is made of; the same gives the same digest. */
export interface LabelledInput {
  dataset: Digest;
  labels: Digest;
  set: LabelSet;
  config: LabelsConfig;
}

/** What came out, for the report. */
export interface Labelled {
  digest: Digest;
  classes: string[];
  count: number;
  perClass: number[];
  /** Items that nobody, or too few, have labelled: in the version without a label. */
  unlabelled: number;
  conflicts: { item: Digest; choices: [string, number][] }[];
  /** Votes for what is no class: set aside. */
  unknownChoices: number;
  /** Votes for items that an earlier version had and this one has not: set aside, but part of the agreement. */
  goneVotes: number;
  agreement: Agreement;
  /** Whether the agreement is enough to be approved, and if not, why. */
  refused: string | null;
  /** Votes by masked labeler. */
  labelers: [string, number][];
  /** By item, to compare with another version. */
  labels: Map<Digest, string>;
}

/** Why an agreement is not enough; null when it is, or nothing is asked. */
export function agreementProblem(agreement: Agreement, config: LabelsConfig): string | null {
  const least = config.min_agreement;
  if (least === undefined) return null;
  if (agreement.alpha === null) {
    return `labels.min_agreement asks for ${least}, but alpha is not defined: no item has two votes, or all votes are the same`;
  }
  if (agreement.alpha >= least) return null;
  return `Krippendorff's alpha is ${agreement.alpha.toFixed(3)}, less than labels.min_agreement ${least}`;
}

/**
 * Makes the labelled version of a raw data version: the same items with the labels that a label set gives them. An item whose
 * votes decide nothing is set aside or stays without a label, as `conflicts` says; one without enough votes keeps the label of
 * its source, if it has any. Votes for items that are gone since they were pushed are set aside. Throws UserError
 * data-invalid when the label set names an item that no version had; nothing is stored then.
 */
export async function buildLabelled(name: string, input: LabelledInput, zone: Zone): Promise<Labelled> {
  const { config, set } = input;
  const folder = await mkdtemp(join(tmpdir(), 'cdl-labelled-'));
  try {
    const data = join(folder, 'data');
    const manifest = await zone.saveArtifact(input.dataset, data);
    const parsed = rawMetaSchema.safeParse(manifest.meta);
    if (!parsed.success) {
      throw new UserError('data-invalid', `${input.dataset}: ${z.prettifyError(parsed.error)}`);
    }
    const { classes, side, quarantined } = parsed.data;
    if (side !== set.side) {
      throw new UserError(
        'data-invalid',
        `labels of the ${set.side} side do not fit data of the ${side} side`,
      );
    }
    const votes = votesByItem(set.votes);
    const pending = new Set(votes.keys());
    const found: Pick<Labelled, 'conflicts' | 'unknownChoices' | 'goneVotes' | 'unlabelled' | 'labels'> = {
      conflicts: [],
      goneVotes: 0,
      unknownChoices: 0,
      unlabelled: 0,
      labels: new Map(),
    };
    const perClass = classes.map(() => 0);
    const aside: string[] = [];
    const reasons: Record<string, number> = { ...quarantined };
    const setAside = (item: RawItem, reason: string) => {
      aside.push(canonicalJson({ reason, position: item.attributes.path ?? item.id, item: item.id }));
      reasons[reason] = (reasons[reason] ?? 0) + 1;
    };
    let count = 0;
    const decide = (item: RawItem): RawItem | null => {
      pending.delete(item.id);
      const list = votes.get(item.id);
      const answer: Resolution = list ? resolveVotes(list, config, classes) : { kind: 'scarce', votes: 0 };
      switch (answer.kind) {
        case 'labelled':
          return { ...item, label: classes.indexOf(answer.label) };
        case 'scarce':
          return item;
        case 'unknown-choice':
          found.unknownChoices += 1;
          setAside(item, 'label-no-class');
          return null;
        case 'conflict':
          found.conflicts.push({ item: item.id, choices: answer.choices });
          if (config.conflicts === 'unlabelled') return { ...item, label: null };
          setAside(item, 'labelers-disagree');
          return null;
      }
    };
    const labelled = async function* (): AsyncGenerator<RawItem> {
      for await (const item of readRawItems(data)) {
        const kept = decide(item);
        if (!kept) continue;
        count += 1;
        if (kept.label === null) found.unlabelled += 1;
        else {
          perClass[kept.label]! += 1;
          found.labels.set(kept.id, classes[kept.label]!);
        }
        yield kept;
      }
    };
    const output = await mkdtemp(join(folder, 'output-'));
    const names = await writeShards(labelled(), output, classes);
    const gone = await goneItems(zone, pending, votes);
    const unknown = [...pending].filter((item) => !gone.has(item));
    if (unknown.length > 0) {
      throw new UserError(
        'data-invalid',
        `the labels ${input.labels} are about ${unknown.length} items that neither the data version ${input.dataset} nor the one they were pushed from has: ${unknown.slice(0, 3).join(', ')}`,
        'delete the tasks of these items on the label server: items get there by cdl label only; no version was made',
      );
    }
    for (const item of gone) found.goneVotes += votes.get(item)!.length;
    const before = await readFile(join(data, 'quarantine.jsonl'), 'utf8');
    await writeFile(join(output, 'classes.json'), `${canonicalJson(classes)}\n`);
    await writeFile(join(output, 'quarantine.jsonl'), before + aside.map((line) => `${line}\n`).join(''));
    const paths = [...names, 'classes.json', 'quarantine.jsonl'];
    const files = await storeFiles(zone, output, paths, await placesOfVersion(zone, manifest));
    const agreement = agreementOfVotes(set.votes);
    const refused = agreementProblem(agreement, config);
    const digest = await zone.putArtifact({
      kind: 'dataset',
      name: `${name}-${side}`,
      files,
      parents: [input.dataset],
      meta: {
        ...manifest.meta,
        count,
        perClass,
        quarantined: reasons,
        labels: { set: input.labels, unlabelled: found.unlabelled, alpha: agreement.alpha, refused },
      },
    });
    const by = new Map<string, number>();
    for (const { labeler } of set.votes)
      by.set(labeler ?? 'unknown', (by.get(labeler ?? 'unknown') ?? 0) + 1);
    // The number is all that a reader may learn: which server it is of says the configuration.
    const labelers = [...by]
      .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
      .map(([who, times]): [string, number] => [who.split('@').at(-1)!, times]);
    return { digest, classes, count, perClass, agreement, refused, labelers, ...found };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** How the labels of two versions differ: items by what they were and are. */
export function compareLabels(
  before: ReadonlyMap<Digest, string>,
  after: ReadonlyMap<Digest, string>,
): { added: number; removed: number; changed: [string, string, number][] } {
  const changes = new Map<string, number>();
  let added = 0;
  for (const [item, label] of after) {
    const was = before.get(item);
    if (was === undefined) added += 1;
    else if (was !== label) {
      const key = JSON.stringify([was, label]);
      changes.set(key, (changes.get(key) ?? 0) + 1);
    }
  }
  const removed = [...before.keys()].filter((item) => !after.has(item)).length;
  const changed = [...changes].map(([key, count]): [string, string, number] => {
    const [from, to] = JSON.parse(key) as [string, string];
    return [from, to, count];
  });
  return { added, removed, changed: changed.sort((a, b) => b[2] - a[2] || (a[0] < b[0] ? -1 : 1)) };
}

/** The labels of a stored raw data version, by item: its index alone is read. */
export async function labelsOfVersion(
  zone: Zone,
  digest: Digest,
  classes: readonly string[],
): Promise<Map<Digest, string>> {
  const labels = new Map<Digest, string>();
  for (const { id, label } of await indexOfVersion(zone, digest)) {
    if (label !== null) labels.set(id, classes[label] ?? String(label));
  }
  return labels;
}

/**
 * Those of these items that an earlier version had: one that their votes name, or one that is no longer stored, which nobody
 * can look into.
 */
async function goneItems(
  zone: Zone,
  items: ReadonlySet<Digest>,
  votes: ReadonlyMap<Digest, readonly Vote[]>,
): Promise<Set<Digest>> {
  const gone = new Set<Digest>();
  const byVersion = new Map<Digest, Set<Digest>>();
  for (const item of items) {
    for (const { version } of votes.get(item) ?? []) {
      if (version) byVersion.set(version, (byVersion.get(version) ?? new Set()).add(item));
    }
  }
  for (const [version, named] of byVersion) {
    const had = (await zone.hasArtifact(version))
      ? (await indexOfVersion(zone, version)).map(({ id }) => id).filter((id) => named.has(id))
      : named;
    for (const item of had) gone.add(item);
  }
  return gone;
}
