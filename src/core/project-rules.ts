import picomatch from 'picomatch';
import { z } from 'zod';
import { classMetric } from './evaluation.ts';
import type { Sensitive } from './project-data-rules.ts';
import type { TrainConfig } from './project-train.ts';
import type { EncodeConfig } from './project-transform.ts';
import type { TuneConfig } from './project-tune.ts';
import { tuneProblems } from './project-tune-rules.ts';
import { type Slices, sliceMetric, slicesSchema } from './slices.ts';
import { nearest } from './suggest.ts';
import { hyperparameterProblem } from './trainer-parameters.ts';

/** A rule that a file breaks: where, and what to write instead. */
export interface RuleProblem {
  path: PropertyKey[];
  text: string;
}

/** What the evaluator measures of a classifier; those of `classMetricNames` also by class, as `recall[Shirt]`. */
export const evaluatedMetrics = [
  'accuracy',
  'balanced_accuracy',
  'macro_precision',
  'macro_recall',
  'macro_specificity',
  'macro_f1',
  'macro_f0.5',
  'macro_f2',
  'log_loss',
  'brier',
  'ece',
  'top2_accuracy',
  'top3_accuracy',
  'top5_accuracy',
  'map',
  'ndcg',
  'roc_auc',
  'pr_auc',
  'mae',
  'rmse',
  'r2',
  'median_ae',
  'mape',
  'size_bytes',
  'latency_ms',
] as const;

/** Those of them that are errors of numbers: measured with `evaluate.task: regression` alone, also of slices. */
const ofNumbers = /^(mae|rmse|r2|median_ae|mape)(\[|$)/;

/** Whether the names of classes are numbers, each another one. */
const areNumbers = (classes: readonly string[]) =>
  classes.every((name) => name.trim() !== '' && Number.isFinite(Number(name))) &&
  new Set(classes.map(Number)).size === classes.length;

/** What is wrong with a metric of a slice: it must be declared, by name or by the field before the `=`. */
function sliceProblem(metric: string, slice: string, slices: Slices | undefined): string | null {
  const groups = Object.keys(slices?.classes ?? {});
  const fields = slices?.fields ?? [];
  if (groups.includes(slice) || fields.some((field) => slice.startsWith(`${field}=`))) return null;
  const known = [...groups, ...fields.map((field) => `${field}=…`)];
  const guess = nearest(slice, groups);
  return `"${metric}" names no slice of evaluate.slices${guess ? ` — did you mean ${metric.replace(slice, guess)}?` : `; they are ${known.join(', ') || 'none'}`}`;
}

/**
 * What is wrong with the name of a metric, for a model with these classes and slices (null = not to be read, so that they may
 * be any); null when nothing is.
 */
function metricProblem(
  metric: string,
  classes: readonly string[] | null,
  slices: Slices | null | undefined,
): string | null {
  const bySlice = sliceMetric(metric);
  if (bySlice) return slices === null ? null : sliceProblem(metric, bySlice.slice, slices);
  const byClass = classMetric(metric);
  if (byClass) {
    if (classes === null || classes.includes(byClass.class)) return null;
    const guess = nearest(byClass.class, classes);
    return `"${metric}" names no class of the data${guess ? ` — did you mean ${byClass.name}[${guess}]?` : `; they are ${classes.join(', ')}`}`;
  }
  if ((evaluatedMetrics as readonly string[]).includes(metric)) return null;
  const guess = nearest(metric, evaluatedMetrics) ?? evaluatedMetrics.find((one) => one.startsWith(metric));
  // The one that was meant says it; who meant none of them needs all of them.
  return guess
    ? `"${metric}" is not one of ${evaluatedMetrics.slice(0, 2).join(', ')}, … (${evaluatedMetrics.length}) — did you mean ${guess}?`
    : `"${metric}" is not one of ${evaluatedMetrics.join(', ')}`;
}

/** What is read of a gate, `evaluate:` and the classes of the data in a `cdl.yaml` of which the rest may be anything. */
const gatesSchema = z.object({
  datasets: z
    .record(
      z.string(),
      z
        .object({ classes: z.array(z.string()) })
        .nullable()
        .catch(null),
    )
    .catch({}),
  models: z
    .record(
      z.string(),
      z
        .object({
          data: z.string().catch(''),
          gates: z
            .array(
              z
                .object({ metric: z.string().min(1) })
                .nullable()
                .catch(null),
            )
            .catch([]),
          evaluate: z
            .object({
              slices: slicesSchema.nullable().catch(null),
              task: z.literal('regression').optional().catch(undefined),
            })
            .optional()
            .catch({ slices: null }),
        })
        .nullable()
        .catch(null),
    )
    .catch({}),
});

/** Metrics of gates that nothing measures, told of every gate that can be read, whatever else the file says. */
export function gateProblems(written: unknown): RuleProblem[] {
  const { datasets, models } = gatesSchema.catch({ datasets: {}, models: {} }).parse(written);
  return Object.entries(models).flatMap(([name, model]) =>
    (model?.gates ?? []).flatMap((gate, index) => {
      const { data, evaluate } = model!;
      const classes = Object.hasOwn(datasets, data) ? (datasets[data]?.classes ?? null) : null;
      const problem =
        gate &&
        (metricProblem(gate.metric, classes, evaluate?.slices) ??
          (ofNumbers.test(gate.metric) && !evaluate?.task
            ? `${gate.metric} is measured with evaluate: { task: regression } only`
            : null));
      const path = ['models', name, 'gates', index, 'metric'];
      return problem ? [{ path, text: `${path.join('.')} ${problem}` }] : [];
    }),
  );
}

/** The rules of one model that no schema can say: hyperparameters, entry. `path` is where the model stands. */
export function modelProblems(
  path: readonly PropertyKey[],
  model: {
    entry: string;
    code: readonly string[];
    hyperparameters: Readonly<Record<string, unknown>>;
    train?: TrainConfig | undefined;
    tune?: TuneConfig | undefined;
    encode?: EncodeConfig | undefined;
    transform?: unknown;
    evaluate?: { slices: Slices; task?: 'regression' | undefined } | undefined;
    resources: { train: { gpu: number } };
  },
  data: { classes: readonly string[]; item: string; sensitive?: Sensitive | undefined },
): RuleProblem[] {
  const slices = model.evaluate?.slices;
  const problems: RuleProblem[] = [];
  const say = (at: PropertyKey[], text: string) =>
    problems.push({ path: [...path, ...at], text: `${[...path, ...at].map(String).join('.')} ${text}` });
  if (model.evaluate?.task && !areNumbers(data.classes)) {
    say(
      ['evaluate', 'task'],
      `regression needs classes that are numbers, each another one; the data has ${data.classes.join(', ')}`,
    );
  }
  for (const [name, members] of Object.entries(slices?.classes ?? {})) {
    const unknown = members.find((one) => !data.classes.includes(one));
    if (unknown === undefined) continue;
    const guess = nearest(unknown, data.classes);
    say(
      ['evaluate', 'slices', 'classes', name],
      `"${unknown}" is no class of the data${guess ? ` — did you mean ${guess}?` : `; they are ${data.classes.join(', ')}`}`,
    );
  }
  if (data.item === 'tensor' && (slices?.fields.length ?? 0) > 0) {
    say(['evaluate', 'slices', 'fields'], 'tensors have no attributes; slice them by classes');
  }
  const { sensitive } = data;
  const hidden = (slices?.fields ?? []).filter((name) => sensitive === true || sensitive?.includes(name));
  if (hidden.length > 0) {
    say(
      ['evaluate', 'slices', 'fields'],
      `would tell the values of ${hidden.join(', ')} in reports, which sensitive: hides; slice by a field that may be seen`,
    );
  }
  const { train, encode } = model;
  const needed = encode && (encode.pixels ? 'image' : 'record');
  if (needed && data.item !== needed) {
    say(
      ['encode'],
      `${encode.pixels ? 'pixels' : 'numbers'} are made of item: ${needed}; the data has item: ${data.item}`,
    );
  }
  if (encode && model.transform) say(['transform'], 'is what fit() is told, which encode: stands for');
  // A command that trains on tensors and makes ONNX needs no module of ours at all.
  const needsEntry = train?.runtime !== 'onnx' || (data.item !== 'tensor' && !encode);
  if (needsEntry && !model.code.some((glob) => picomatch.isMatch(model.entry, glob, { dot: true }))) {
    say(['entry'], `"${model.entry}" is matched by none of code: ${model.code.join(', ')}`);
  }
  if (model.tune) {
    for (const { at, text } of tuneProblems(model.tune, model.resources.train.gpu, train === undefined))
      say(['tune', ...at], text);
  }
  if (train) {
    if (train.launcher === 'torchrun' && train.processes === undefined && model.resources.train.gpu === 0)
      say(
        ['train', 'launcher'],
        'torchrun starts a process for each GPU; set train.processes or resources.train.gpu',
      );
    if (train.launcher !== 'torchrun' && train.processes !== undefined)
      say(['train', 'processes'], 'is for launcher: torchrun');
    if (train.launcher !== 'ray' && train.address !== undefined)
      say(['train', 'address'], 'is for launcher: ray');
    return problems;
  }
  for (const [name, value] of Object.entries(model.hyperparameters)) {
    const problem = hyperparameterProblem(name, value, model.hyperparameters);
    if (problem) say(['hyperparameters', name], problem);
  }
  return problems;
}
