import { type Block, type Evaluation, type Measure, planDeployment, shortDigest } from '../src/index.ts';
import { diffLines } from './diff.ts';
import type { Background } from './history.ts';
import type { Facts } from './types.ts';

/** A paragraph. */
export const text = (value: string): Block => ({ kind: 'text', text: value });

function number(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(4);
}

function measure(one: Measure | undefined): string {
  if (!one) return '–';
  return one.low === one.high
    ? number(one.value)
    : `${number(one.value)} (${number(one.low)} … ${number(one.high)})`;
}

/** A difference with its sign, which is what matters of it. */
function signed(one: Measure | undefined): string {
  return one && one.value > 0 ? `+${measure(one)}` : measure(one);
}

function metricsTable(evaluation: Evaluation, wanted: readonly string[]): Block {
  const { scores, baselineScores, differences } = evaluation;
  const known = Object.keys(scores.metrics);
  const names = [
    ...wanted.filter((name) => known.includes(name)),
    ...known.filter((name) => !wanted.includes(name)),
  ];
  return {
    kind: 'table',
    head: ['metric (95 % interval)', 'this candidate', 'production', 'difference'],
    align: ['left', 'right', 'right', 'right'],
    rows: names.map((name) => [
      name,
      measure(scores.metrics[name]),
      measure(baselineScores?.metrics[name]),
      signed(differences[name]),
    ]),
  };
}

/** The gates, the metrics against production, the classes and the pictures. */
export function evaluationBlocks(facts: Facts, evaluation: Evaluation): Block[] {
  const { scores } = evaluation;
  const blocks: Block[] = [
    { kind: 'gates', gates: evaluation.gates },
    metricsTable(evaluation, facts.rules?.project.requirements.metrics ?? []),
    {
      kind: 'details',
      summary: `Classes (${number(scores.count)} withheld test items)`,
      blocks: [
        {
          kind: 'table',
          head: ['class', 'precision', 'recall', 'f1', 'items'],
          align: ['left', 'right', 'right', 'right', 'right'],
          rows: scores.perClass.map((row) => [
            row.name,
            number(row.precision),
            number(row.recall),
            number(row.f1),
            number(row.support),
          ]),
        },
      ],
    },
  ];
  if (scores.confusion.length > 0) {
    blocks.push({
      kind: 'chart',
      chart: { kind: 'confusion', title: 'Confusion', classes: scores.classes, counts: scores.confusion },
    });
  }
  if (facts.losses.length > 0) {
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
        ['replaces', plan.from ? shortDigest(plan.from) : 'nothing: the first version'],
        ['target', `${plan.target}, ${plan.replicas} replica${plan.replicas === 1 ? '' : 's'}`],
        ['traffic', plan.traffic.map((share) => `${share} %`).join(' → ')],
        ['canary gate', `at most ${number(plan.maxErrorRate * 100)} % failed requests`],
        ['package', `${number(plan.bytes)} bytes to move`],
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
            one.value === null ? '–' : number(one.value),
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
  const of = (limit: number | undefined) => (limit === undefined ? '' : ` of ${number(limit)}`);
  const all: [string, string][] =
    jobSeconds > 0
      ? [
          [
            'jobs of this change',
            `${number(Math.round(jobSeconds))}${of(budget.job_seconds)} job-seconds, ${number(Math.round(gpuSeconds))}${of(budget.gpu_seconds)} of them on runners with a GPU`,
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
