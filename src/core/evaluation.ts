import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { type Digest, digestJson } from './digest.ts';
import { differenceText, limitText, metricText, signedText } from './metric-text.ts';
import type { GateLine, Verdict } from './report.ts';
import type { Slices } from './slices.ts';

/** A value with its confidence interval (95 %); equal bounds when the value is exact. */
export const measureSchema = z.strictObject({ value: z.number(), low: z.number(), high: z.number() });
/** See {@link measureSchema}. */
export type Measure = z.infer<typeof measureSchema>;

/** How one package did on a test set. Confusion rows are the truth, columns the prediction. */
export const scoresSchema = z.strictObject({
  count: z.int().nonnegative(),
  classes: z.array(z.string()),
  /** `accuracy balanced_accuracy macro_precision macro_recall macro_f1 log_loss ece` … and `size_bytes latency_ms`. */
  metrics: z.record(z.string(), measureSchema),
  perClass: z.array(
    z.strictObject({
      name: z.string(),
      precision: z.number(),
      recall: z.number(),
      specificity: z.number().optional(),
      f1: z.number(),
      roc_auc: z.number().optional(),
      pr_auc: z.number().optional(),
      support: z.int().nonnegative(),
    }),
  ),
  confusion: z.array(z.array(z.int().nonnegative())),
  /** Of each bin of confidence that holds items: mean confidence, share that was right, items (Guo et al. 2017). */
  calibration: z
    .array(z.strictObject({ confidence: z.number(), accuracy: z.number(), count: z.int().positive() }))
    .optional(),
});
/** See {@link scoresSchema}. */
export type Scores = z.infer<typeof scoresSchema>;

/** A rule the scores must meet. Metrics where less is better use `max` and `max_rise`. */
export const gateSchema = z
  .strictObject({
    metric: z
      .string()
      .min(1)
      .describe('accuracy, macro_f1, recall of a class as recall[class], size_bytes, …'),
    min: z.number().optional().describe('the value must be at least this'),
    max: z.number().optional().describe('the value must be at most this'),
    max_drop: z
      .number()
      .nonnegative()
      .optional()
      .describe('not worse than production by more than this, with 95 % confidence'),
    max_rise: z
      .number()
      .nonnegative()
      .optional()
      .describe('not higher than production by more than this, with 95 % confidence'),
  })
  .refine(
    (gate) => [gate.min, gate.max, gate.max_drop, gate.max_rise].filter((x) => x !== undefined).length === 1,
    {
      message: 'a gate has exactly one of min, max, max_drop, max_rise',
    },
  );
/** See {@link gateSchema}. */
export type Gate = z.infer<typeof gateSchema>;

const gateLineSchema = z.strictObject({
  name: z.string(),
  status: z.enum(['pass', 'fail', 'skip']),
  explanation: z.string(),
});

/** The `meta` of an evaluation artifact: what the default branch's evaluator found. */
export const evaluationSchema = z.strictObject({
  v: z.literal(1),
  project: z.string(),
  model: z.string(),
  environment: z.string(),
  /** How far the model code was kept from the network while it predicted; `none` where the runner cannot do better. */
  isolation: z.enum(['network namespace', 'none']),
  candidate: digestSchema,
  /** The candidate that was live when this was measured, or null for a first version. */
  baseline: digestSchema.nullable(),
  testset: digestSchema,
  /** What each gate of the default branch said. */
  gates: z.array(gateLineSchema),
  verdict: z.enum(['pass', 'warn', 'fail']),
  scores: scoresSchema,
  baselineScores: scoresSchema.nullable(),
  /** candidate − baseline per metric, paired where the test items are the same. */
  differences: z.record(z.string(), measureSchema),
  /** Exact McNemar test of the accuracies against the baseline; absent without one. */
  paired: z
    .strictObject({
      onlyCandidate: z.int().nonnegative(),
      onlyBaseline: z.int().nonnegative(),
      p: z.number(),
    })
    .optional(),
});
/** See {@link evaluationSchema}. */
export type Evaluation = z.infer<typeof evaluationSchema>;

/** Metrics that are also told of one class, as `recall[class]`; sensitivity is another word for recall. */
export const classMetricNames = [
  'precision',
  'recall',
  'sensitivity',
  'specificity',
  'f1',
  'f0.5',
  'f2',
  'roc_auc',
  'pr_auc',
] as const;

/** The parts of a metric of one class, `recall[class]`; null for any other name. */
export function classMetric(metric: string): { name: string; class: string } | null {
  const found = /^([a-z0-9_.]+)\[([\s\S]+)\]$/.exec(metric);
  if (!found || !(classMetricNames as readonly string[]).includes(found[1]!)) return null;
  return { name: found[1]!, class: found[2]! };
}

/** The measure a gate speaks of: a metric's name, or one of {@link classMetricNames} with `[class]`. Null when there is none. */
export function measureOf(scores: Scores, metric: string): Measure | null {
  const one = classMetric(metric);
  if (!one) return Object.hasOwn(scores.metrics, metric) ? scores.metrics[metric]! : null;
  const row = scores.perClass.find((other) => other.name === one.class);
  const value = row ? classValue(row, one.name) : undefined;
  return value === undefined ? null : { value, low: value, high: value };
}

function classValue(row: Scores['perClass'][number], name: string): number | undefined {
  const beta = name === 'f0.5' ? 0.5 : name === 'f2' ? 2 : null;
  if (beta !== null) {
    const below = beta * beta * row.precision + row.recall;
    return below > 0 ? ((1 + beta * beta) * row.precision * row.recall) / below : 0;
  }
  if (name === 'sensitivity') return row.recall;
  return row[name as 'precision' | 'recall' | 'specificity' | 'f1' | 'roc_auc' | 'pr_auc'];
}

function judgeGate(
  gate: Gate,
  scores: Scores,
  baseline: Scores | null,
  differences: Readonly<Record<string, Measure>>,
): GateLine {
  const say = (value: number) => metricText(gate.metric, value);
  const differ = (value: number) => differenceText(gate.metric, value);
  const measure = measureOf(scores, gate.metric);
  if (gate.min !== undefined || gate.max !== undefined) {
    const isMin = gate.min !== undefined;
    const limit = (gate.min ?? gate.max)!;
    const name = `${gate.metric} ${isMin ? '≥' : '≤'} ${limitText(say(limit))}`;
    if (!measure || !Number.isFinite(measure.value)) {
      return { name, status: 'fail', explanation: `${gate.metric} was not measured` };
    }
    const passes = isMin ? measure.value >= limit : measure.value <= limit;
    const by = differ(Math.abs(measure.value - limit));
    const side = passes === isMin ? 'above' : 'below';
    return {
      name,
      status: passes ? 'pass' : 'fail',
      explanation: `${say(measure.value)} is ${measure.value === limit ? 'at' : `${by} ${side}`} the limit`,
    };
  }
  const isDrop = gate.max_drop !== undefined;
  const limit = (gate.max_drop ?? gate.max_rise)!;
  const name = `${gate.metric} ${isDrop ? 'drop' : 'rise'} ≤ ${limitText(differ(limit))} against production`;
  if (!baseline) return { name, status: 'skip', explanation: 'nothing is in production yet' };
  const before = measureOf(baseline, gate.metric);
  if (!measure || !before)
    return { name, status: 'fail', explanation: `${gate.metric} was not measured on both` };
  const known = gate.metric.replace(/^sensitivity\[/, 'recall[');
  const difference = Object.hasOwn(differences, known)
    ? differences[known]!
    : {
        value: measure.value - before.value,
        low: measure.low - before.high,
        high: measure.high - before.low,
      };
  const passes = isDrop ? difference.low >= -limit : difference.high <= limit;
  return {
    name,
    status: passes ? 'pass' : 'fail',
    explanation: `${say(measure.value)} against ${say(before.value)}: ${signedText(gate.metric, difference, '95 % interval ')}`,
  };
}

/** Applies gates to scores. Pure. The verdict is `fail` when any gate fails, `warn` when there is no gate at all. */
export function judge(
  gates: readonly Gate[],
  scores: Scores,
  baseline: Scores | null,
  differences: Readonly<Record<string, Measure>>,
): { gates: GateLine[]; verdict: Verdict } {
  const lines = gates.map((gate) => judgeGate(gate, scores, baseline, differences));
  const verdict = lines.some((line) => line.status === 'fail')
    ? 'fail'
    : lines.length === 0
      ? 'warn'
      : 'pass';
  return { gates: lines, verdict };
}

/** Increase when the evaluator changes what it measures, so that older evaluations are not taken for current ones. */
export const evaluatorEpoch = 5;

/**
 * Identity of the question an evaluation answers: this candidate, in this environment, against this baseline, under the
 * default branch's gates and test data. The answer is found (and written if-absent) at {@link evaluationKey}.
 */
export function evaluationQuestion(question: {
  project: string;
  model: string;
  environment: string;
  candidate: Digest;
  baseline: Digest | null;
  gates: readonly Gate[];
  /** Absent where none are declared. */
  slices?: Slices;
  task?: 'regression';
  /** Digest of the default branch's definition of the data set (sources, split, rules). */
  data: Digest;
}): Digest {
  return digestJson({ v: evaluatorEpoch, ...question });
}

/** What of the configuration of a model and of its data set an evaluation goes by, as the question has it. */
export function evaluationRules(
  model: {
    gates: readonly Gate[];
    evaluate?: { slices: Slices; task?: 'regression' | undefined } | undefined;
  },
  dataset: unknown,
): { gates: readonly Gate[]; slices?: Slices; task?: 'regression'; data: Digest } {
  return {
    gates: model.gates,
    ...(model.evaluate && { slices: model.evaluate.slices }),
    ...(model.evaluate?.task && { task: model.evaluate.task }),
    data: digestJson(dataset),
  };
}

/** Key in the trusted zone of the answer to a question: `{evaluation: Digest}`. */
export function evaluationKey(question: Digest): string {
  return `evaluations/${question.replace('sha256:', '')}.json`;
}
