import { candidateDigest } from '../core/candidate.ts';
import { type Digest, digestJson } from '../core/digest.ts';
import type { Evaluation } from '../core/evaluation.ts';
import type { Zone } from '../store/types.ts';
import type { StepPoint } from '../train/step-series.ts';
import type { LoggedMetric, Mlflow, Pair } from './mlflow.ts';
import { listVersions, readVersion, type Version } from './registry.ts';
import { readSteps } from './run-steps.ts';
import { type Run, readRun } from './runs.ts';

/** What a mirror did: `sent` now, or found `there`. */
export type Mirrored = 'sent' | 'there';

/** MLflow's names take letters, digits and `_ - . / space`; GitLab's models not even the last two. */
const nameOf = (text: string): string => text.replace(/[^\w.-]/g, '_');
/** Longest value of a param (MLflow 6000; GitLab's column 250). */
const longest = 250;

/** The experiment and the registered model of a model of a project have one name. */
export function mirrorName(project: string, model: string): string {
  return nameOf(`${project}-${model}`);
}

/** Key of the record of what this server was sent, so that nothing is asked or sent twice. */
function recordKey(server: Mlflow, ...what: string[]): string {
  return ['mirrors', digestJson(server.url).slice(7, 23), ...what.map(encodeURIComponent)].join('/');
}

function pairsOf(values: Readonly<Record<string, unknown>>, prefix = ''): Pair[] {
  return Object.entries(values)
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([key, value]) => ({ key: nameOf(prefix + key), value: String(value).slice(0, longest) }));
}

/** Everything logged in a run, as MLflow has it; a step's time is as far into the run as the step is. */
function metricsOf({ facts }: Run, steps: readonly StepPoint[]): LoggedMetric[] {
  const startedAt = Date.parse(facts.started_at);
  const last = Math.max(facts.epochs.at(-1)?.step ?? 1, steps.at(-1)?.step ?? 1);
  const at = (step: number) =>
    Math.round(startedAt + facts.seconds * 1000 * Math.min(1, step / Math.max(1, last)));
  // One value a step and name: what was said at the end of an epoch counts before what was said within it.
  const logged = new Map<string, LoggedMetric>();
  for (const { step, metrics } of [...steps, ...facts.epochs]) {
    for (const [name, value] of Object.entries(metrics)) {
      const key = nameOf(name);
      logged.set(`${step} ${key}`, { key, value, timestamp: at(step), step });
    }
  }
  const best = facts.epochs.find((one) => one.epoch === facts.best_epoch)?.step ?? last;
  const chosen = Object.entries(facts.metrics).map(([key, value]) => ({
    key: nameOf(`best_${key}`),
    value,
    timestamp: at(best),
    step: best,
  }));
  return [
    ...logged.values(),
    ...chosen,
    { key: 'seconds', value: facts.seconds, timestamp: at(last), step: last },
  ];
}

function tagsOf({ digest, facts, dataset, checkpoint }: Run): Pair[] {
  return [
    { key: 'cdl.run', value: digest },
    ...pairsOf({
      'cdl.code': facts.code,
      'cdl.config': facts.config,
      'cdl.dataset': dataset,
      'cdl.checkpoint': checkpoint,
      'cdl.pipeline': facts.pipeline,
      'cdl.reason': facts.reason,
      'mlflow.source.git.commit': facts.commit,
      'mlflow.user': facts.who,
      // Links the candidate to its job (GitLab docs, user/project/ml/experiment_tracking).
      'gitlab.CI_JOB_ID': facts.job,
    }),
    ...pairsOf(facts.environment, 'cdl.environment.'),
  ];
}

/**
 * Mirrors a run: hyperparameters, seed, digests, environment, every logged value. Sent again after a kill, it goes on with
 * the same run there. `there` when an earlier mirror ended. Throws as the server does.
 */
export async function mirrorRun(
  server: Mlflow,
  zone: Zone,
  project: string,
  run: Run,
): Promise<{ state: Mirrored; id: string }> {
  const key = recordKey(server, 'runs', run.digest.slice(7));
  const record = (await zone.readRecord(key))?.value as { id?: unknown } | undefined;
  if (typeof record?.id === 'string') return { state: 'there', id: record.id };
  const { facts } = run;
  const experiment = await server.ensureExperiment(mirrorName(project, facts.model));
  const startedAt = Date.parse(facts.started_at);
  const [mark, ...tags] = tagsOf(run) as [Pair, ...Pair[]];
  const id =
    (await server.findRun(experiment, mark)) ??
    (await server.createRun(experiment, { name: run.digest.slice(7, 19), startedAt, tags: [mark] }));
  const params = pairsOf({ ...facts.hyperparameters, seed: facts.seed });
  await server.log(id, { metrics: metricsOf(run, await readSteps(zone, run.digest)), params, tags });
  const status = facts.status === 'done' ? 'FINISHED' : 'FAILED';
  await server.endRun(id, { status, endedAt: Math.round(startedAt + facts.seconds * 1000) });
  // Last: a mirror that was killed before is done again.
  await zone.writeRecord(key, { id });
  return { state: 'sent', id };
}

/** Mirrors a version of the registry, as a version of the registered model, linked to its run. Throws as the server does. */
export async function mirrorVersion(
  server: Mlflow,
  zone: Zone,
  version: Version,
  run: string,
): Promise<Mirrored> {
  const { project, model, version: number, candidate } = version;
  const key = recordKey(server, 'versions', project, model, String(number));
  if (await zone.readRecord(key)) return 'there';
  const name = mirrorName(project, model);
  const digest = candidateDigest(candidate);
  const mark = { key: 'cdl.candidate', value: digest };
  await server.ensureModel(name);
  const found = await server.findVersion(name, mark);
  const made =
    found ??
    (await server.createVersion(name, {
      source: `cdl://${encodeURIComponent(project)}/${model}/${number}`,
      run,
      description: `version ${number} of ${model}, candidate ${digest}`,
      tags: [
        mark,
        // GitLab numbers by this tag, and takes semantic versions only.
        { key: 'gitlab.version', value: `${number}.0.0` },
        ...pairsOf({
          'cdl.version': number,
          'cdl.package': candidate.package,
          'cdl.dataset': candidate.dataset,
          'cdl.code': candidate.code,
        }),
      ],
    }));
  await zone.writeRecord(key, { version: made });
  return found ? 'there' : 'sent';
}

/**
 * Mirrors an evaluation: its metrics, as `evaluation.<environment>.<metric>`, and its verdict, to the run that the candidate's
 * version was made of; null when no version or run of it is in the store. Throws as the server does.
 */
export async function mirrorEvaluation(
  server: Mlflow,
  zones: { work: Zone; trusted: Zone },
  digest: Digest,
  evaluation: Evaluation,
): Promise<Mirrored | null> {
  const { project, model, environment, candidate, verdict, scores } = evaluation;
  const key = recordKey(server, 'evaluations', digest.slice(7));
  if (await zones.trusted.readRecord(key)) return 'there';
  const versions = await listVersions(zones.work, project, model);
  const version = versions.find((one) => candidateDigest(one.candidate) === candidate);
  const run = version && (await readRun(zones.work, version.run));
  if (!run) return null;
  const { id } = await mirrorRun(server, zones.work, project, run);
  // As late as the run: a server that was told twice has the same value at the same time.
  const timestamp = Math.round(Date.parse(run.facts.started_at) + run.facts.seconds * 1000);
  const prefix = `evaluation.${environment}.`;
  const metrics = Object.entries(scores.metrics).map(([name, { value }]) => ({
    ...{ key: nameOf(prefix + name), value },
    ...{ timestamp, step: 0 },
  }));
  const tags = pairsOf({ verdict, digest }, `cdl.${prefix}`);
  await server.log(id, { metrics, params: [], tags });
  await zones.trusted.writeRecord(key, { id });
  return 'sent';
}

/** Mirrors one version with its run; false when its run is not in the store (any more). Throws as the server does. */
export async function mirrorOne(
  server: Mlflow,
  zone: Zone,
  project: string,
  model: string,
  number: number,
): Promise<boolean> {
  const version = await readVersion(zone, project, model, number);
  const run = version && (await readRun(zone, version.run));
  if (!version || !run) return false;
  const { id } = await mirrorRun(server, zone, project, run);
  await mirrorVersion(server, zone, version, id);
  return true;
}
