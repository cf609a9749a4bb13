import {
  type Block,
  bytesText,
  type Evaluation,
  limitText,
  measureText,
  metricText,
  numberText,
  planDeployment,
  plural,
  type StepFailure,
  shortDigest,
  signedText,
} from '../src/index.ts';
import { diffLines } from './diff.ts';
import type { Background } from './history.ts';
import type { Facts } from './types.ts';

/** A paragraph. */
export const text = (value: string): Block => ({ kind: 'text', text: value });

/** What a reviewer looks at first, whether the project asks for it or not. */
const usual = ['accuracy', 'macro_f1', 'log_loss', 'ece', 'roc_auc', 'size_bytes', 'latency_ms'];

/** The metrics of an evaluation: those that are wanted or usual, and all others. */
export function splitMetrics(
  { scores }: Pick<Evaluation, 'scores'>,
  wanted: readonly string[],
): { first: string[]; rest: string[] } {
  const known = Object.keys(scores.metrics);
  const first = [...new Set([...wanted, ...usual])].filter((name) => known.includes(name));
  return { first, rest: known.filter((name) => !first.includes(name)) };
}

function metricsTable(evaluation: Evaluation, names: readonly string[]): Block {
  const { scores, baselineScores, differences } = evaluation;
  // Beside the first version there is nothing to stand.
  const others = baselineScores ? ['production', 'difference'] : [];
  return {
    kind: 'table',
    head: ['metric (95 % interval)', 'this candidate', ...others],
    align: ['left', 'right', ...others.map(() => 'right' as const)],
    rows: names.map((name) => [
      name,
      measureText(name, scores.metrics[name]),
      ...(baselineScores
        ? [measureText(name, baselineScores.metrics[name]), signedText(name, differences[name])]
        : []),
    ]),
  };
}

/** The metrics that matter here in a table, all others folded. */
function metricsBlocks(evaluation: Evaluation, wanted: readonly string[]): Block[] {
  const { first, rest } = splitMetrics(evaluation, wanted);
  const { paired } = evaluation;
  return [
    metricsTable(evaluation, first),
    ...(paired
      ? [
          text(
            `Only this candidate is right on ${numberText(paired.onlyCandidate)} items, only production on ${numberText(paired.onlyBaseline)}: McNemar p ${paired.p < 0.0001 ? '< 0.0001' : `= ${paired.p.toFixed(4)}`}.`,
          ),
        ]
      : []),
    ...(rest.length > 0
      ? ([
          { kind: 'details', summary: 'All other metrics', blocks: [metricsTable(evaluation, rest)] },
        ] satisfies Block[])
      : []),
  ];
}

/** How sure the model was against how often it was right (reliability diagram, Guo et al. 2017). */
function calibrationBlocks(evaluation: Evaluation): Block[] {
  const points = (scores: Evaluation['scores'] | null): [number, number][] =>
    (scores?.calibration ?? []).map((bin) => [bin.confidence, bin.accuracy]);
  const own = points(evaluation.scores);
  if (own.length < 2) return [];
  const before = points(evaluation.baselineScores);
  return [
    {
      kind: 'details',
      summary: 'Calibration',
      blocks: [
        {
          kind: 'chart',
          chart: {
            kind: 'lines',
            title: 'Calibration: how often it is right when it is so sure',
            x: 'confidence',
            y: 'accuracy',
            series: [
              {
                name: 'perfect',
                points: [
                  [own[0]![0], own[0]![0]],
                  [1, 1],
                ],
              },
              { name: 'this candidate', points: own },
              ...(before.length > 1 ? [{ name: 'production', points: before }] : []),
            ],
          },
        },
      ],
    },
  ];
}

type ClassRow = Evaluation['scores']['perClass'][number];

/** What is told of each class; evaluations of older versions tell less. */
const classColumns: readonly [string, (row: ClassRow) => number | undefined][] = [
  ['precision', (row) => row.precision],
  ['recall', (row) => row.recall],
  ['specificity', (row) => row.specificity],
  ['f1', (row) => row.f1],
  ['ROC AUC', (row) => row.roc_auc],
  ['items', (row) => row.support],
];

function classTable(scores: Evaluation['scores']): Block {
  const columns = classColumns.filter(([, of]) => scores.perClass.some((row) => of(row) !== undefined));
  return {
    kind: 'table',
    head: ['class', ...columns.map(([name]) => name)],
    align: ['left', ...columns.map(() => 'right' as const)],
    rows: scores.perClass.map((row) => [
      row.name,
      ...columns.map(([name, of]) => {
        const value = of(row);
        return value === undefined ? '–' : metricText(name, value);
      }),
    ]),
  };
}

/** Which gates failed; why, where it is one: of several that stands in the table right below. */
export function refusalText(gates: Evaluation['gates'], isOverruled: boolean): string {
  const failed = gates.filter((gate) => gate.status === 'fail');
  const [first] = failed;
  const refused = isOverruled ? 'Overruled, though refused' : 'Refused';
  return failed.length === 1
    ? `${refused} by a gate: ${first!.name} (${first!.explanation}).`
    : `${refused} by ${failed.length} of ${gates.length} gates: ${failed.map((gate) => gate.name).join(', ')}.`;
}

/** The gates, the metrics against production, the classes and the pictures. */
export function evaluationBlocks(facts: Facts, evaluation: Evaluation): Block[] {
  const { scores } = evaluation;
  const blocks: Block[] = [
    { kind: 'gates', gates: evaluation.gates },
    ...metricsBlocks(evaluation, [
      ...(facts.rules?.project.requirements.metrics ?? []),
      ...(facts.rules?.model.gates ?? []).map((gate) => gate.metric),
    ]),
    {
      kind: 'details',
      summary: `Classes (${numberText(scores.count)} withheld test items)`,
      blocks: [classTable(scores)],
    },
  ];
  if (scores.confusion.length > 0) {
    blocks.push({
      kind: 'chart',
      chart: { kind: 'confusion', title: 'Confusion', classes: scores.classes, counts: scores.confusion },
    });
  }
  blocks.push(...calibrationBlocks(evaluation));
  // One point is no curve.
  if (facts.losses.some(({ points }) => points.length > 1)) {
    blocks.push({
      kind: 'chart',
      chart: {
        kind: 'lines',
        title: "Loss, as the change's own run reported it",
        x: 'epoch',
        y: 'loss',
        series: facts.losses,
      },
    });
  }
  return blocks;
}

function replacedText({ plan, replaces }: Facts): string {
  if (!plan?.from) return 'nothing: the first version';
  return replaces === null ? shortDigest(plan.from) : `version ${replaces} (${shortDigest(plan.from)})`;
}

/** What a merge would do to the environment. */
export function planBlocks(facts: Facts): Block[] {
  const { plan } = facts;
  if (!plan) return [];
  const difference = manifestDiff(facts);
  return [
    { kind: 'heading', text: `Deployment to ${plan.environment}` },
    {
      kind: 'facts',
      facts: [
        ['replaces', replacedText(facts)],
        ['target', `${plan.target}, ${plural(plan.replicas, 'replica')}`],
        ['traffic', plan.traffic.map((share) => `${share} %`).join(' → ')],
        ['canary gate', `at most ${limitText(metricText('accuracy', plan.maxErrorRate))} failed requests`],
        ['package', `${bytesText(plan.bytes)} to move`],
      ],
    },
    ...(difference
      ? ([
          {
            kind: 'details',
            summary: 'What changes in the manifest',
            blocks: [{ kind: 'code', language: 'diff', text: difference }],
          },
        ] satisfies Block[])
      : []),
    {
      kind: 'details',
      summary: 'Manifest',
      blocks: [{ kind: 'code', language: 'yaml', text: plan.manifest }],
    },
  ];
}

/** Earlier states of the change, folded: what they were and how they did. */
export function historyBlocks(history: Background['history']): Block[] {
  if (history.length === 0) return [];
  return [
    {
      kind: 'details',
      summary: `Earlier states of this change (${history.length})`,
      blocks: [
        {
          kind: 'table',
          head: ['report', 'version', 'verdict', 'metric', 'value'],
          align: ['left', 'right', 'left', 'left', 'right'],
          rows: history.map((one) => [
            one.review,
            String(one.version),
            one.verdict,
            one.metric,
            one.value === null ? '–' : metricText(one.metric, one.value),
          ]),
        },
      ],
    },
  ];
}

/** What training took, as far as the run tells. */
export function cost(facts: Facts, seconds: number | null): [string, string][] {
  const { gpuSeconds, jobSeconds } = facts.spending.spent;
  const budget = facts.rules?.project.budgets?.change ?? {};
  const of = (limit: number | undefined) => (limit === undefined ? '' : ` of ${numberText(limit)}`);
  const all: [string, string][] =
    jobSeconds > 0
      ? [
          [
            'jobs of this change',
            `${numberText(Math.round(jobSeconds))}${of(budget.job_seconds)} job-seconds, ${numberText(Math.round(gpuSeconds))}${of(budget.gpu_seconds)} of them on runners with a GPU`,
          ],
        ]
      : [];
  return [...trainingCost(facts, seconds), ...all];
}

function trainingCost(facts: Facts, seconds: number | null): [string, string][] {
  if (seconds === null) return [];
  const { gpu } = facts.headProject.models[facts.model]!.resources.train;
  const time = `${seconds.toFixed(1)} s`;
  return [['training', gpu > 0 ? `${time} on ${gpu} GPU: ${(seconds * gpu).toFixed(1)} GPU-seconds` : time]];
}

/** The manifest as it would be alone, against that of what is live; null when nothing is, or both are alike. */
function manifestDiff(facts: Facts): string | null {
  const { plan, live, rules, model, environment, project } = facts;
  const now = live?.current;
  const config = rules?.model.environments[environment];
  if (!plan || !now || !config || now.candidate === plan.to) return null;
  const alone = { project, model, environment, from: null, fromPackage: null };
  const before = planDeployment({
    ...alone,
    to: now.candidate,
    package: now.package,
    version: now.version,
    bytes: 0,
    environmentConfig: config,
    resources: rules.model.resources.serve,
  });
  const head = facts.headProject.models[model]!;
  const after = planDeployment({
    ...alone,
    to: plan.to,
    package: plan.package,
    version: plan.version,
    bytes: 0,
    environmentConfig: head.environments[environment]!,
    resources: head.resources.serve,
  });
  return diffLines(before.manifest, after.manifest) || null;
}

/** What a step said it failed of, as it stood on its terminal. */
export const failureBlock = ({ step, message, hint }: StepFailure): Block => ({
  kind: 'code',
  language: 'text',
  text: `${step}: ${message}${hint ? `\n→ ${hint}` : ''}`,
});

/** Where what is judged came from, to look at. */
export function origins({ change, pipeline, run }: Facts): { name: string; text: string; url: string }[] {
  return [
    { name: 'change', text: `number ${change.id}, commit ${change.head.slice(0, 12)}`, url: change.url },
    ...(pipeline
      ? [{ name: 'trained by', text: `pipeline ${pipeline.pipeline.id}`, url: pipeline.pipeline.url }]
      : []),
    ...(run ? [{ name: 'evaluated by', text: `pipeline ${run.pipeline}`, url: run.url }] : []),
  ];
}
