import type { Artifact } from '../core/artifact.ts';
import type { DataEvidence } from '../core/data-decision.ts';
import { type Digest, digestJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import type { Zone } from '../store/types.ts';
import { type DatasetMeta, datasetMetaSchema } from './dataset.ts';
import { agreementOfVotes, readLabelSet } from './label-set.ts';
import { agreementProblem } from './labelled-version.ts';
import { knownReasons } from './quarantine-words.ts';
import { manifestLie, recount } from './recount.ts';
import { validateDataset } from './validate.ts';

/** The evidence about a data version with what people read of it, and why it cannot be approved (null when it can). */
export interface DataStanding {
  evidence: DataEvidence;
  /** One sentence about amount and quality. */
  summary: string;
  refused: string | null;
  /** Items set aside by reason, see {@link knownReasons}. */
  quarantined: [string, number][];
  /** Items of each class, by its name; none where nothing is known. */
  perClass: [string, number][];
}

/**
 * Whether the labels of a data version are good enough, by the label set in the trusted zone and the rules given: what the
 * version says of itself was written where changes may write. `refused` says why not.
 */
export async function judgeLabels(
  trusted: Zone,
  scope: { project: string; dataset: string; side: DatasetMeta['side'] },
  config: Pick<DatasetConfig, 'labels'>,
  meta: Pick<DatasetMeta, 'labels'>,
): Promise<{ labels: DataEvidence['labels']; refused: string | null }> {
  const { labels } = meta;
  if (!labels) {
    const least = config.labels?.min_agreement;
    return {
      labels: null,
      refused:
        least === undefined
          ? null
          : `labels.min_agreement asks for ${least}, and this version was not labelled (the step label makes one that is)`,
    };
  }
  let set: Awaited<ReturnType<typeof readLabelSet>>;
  try {
    set = await readLabelSet(trusted, labels.set);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { labels: null, refused: `its label set cannot be read: ${error.message}` };
  }
  const { project, dataset, side } = scope;
  if (set.project !== project || set.dataset !== dataset || set.side !== side) {
    return { labels: null, refused: `its label set is about ${set.dataset} (${set.side}) of ${set.project}` };
  }
  const agreement = agreementOfVotes(set.votes);
  const problem = config.labels ? agreementProblem(agreement, config.labels) : null;
  // Not in its own words: they were written where changes may write.
  const itself = labels.refused === null ? null : 'the step label found that its labelers agree too little';
  return { labels: { set: labels.set, alpha: agreement.alpha }, refused: problem ?? itself };
}

/** Why what a manifest says of amounts cannot be relied on; null when its files hold just that. */
async function countProblem(
  { work, trusted }: { work: Zone; trusted: Zone },
  version: Digest,
  files: Artifact['files'],
  meta: DatasetMeta,
): Promise<string | null> {
  try {
    return manifestLie(meta, await recount(work, trusted, version, files, meta.classes.length));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return `it cannot be counted: ${error.message}`;
  }
}

/**
 * Judges a data version by its manifest (which the caller read from the store by its digest) and the default branch's rules.
 * With `counted`, for whoever approves, the version is counted again from its files: the manifest was written where changes
 * may write, and one that says something else is refused. What was left out as a copy is in no file and stays as it says.
 * No word of the manifest gets into what people read.
 */
export async function judgeVersion(
  { work, trusted, counted }: { work: Zone; trusted: Zone; counted: boolean },
  project: string,
  dataset: string,
  config: DatasetConfig,
  version: Digest,
  manifest: Pick<Artifact, 'kind' | 'meta' | 'files'>,
): Promise<DataStanding> {
  const parsed = datasetMetaSchema.safeParse(manifest.meta);
  const unknown = (refused: string): DataStanding => ({
    evidence: { dataset, version, verdict: 'fail', findings: [], labels: null },
    summary: 'Nothing is known of it.',
    refused,
    quarantined: [],
    perClass: [],
  });
  if (manifest.kind !== 'dataset') return unknown(`it is a ${manifest.kind}, not a data version`);
  if (!parsed.success) return unknown('its manifest does not say what a data version says');
  const meta = parsed.data;
  if (digestJson(meta.classes) !== digestJson(config.classes)) {
    return unknown('its classes are not those of cdl.yaml on the default branch');
  }
  const lie = counted ? await countProblem({ work, trusted }, version, manifest.files, meta) : null;
  if (lie !== null) return unknown(lie);
  const { verdict, summary, findings } = validateDataset(meta, config.rules);
  const judged = await judgeLabels(trusted, { project, dataset, side: meta.side }, config, meta);
  const refused = meta.side === 'train' ? judged.refused : 'it is the withheld side';
  return {
    evidence: { dataset, version, verdict, findings, labels: judged.labels },
    summary,
    quarantined: knownReasons(meta.quarantined, config.rules),
    perClass: config.classes.map((name, label) => [name, meta.perClass[label] ?? 0]),
    refused: verdict === 'fail' ? `it breaks rules of cdl.yaml: ${summary.replace(/\.$/, '')}` : refused,
  };
}
