import type { DatasetConfig } from '../core/project.ts';
import type { Block, GateLine, Verdict } from '../core/report.ts';
import type { Shared } from './across.ts';
import type { DatasetMeta } from './dataset.ts';

/** What the rules of `cdl.yaml` say of one side of a data set. */
export interface Validation {
  verdict: Verdict;
  /** One sentence. */
  summary: string;
  findings: GateLine[];
  blocks: Block[];
}

const percent = (share: number) => `${(share * 100).toFixed(2)} %`;

/**
 * Judges one side of a data set. Pure, and the same for both sides: counts in the rules speak of the training side; of
 * the test side the same is asked in proportion, less three standard deviations of a Poisson count, since the split is
 * by hash, and of one with sources of its own that there are some. Copies that were left out are no fault, items that were set aside are. `across` is for a withheld side with
 * sources of its own: how many of its items are training data too, null where that is not known.
 */
export function validateDataset(
  meta: DatasetMeta,
  rules: DatasetConfig['rules'],
  across?: Shared | null,
): Validation {
  const need = (limit: number) => {
    if (meta.side === 'train' || limit === 0) return limit;
    // How large a withheld set of its own is has nothing to do with the share of a split.
    if (across !== undefined) return 1;
    const expected = (limit * meta.split.test) / (1 - meta.split.test);
    return Math.max(1, Math.floor(expected - 3 * Math.sqrt(expected)));
  };
  const set = Object.values(meta.quarantined).reduce((sum, count) => sum + count, 0);
  const equal = meta.duplicates + (meta.cleaned?.copies ?? 0);
  const seen = meta.count + equal + set;
  const smallest = meta.perClass.reduce((least, count) => Math.min(least, count), Number.POSITIVE_INFINITY);
  const largest = Math.max(0, ...meta.perClass);
  const scarce = meta.classes[meta.perClass.indexOf(smallest)] ?? '–';
  const imbalance = smallest > 0 ? largest / smallest : Number.POSITIVE_INFINITY;
  // What the test side shows beyond its chance: a class is not to blame for what the hash gave it.
  const chance = (count: number) => (meta.side === 'train' ? 0 : 3 * Math.sqrt(count));
  const certain =
    smallest > 0 ? (largest - chance(largest)) / (smallest + chance(smallest)) : Number.POSITIVE_INFINITY;
  const invalid = seen > 0 ? set / seen : 0;
  const findings: GateLine[] = [
    finding(
      `at least ${need(rules.min_items)} items`,
      meta.count >= need(rules.min_items),
      `${meta.count} items`,
    ),
    finding(
      `at least ${need(rules.min_per_class)} items of each class`,
      smallest >= need(rules.min_per_class),
      `the fewest are ${smallest} of ${scarce}`,
    ),
    finding(
      `at most ${percent(rules.max_invalid)} set aside`,
      invalid <= rules.max_invalid,
      `${set} of ${seen} (${percent(invalid)})`,
    ),
  ];
  if (rules.max_imbalance !== undefined) {
    findings.push(
      finding(
        `largest class at most ${rules.max_imbalance} times the smallest`,
        certain <= rules.max_imbalance,
        `${largest} to ${smallest}, ${Number.isFinite(imbalance) ? imbalance.toFixed(2) : '∞'} times`,
      ),
    );
  }
  findings.push(...duplicateFindings(meta, rules, equal));
  if (across !== undefined) findings.push(...acrossFindings(across, rules.duplicates));
  const broken = findings.filter((one) => one.status === 'fail');
  const summary =
    broken.length === 0
      ? `${meta.count} items in ${meta.classes.length} classes meet all rules.`
      : `${broken.length} of ${findings.length} rules broken: ${broken.map((one) => `${one.name}, but ${one.explanation}`).join('; ')}.`;
  return {
    verdict: broken.length === 0 ? 'pass' : 'fail',
    summary,
    findings,
    blocks: blocksOf(meta, findings),
  };
}

/** What the rules say of copies, exact and near ones. Of raw items both sides are counted, as they were collected together. */
function duplicateFindings(meta: DatasetMeta, rules: DatasetConfig['rules'], equal: number): GateLine[] {
  const { max_exact, max_near } = rules.duplicates ?? {};
  const different = meta.unique ?? meta.count;
  const findings: GateLine[] = [];
  if (max_exact !== undefined) {
    const share = equal > 0 ? equal / (different + equal) : 0;
    findings.push(
      finding(
        `at most ${percent(max_exact)} exact copies`,
        share <= max_exact,
        `${equal} of ${different + equal} (${percent(share)})`,
      ),
    );
  }
  if (max_near !== undefined) {
    const name = `at most ${percent(max_near)} nearly the same as another`;
    const share = meta.alike && different > 0 ? meta.alike / different : 0;
    findings.push(
      meta.alike === undefined
        ? { name, status: 'skip', explanation: 'the items of this version were not compared' }
        : finding(name, share <= max_near, `${meta.alike} of ${different} (${percent(share)})`),
    );
  }
  return findings;
}

/** No split keeps copies apart where each side has a source of its own: what stands on both makes a model look better than it is. */
function acrossFindings(
  across: Shared | null,
  { max_exact = 0, max_near = 0 }: { max_exact?: number | undefined; max_near?: number | undefined } = {},
): GateLine[] {
  const told = (limit: number, what: string, number: number | null): GateLine => {
    const name = `at most ${percent(limit)} of the withheld items are ${what}`;
    if (across === null)
      return { name, status: 'skip', explanation: 'no training side was collected into this store yet' };
    const share = across.count > 0 ? number! / across.count : 0;
    return finding(name, share <= limit, `${number} of ${across.count} (${percent(share)})`);
  };
  const exact = told(max_exact, 'training data, too', across?.shared ?? null);
  if (!across || across.near === null) return [exact];
  return [exact, told(max_near, 'nearly the same as training data', across.near)];
}

function finding(name: string, passes: boolean, explanation: string): GateLine {
  return { name, status: passes ? 'pass' : 'fail', explanation };
}

function blocksOf(meta: DatasetMeta, findings: GateLine[]): Block[] {
  const reasons = Object.entries(meta.quarantined).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    { kind: 'gates', gates: findings },
    {
      kind: 'facts',
      facts: [
        ['Side', meta.side === 'train' ? 'training' : 'test (withheld)'],
        ['Items', `${meta.count}${meta.shape.length > 0 ? ` of shape ${meta.shape.join(' × ')}` : ''}`],
        ['Copies left out', String(meta.duplicates)],
        ...(meta.cleaned
          ? ([
              ['Set aside by cleaning', String(meta.cleaned.aside)],
              ['Made equal by cleaning', meta.cleaned.copies > 0 ? `${meta.cleaned.copies}, left out` : '0'],
            ] as [string, string][])
          : []),
        // A copy in a pair leaks when the two are parted: 2 p (1 − p).
        ...(meta.duplicates > 0
          ? [
              [
                'A random split would leak',
                `about ${Math.round(meta.duplicates * 2 * meta.split.test * (1 - meta.split.test))} items into the test side`,
              ] satisfies [string, string],
            ]
          : []),
        ...(meta.alike === undefined
          ? []
          : ([['Nearly the same as another', `${meta.alike}, which stay on its side of the split`]] as [
              string,
              string,
            ][])),
        ['Source', meta.source.names.join(', ')],
        ['Split', `by keyed hash, ${percent(meta.split.test)} withheld`],
      ],
    },
    {
      kind: 'chart',
      chart: {
        kind: 'bars',
        title: `Items of each class (${meta.side})`,
        x: 'class',
        y: 'items',
        bars: meta.classes.map((name, index) => ({ name, value: meta.perClass[index] ?? 0 })),
      },
    },
    ...(reasons.length === 0
      ? []
      : [
          {
            kind: 'table' as const,
            head: ['set aside because', 'items'],
            align: ['left' as const, 'right' as const],
            rows: reasons.map(([reason, count]) => [reason, String(count)]),
          },
        ]),
  ];
}
