import {
  type Block,
  type Change,
  type Claim,
  type CodeFile,
  type DatasetConfig,
  type Decision,
  type Digest,
  type Evaluation,
  type Live,
  type Measure,
  type ModelConfig,
  metricText,
  numberText,
  type Report,
  shortDigest,
  signedText,
} from '../src/index.ts';
import { splitMetrics } from './report-blocks.ts';

/** What of `cdl.yaml` a version was made with. */
export interface MadeWith {
  model: ModelConfig;
  data: DatasetConfig;
}

/** A version as far as its release tells about it; null parts are not known (any more). */
export interface ReleasedVersion {
  candidate: Digest;
  claim: Claim | null;
  madeWith: MadeWith | null;
  /** The files that its code is. */
  files: readonly CodeFile[] | null;
  /** Items of the data version it was trained on, all of them and by class in the order of its classes. */
  items: { count: number; perClass: number[] } | null;
}

/** What became live by a decision, in one environment. */
export interface Promoted {
  model: string;
  environment: string;
  live: Live;
  decision: Pick<Decision, 'change' | 'approvers' | 'baseline' | 'override'>;
}

/** All that the text of a release is made of. */
export interface Release extends Promoted {
  /** The change it came by; null when it cannot be read. */
  change: Pick<Change, 'title' | 'url'> | null;
  evaluation: Evaluation | null;
  now: ReleasedVersion;
  /** What was live in the environment before; null for the first version there. */
  before: ReleasedVersion | null;
}

/** Differences that are shown; more are only counted. */
const mostDifferences = 50;

/** Longest value that is shown. */
const longest = 80;

/** The difference item by item where it was measured so, else that of the two values. */
function difference(evaluation: Evaluation | null, name: string): string {
  if (!evaluation) return '–';
  const { scores, baselineScores, differences } = evaluation;
  const [now, before] = [scores.metrics[name], baselineScores?.metrics[name]];
  const value = differences[name]?.value ?? (now && before ? now.value - before.value : null);
  return signedText(name, value === null ? null : { value, low: value, high: value });
}

/** A value without its interval. */
const plain = (name: string, one: Measure | undefined): string => (one ? metricText(name, one.value) : '–');

function shown(value: unknown): string {
  if (value === undefined) return 'not set';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const words = text.replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, '$1');
  return words.length <= longest ? words : `${words.slice(0, longest)}…`;
}

/** The values of an object by their paths, as `hyperparameters.epochs`; lists of plain values whole. */
function flatten(value: unknown, path: string, into: Map<string, unknown>): Map<string, unknown> {
  const isList = Array.isArray(value);
  const isPlain = (one: unknown) => one === null || typeof one !== 'object';
  if (isPlain(value) || value === undefined || (isList && value.every(isPlain))) into.set(path, value);
  else {
    for (const [key, one] of Object.entries(value as object)) {
      flatten(one, isList ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`, into);
    }
  }
  return into;
}

/** What differs between two objects, as `[key, 'old → new']` in the order of the keys. Pure. */
export function differingKeys(before: object, now: object): [string, string][] {
  const [old, fresh] = [flatten(before, '', new Map()), flatten(now, '', new Map())];
  const keys = [...new Set([...old.keys(), ...fresh.keys()])].sort();
  return keys.flatMap((key): [string, string][] => {
    const [was, is] = [old.get(key), fresh.get(key)];
    return JSON.stringify(was) === JSON.stringify(is) ? [] : [[key, `${shown(was)} → ${shown(is)}`]];
  });
}

function listed(title: string, differences: [string, string][], none: string): Block[] {
  const left = differences.length - mostDifferences;
  return [
    { kind: 'heading', text: title },
    ...(differences.length > 0
      ? ([{ kind: 'facts', facts: differences.slice(0, mostDifferences) }] satisfies Block[])
      : ([{ kind: 'text', text: none }] satisfies Block[])),
    ...(left > 0 ? ([{ kind: 'text', text: `and ${left} more` }] satisfies Block[]) : []),
  ];
}

function fileDifferences(before: readonly CodeFile[], now: readonly CodeFile[]): [string, string][] {
  const [old, fresh] = [before, now].map((files) => new Map(files.map((file) => [file.path, file])));
  return [...new Set([...old!.keys(), ...fresh!.keys()])].sort().flatMap((path): [string, string][] => {
    const [was, is] = [old!.get(path), fresh!.get(path)];
    if (was?.digest === is?.digest && was?.mode === is?.mode) return [];
    return [[path, was ? (is ? 'changed' : 'taken out') : 'new']];
  });
}

function codeBlocks(before: ReleasedVersion, now: ReleasedVersion): Block[] {
  const title = 'What changed in the code';
  if (before.claim && before.claim.candidate.code === now.claim?.candidate.code)
    return listed(title, [], 'Nothing.');
  if (before.files && now.files) return listed(title, fileDifferences(before.files, now.files), 'Nothing.');
  return [
    { kind: 'heading', text: title },
    { kind: 'text', text: 'The code of the version before is not known here.' },
  ];
}

function configBlocks(before: ReleasedVersion, now: ReleasedVersion): Block[] {
  const title = 'What changed in the configuration';
  if (!before.madeWith || !now.madeWith) {
    return [
      { kind: 'heading', text: title },
      { kind: 'text', text: 'The configuration of the version before is not known here.' },
    ];
  }
  const found = [before, now].map(({ claim }) => ({ tuned: claim?.tuned ?? {} }));
  return listed(
    title,
    [
      ...differingKeys(before.madeWith.model, now.madeWith.model),
      ...differingKeys(found[0]!, found[1]!).map(([key, what]): [string, string] => [
        `${key} (found by the search)`,
        what,
      ]),
    ],
    'Nothing.',
  );
}

function dataBlocks(before: ReleasedVersion, now: ReleasedVersion): Block[] {
  const versions = [before, now].map(({ claim }) => claim?.candidate.dataset ?? null);
  const facts: [string, string][] = [];
  if (versions[0] !== versions[1]) {
    facts.push(['data version', versions.map((one) => (one ? shortDigest(one) : 'unknown')).join(' → ')]);
    if (before.items && now.items) {
      facts.push(['items', `${numberText(before.items.count)} → ${numberText(now.items.count)}`]);
      for (const [index, name] of (now.madeWith?.data.classes ?? []).entries()) {
        const [was, is] = [before.items.perClass[index], now.items.perClass[index]];
        if (was !== is) facts.push([`items of ${name}`, `${shown(was)} → ${shown(is)}`]);
      }
    }
  }
  if (before.madeWith && now.madeWith) facts.push(...differingKeys(before.madeWith.data, now.madeWith.data));
  return listed('What changed in the data', facts, 'Nothing: both were trained on the same data version.');
}

/** The text of a release: where from, who approved, what changed in numbers, code, configuration and data. Pure. */
export function changelog(release: Release): Report {
  const { model, environment, live, decision, change, evaluation, now, before } = release;
  const approvers = decision.approvers.map((one) => `${one.name} (${one.role})`).join(', ');
  const place = before && (before.claim ? `version ${before.claim.version}` : shortDigest(before.candidate));
  const others = place ? [place, 'difference'] : [];
  const table = (names: readonly string[]): Block => ({
    kind: 'table',
    head: ['metric', `version ${live.version}`, ...others],
    align: ['left', 'right', ...others.map(() => 'right' as const)],
    rows: names.map((name) => [
      name,
      plain(name, evaluation?.scores.metrics[name]),
      ...(place
        ? [plain(name, evaluation?.baselineScores?.metrics[name]), difference(evaluation, name)]
        : []),
    ]),
  });
  const wanted = (now.madeWith?.model.gates ?? []).map((gate) => gate.metric);
  const { first, rest } = evaluation ? splitMetrics(evaluation, wanted) : { first: [], rest: [] };
  return {
    key: `release:${model}`,
    title: `${model} version ${live.version}`,
    verdict: evaluation?.verdict ?? 'pass',
    summary: `Promoted in ${environment}${place ? `, in place of ${place}` : ', the first version there'}.`,
    blocks: [
      ...(change
        ? ([
            {
              kind: 'links',
              links: [{ name: 'change', text: `${decision.change} ${change.title}`, url: change.url }],
            },
          ] satisfies Block[])
        : []),
      {
        kind: 'facts',
        facts: [
          ...(change ? [] : ([['change', decision.change]] as [string, string][])),
          ['approved by', approvers || '–'],
          ...(decision.override
            ? ([['a gate was overruled', decision.override.reason]] as [string, string][])
            : []),
        ],
      },
      ...(evaluation
        ? ([
            { kind: 'gates', gates: evaluation.gates },
            table(first),
            ...(rest.length > 0
              ? ([{ kind: 'details', summary: 'All other metrics', blocks: [table(rest)] }] satisfies Block[])
              : []),
          ] satisfies Block[])
        : []),
      ...(before
        ? [...codeBlocks(before, now), ...configBlocks(before, now), ...dataBlocks(before, now)]
        : []),
    ],
    refs: { candidate: live.candidate, evaluation: live.evaluation, package: live.package, plan: live.plan },
  };
}
