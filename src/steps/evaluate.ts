import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Candidate, candidateDigest } from '../core/candidate.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import {
  type Evaluation,
  evaluationKey,
  evaluationQuestion,
  evaluationRules,
  evaluatorEpoch,
  judge,
  type Measure,
  type Scores,
} from '../core/evaluation.ts';
import { measureText, numberText } from '../core/metric-text.ts';
import type { DatasetConfig } from '../core/project.ts';
import type { GateLine, Report } from '../core/report.ts';
import { sliceMetric, slicesOf } from '../core/slices.ts';
import { hasSourcesOfSides } from '../data/across.ts';
import { datasetMetaSchema } from '../data/dataset.ts';
import { judgeLabels } from '../data/evidence.ts';
import { validateDataset } from '../data/validate.ts';
import type { BootstrapOptions } from '../model/bootstrap.ts';
import { correctFile, correctness } from '../model/correct.ts';
import { stateFile } from '../model/encoder.ts';
import { compare, score } from '../model/metrics.ts';
import { predictIsolated } from '../model/predict.ts';
import { compareSlices, scoreSlices } from '../model/sliced.ts';
import { renderJunit } from '../report/junit.ts';
import { renderOpenMetrics } from '../report/openmetrics.ts';
import type { Zone } from '../store/types.ts';
import { digestOf, environmentParameter, modelOf, modelParameter, versionOf } from './subject.ts';
import { countLeaked, openTestSet, type TestSet } from './test-set.ts';
import { readCandidate, readEvaluation, readLive } from './trusted.ts';
import type { Ctx, Outcome, Step } from './types.ts';

const params = z.object({
  model: modelParameter,
  environment: environmentParameter,
  candidate: z.string().describe('Digest of the candidate, as handed over by the bot.'),
  question: z
    .string()
    .default('')
    .describe('Digest of what the evaluation must answer; checked against what this job finds.'),
});

interface Measured {
  probabilities: Float32Array;
  /** Where they are kept: float32, little-endian, `[items, classes]`. */
  file: string;
  scores: Scores;
}

const exact = (value: number): Measure => ({ value, low: value, high: value });

/** A built-in gate: whatever else the change alters, it must not have trained on what it is measured by. */
async function leakGate(
  work: Zone,
  dataset: Digest,
  item: DatasetConfig['item'],
  test: TestSet,
  folder: string,
): Promise<GateLine> {
  const name = 'no withheld item in the training data';
  const shared = await countLeaked(work, dataset, item, test, folder);
  return shared === 0
    ? { name, status: 'pass', explanation: 'none of them stands in the data version it was trained on' }
    : {
        name,
        status: 'fail',
        explanation: `${numberText(shared)} of ${numberText(test.count)} withheld items stand in the training data`,
      };
}

/** A built-in gate of data that people labelled: they must agree enough by the rules that count here; null for other data. */
async function labelGate(
  trusted: Zone,
  work: Zone,
  scope: { project: string; dataset: string; side: 'train' },
  config: DatasetConfig,
  version: Digest,
): Promise<GateLine | null> {
  const meta = datasetMetaSchema.safeParse((await work.getArtifact(version)).meta);
  if (!meta.success || (!meta.data.labels && !config.labels)) return null;
  const { labels, refused } = await judgeLabels(trusted, scope, config, meta.data);
  if (!labels && !refused) return null;
  const alpha = labels?.alpha?.toFixed(3) ?? 'not defined';
  return {
    name: 'labelers agree',
    status: refused ? 'fail' : 'pass',
    explanation: refused ?? `Krippendorff's alpha is ${alpha}`,
  };
}

/**
 * A built-in gate: the withheld set itself meets the rules of its data, as `validate` has them, for numbers from a set that does
 * not say nothing. Null when it does.
 */
async function withheldGate(trusted: Zone, testset: Digest, config: DatasetConfig): Promise<GateLine | null> {
  const meta = datasetMetaSchema.safeParse((await trusted.getArtifact(testset)).meta);
  if (!meta.success) return null;
  const apart = hasSourcesOfSides(config.sources) ? null : undefined;
  const { verdict, summary } = validateDataset(meta.data, config.rules, apart);
  if (verdict === 'pass') return null;
  return { name: 'the withheld set meets the rules of its data', status: 'fail', explanation: summary };
}

/** A withheld set must have the classes that cdl.yaml says. Throws UserError config-invalid. */
function checkTestSet(dataset: string, config: DatasetConfig, test: TestSet): void {
  if (test.classes.join('\n') === config.classes.join('\n')) return;
  throw new UserError(
    'config-invalid',
    `the withheld set of ${dataset} has the classes ${test.classes.join(', ')}, cdl.yaml says ${config.classes.join(', ')}`,
    'collect a withheld set with these classes, and pin it as test_version in a change of its own',
  );
}

/** What the package encodes with must be what the candidate's transform learned. Throws UserError artifact-corrupt. */
async function checkTransform(work: Zone, candidate: Candidate): Promise<void> {
  const stateOf = async (digest: Digest) =>
    (await work.getArtifact(digest)).files.find((file) => file.path === stateFile)?.digest ?? null;
  const packaged = await stateOf(candidate.package);
  const learned = candidate.transform ? await stateOf(candidate.transform) : null;
  if (packaged === learned) return;
  throw new UserError(
    'artifact-corrupt',
    `the package of candidate ${candidateDigest(candidate)} holds another ${stateFile} than its transform`,
  );
}

/** Runs a package over the test items in a process without credentials or network, and scores what it says. */
async function measure(
  ctx: Ctx,
  zone: Zone,
  packaged: Digest,
  test: TestSet,
  slices: ReadonlyMap<string, readonly number[]>,
  options: BootstrapOptions,
  folder: string,
): Promise<Measured & { isolation: Evaluation['isolation'] }> {
  await mkdir(folder, { recursive: true });
  const manifest = await zone.saveArtifact(packaged, join(folder, 'package'));
  const file = join(folder, 'probabilities.f32');
  const predicted = await predictIsolated({
    packageFolder: join(folder, 'package'),
    items: test.items,
    classes: test.classes.length,
    count: test.count,
    out: file,
    signal: ctx.signal,
  });
  const scores = score(predicted.probabilities, test.y, test.classes, options);
  const sliced = scoreSlices(predicted.probabilities, test.y, test.classes, slices, options);
  const bytes = manifest.files.reduce((sum, file) => sum + file.size, 0);
  return {
    probabilities: predicted.probabilities,
    file,
    isolation: predicted.isolation,
    scores: {
      ...scores,
      metrics: {
        ...scores.metrics,
        ...sliced,
        size_bytes: exact(bytes),
        latency_ms: predicted.latencyMs,
      },
    },
  };
}

async function run(ctx: Ctx, given: z.output<typeof params>, folder: string): Promise<Outcome> {
  const { model, config } = modelOf(ctx, given.model);
  const data = ctx.project.datasets[config.data]!;
  const [trusted, work] = await Promise.all([ctx.zone('trusted'), ctx.zone('work')]);
  const digest = digestOf('candidate', given.candidate);
  const candidate = await readCandidate(trusted, digest);
  if (candidate.model !== model) {
    throw new UserError('usage', `candidate ${digest} is of model ${candidate.model}, not ${model}`);
  }
  const { state } = await readLive(trusted, ctx.project.project, model, given.environment);
  const question = evaluationQuestion({
    project: ctx.project.project,
    model,
    environment: given.environment,
    candidate: digest,
    baseline: state.current?.candidate ?? null,
    ...evaluationRules(config, data),
  });
  if (given.question && given.question !== question) {
    throw new UserError(
      'baseline-moved',
      'gates, test data or what is live changed since this evaluation was asked for',
    );
  }
  const answered = await trusted.readRecord(evaluationKey(question));
  if (answered) {
    const earlier = z.object({ evaluation: z.string() }).parse(answered.value).evaluation as Digest;
    return outcome(ctx, earlier, await readEvaluation(trusted, earlier));
  }

  // From here on the candidate must not be able to change or vanish: what was measured is what can be deployed.
  await trusted.copyArtifact(work, candidate.checkpoint);
  await trusted.copyArtifact(work, candidate.package);
  await checkTransform(work, candidate);
  // This job is one of the default branch, and so is the pin: no change can have others measure it.
  const testset = (data.test_version as Digest | undefined) ?? (await versionOf(ctx, config.data));
  const test = await openTestSet(trusted, testset, data.item, join(folder, 'test'));
  checkTestSet(config.data, data, test);
  ctx.log(`evaluating ${shortDigest(digest)} on ${test.count} withheld items`);
  const slices = config.evaluate ? slicesOf(config.evaluate.slices, test) : new Map<string, number[]>();
  const options = config.evaluate?.task === 'regression' ? { values: test.classes.map(Number) } : {};
  const own = await measure(
    ctx,
    trusted,
    candidate.package,
    test,
    slices,
    options,
    join(folder, 'candidate'),
  );
  const before = state.current
    ? await measure(ctx, trusted, state.current.package, test, slices, options, join(folder, 'baseline'))
    : null;
  const compared = before
    ? compare(own.probabilities, before.probabilities, test.y, test.classes, options)
    : { differences: {}, mcnemar: null };
  const sliced = before
    ? compareSlices(own.probabilities, before.probabilities, test.y, test.classes, slices, options)
    : {};
  const differences = { ...compared.differences, ...sliced };
  const judged = judge(config.gates, own.scores, before?.scores ?? null, differences);
  const leak = await leakGate(work, candidate.dataset, data.item, test, join(folder, 'train'));
  const scope = { project: ctx.project.project, dataset: config.data, side: 'train' as const };
  const labelled = await labelGate(trusted, work, scope, data, candidate.dataset);
  const withheld = await withheldGate(trusted, testset, data);
  const builtIn = [leak, ...(labelled ? [labelled] : []), ...(withheld ? [withheld] : [])];
  const gates = [...judged.gates, ...builtIn];
  const verdict = builtIn.some((gate) => gate.status === 'fail') ? 'fail' : judged.verdict;
  const evaluation: Evaluation = {
    v: 1,
    project: ctx.project.project,
    model,
    environment: given.environment,
    isolation: own.isolation,
    candidate: digest,
    baseline: state.current?.candidate ?? null,
    testset,
    gates,
    verdict,
    scores: own.scores,
    baselineScores: before?.scores ?? null,
    differences,
    ...(compared.mcnemar && { paired: compared.mcnemar }),
  };
  // Kept, so that this candidate can be compared item by item with any other on the same test set.
  const files = [
    { path: 'probabilities.f32', ...(await trusted.putFile(own.file)) },
    { path: correctFile, ...(await trusted.putBlob(correctness(own.probabilities, test.y))) },
  ];
  const stored = await trusted.putArtifact({
    kind: 'evaluation',
    name: model,
    files,
    parents: [candidate.package, testset],
    meta: evaluation as never,
  });
  const written = await trusted.writeRecord(
    evaluationKey(question),
    { evaluation: stored },
    { ifAbsent: true },
  );
  if (written === 'exists') {
    const winner = z
      .object({ evaluation: z.string() })
      .parse((await trusted.readRecord(evaluationKey(question)))?.value).evaluation as Digest;
    return outcome(ctx, winner, await readEvaluation(trusted, winner));
  }
  return outcome(ctx, stored, evaluation);
}

/** What GitLab's widgets read: gates as test cases, measures as metrics. */
async function writeWidgets(ctx: Ctx, evaluation: Evaluation): Promise<void> {
  const { model, environment, gates, scores, verdict } = evaluation;
  const labels = { model, environment };
  const samples = Object.entries(scores.metrics).map(([metric, { value }]) => {
    const of = sliceMetric(metric);
    return of
      ? { name: of.name, labels: { ...labels, slice: of.slice }, value }
      : { name: metric, labels, value };
  });
  samples.push({ name: 'evaluation_ok', labels, value: verdict === 'fail' ? 0 : 1 });
  await ctx.handover.writeFile('metrics.txt', renderOpenMetrics(samples));
  await ctx.handover.writeFile('junit.xml', renderJunit(`${model} for ${environment}`, gates));
}

/** Tells the MLflow server of this job, if there is one. It is a copy for people: that it failed is no reason to fail. */
async function mirror(ctx: Ctx, digest: Digest, evaluation: Evaluation): Promise<void> {
  const access = ctx.mlflow();
  if (!access) return;
  const { mirrorEvaluation } = await import('../model/mlflow-mirror.ts');
  const { openMlflow } = await import('../model/mlflow.ts');
  const [work, trusted] = await Promise.all([ctx.zone('work'), ctx.zone('trusted')]);
  try {
    const done = await mirrorEvaluation(openMlflow(access), { work, trusted }, digest, evaluation);
    ctx.log(
      done
        ? `evaluation ${shortDigest(digest)} is in the MLflow server too`
        : `evaluation ${shortDigest(digest)} has no version with a run to mirror it to`,
    );
  } catch (error) {
    if (!(error instanceof UpstreamError || error instanceof UserError)) throw error;
    ctx.log(`evaluation ${shortDigest(digest)} could not be mirrored: ${error.message}`);
  }
}

async function outcome(ctx: Ctx, digest: Digest, evaluation: Evaluation): Promise<Outcome> {
  await writeWidgets(ctx, evaluation);
  await mirror(ctx, digest, evaluation);
  const { scores, baselineScores } = evaluation;
  const report: Report = {
    key: `evaluate:${evaluation.model}`,
    title: `${evaluation.model}: evaluation for ${evaluation.environment}`,
    // The job has done its work also when a gate says no: the verdict is the bot's to act on.
    verdict: evaluation.verdict === 'fail' ? 'warn' : evaluation.verdict,
    summary: evaluation.gates
      .map(
        (gate) =>
          `${gate.name}: ${gate.status === 'skip' ? 'not applied' : gate.status} (${gate.explanation})`,
      )
      .join('; '),
    blocks: [
      { kind: 'gates', gates: evaluation.gates },
      {
        kind: 'table',
        head: ['metric (95 % interval)', 'candidate', 'production'],
        align: ['left', 'right', 'right'],
        rows: Object.entries(scores.metrics).map(([name, measure]) => [
          name,
          measureText(name, measure),
          measureText(name, baselineScores?.metrics[name]),
        ]),
      },
      {
        kind: 'facts',
        facts: [
          ['isolation of the model code', evaluation.isolation],
          ['evaluation', digest],
        ],
      },
    ],
  };
  return {
    outputs: { evaluation: digest, verdict: evaluation.verdict, candidate: evaluation.candidate },
    report,
  };
}

/** Measures a candidate where the change cannot reach: default branch, trusted zone, withheld test set. */
export const evaluate: Step<typeof params> = {
  name: 'evaluate',
  summary: 'Judge a candidate by its gates, on the withheld test set',
  epoch: evaluatorEpoch,
  stage: 'evaluate',
  judges: true,
  params,
  async inputs(ctx, given) {
    const { model } = modelOf(ctx, given.model);
    // The answer to a question is kept by itself, whichever job asks.
    return { subject: model, zone: 'trusted', key: {}, files: [], artifacts: [], cache: false };
  },
  run,
};
