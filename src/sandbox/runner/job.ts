import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { UpstreamError, UserError } from '../../core/error.ts';
import { run } from '../../exec/run.ts';
import { expandText } from '../ci/expand-variables.ts';
import { payloadValues } from '../ci/payload.ts';
import { matchFiles, packZip, unpackZip } from './archive.ts';
import type { CoordinatorClient, JobPayload, Outcome } from './client.ts';
import { runScript, type ScriptResult } from './script.ts';
import { Trace } from './trace.ts';

/** What every job on a runner shares. */
export interface Workplace {
  client: CoordinatorClient;
  /** Build folders are made and removed below it. */
  builds: string;
  /** PATH of the jobs. */
  path: string;
  shell: { program: string; pipefail: boolean };
  /** Words before every program of a job, which keep things from it. */
  prefix: readonly string[];
  graceMs: number;
}

interface Build {
  folder: string;
  project: string;
  env: Record<string, string>;
  values: Map<string, string>;
  trace: Trace;
  signal: AbortSignal;
}

/** Runs one job from clone to upload and reports its end; throws only when the forge cannot be told. Ends early on `stop`. */
export async function runJob(place: Workplace, job: JobPayload, stop: AbortSignal): Promise<void> {
  const { client } = place;
  const canceled = new AbortController();
  const secrets = [job.token, ...job.variables.filter((one) => one.masked).map((one) => one.value)];
  const trace = new Trace(client, job, secrets, () => canceled.abort());
  const signal = AbortSignal.any([stop, canceled.signal]);
  await mkdir(place.builds, { recursive: true });
  const folder = await mkdtemp(join(place.builds, `job-${job.id}-`));
  let outcome: Outcome = { state: 'failed', failureReason: 'runner_system_failure', exitCode: null };
  try {
    const build = await prepare(place, job, folder, trace, signal);
    outcome = await execute(place, job, build);
  } catch (error) {
    if (!signal.aborted) trace.line(`\u001b[31;1mERROR: ${readable(error)}\u001b[0;m`);
    const reason = error instanceof UserError ? 'script_failure' : 'runner_system_failure';
    outcome = { state: 'failed', failureReason: reason, exitCode: null };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  trace.line(
    outcome.state === 'success'
      ? '\u001b[32;1mJob succeeded\u001b[0;m'
      : `\u001b[31;1mERROR: Job failed: ${describe(outcome, signal)}\u001b[0;m`,
  );
  await trace.end();
  await report(client, job, outcome);
}

/** Tells the forge how the job ended, through an outage of some seconds. */
async function report(client: CoordinatorClient, job: JobPayload, outcome: Outcome): Promise<void> {
  for (let pause = 200; ; pause *= 2) {
    try {
      await client.update(job, outcome);
      return;
    } catch (error) {
      if (!(error instanceof UpstreamError) || !error.retryable || pause > 6400) throw error;
      await sleep(pause);
    }
  }
}

function describe(outcome: Outcome, signal: AbortSignal): string {
  if (signal.aborted) return 'canceled';
  return outcome.exitCode === null ? String(outcome.failureReason) : `exit code ${outcome.exitCode}`;
}

function readable(error: unknown): string {
  if (error instanceof UserError || error instanceof UpstreamError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

async function prepare(
  place: Workplace,
  job: JobPayload,
  folder: string,
  trace: Trace,
  signal: AbortSignal,
): Promise<Build> {
  const [project, home, temp] = [join(folder, 'project'), join(folder, 'home'), join(folder, 'tmp')];
  for (const one of [project, home, temp]) await mkdir(one);
  const values = payloadValues([
    ...job.variables,
    ...Object.entries({
      CI_PROJECT_DIR: project,
      CI_BUILDS_DIR: place.builds,
      CI_SHARED_ENVIRONMENT: 'true',
    }).map(([key, value]) => ({ key, value, public: true, masked: false, raw: true })),
  ]);
  const env = { LANG: 'C.UTF-8', HOME: home, TMPDIR: temp, ...Object.fromEntries(values), PATH: place.path };
  trace.line(`Running ${job.job_info.name} with cdl-runner (shell)`);
  if (values.get('GIT_STRATEGY') !== 'none') await checkout(job, project, env, values, signal);
  trace.line(`Checking out ${job.git_info.sha.slice(0, 8)} as detached HEAD (ref is ${job.git_info.ref})`);
  for (const { id, name, token } of job.dependencies) {
    trace.line(`Downloading artifacts for ${name} (${id})...`);
    await unpackZip(await place.client.downloadArtifacts(id, token), project);
  }
  return { folder, project, env, values, trace, signal };
}

async function checkout(
  job: JobPayload,
  project: string,
  env: Record<string, string>,
  values: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const { repo_url: url, refspecs, sha, depth } = job.git_info;
  const git = async (...args: string[]): Promise<void> => {
    const result = await run('git', args, {
      cwd: project,
      env: { PATH: env.PATH, HOME: env.HOME, GIT_TERMINAL_PROMPT: '0', GIT_CONFIG_NOSYSTEM: '1' },
      signal,
    });
    if (result.code === 0) return;
    throw new UpstreamError('git', `${args[0]} failed: ${result.stderr.toString('utf8').trim()}`, {
      retryable: true,
    });
  };
  const wanted = Number(values.get('GIT_DEPTH') ?? depth);
  await git('init', '-q', '-b', 'detached');
  await git('remote', 'add', 'origin', url);
  await git('fetch', '-q', '--no-tags', ...(wanted > 0 ? [`--depth=${wanted}`] : []), 'origin', ...refspecs);
  await git('checkout', '-q', '--detach', sha);
}

async function execute(place: Workplace, job: JobPayload, build: Build): Promise<Outcome> {
  const { trace, env, project, signal } = build;
  const common = { shell: place.shell, prefix: place.prefix, cwd: project, trace, graceMs: place.graceMs };
  const main = job.steps.find((step) => step.name === 'script');
  const after = job.steps.find((step) => step.name === 'after_script');
  const result: ScriptResult = await runScript(main?.script ?? [], {
    ...common,
    file: join(build.folder, 'script.sh'),
    env,
    signal,
    timeoutMs: job.runner_info.timeout * 1000,
  });
  if (after !== undefined && result.stopped !== 'canceled') {
    const status = result.exitCode === 0 ? 'success' : 'failed';
    trace.line('Running after_script');
    await runScript(after.script, {
      ...common,
      file: join(build.folder, 'after-script.sh'),
      env: { ...env, CI_JOB_STATUS: status },
      signal,
      timeoutMs: after.timeout * 1000,
    });
  }
  const succeeded = result.exitCode === 0 && result.stopped === null;
  const uploaded = result.stopped === 'canceled' || (await uploadAll(place, job, build, succeeded));
  if (result.stopped === 'timeout') {
    return { state: 'failed', failureReason: 'job_execution_timeout', exitCode: null };
  }
  if (succeeded && uploaded) return { state: 'success', failureReason: null, exitCode: 0 };
  return { state: 'failed', failureReason: 'script_failure', exitCode: result.exitCode };
}

/** Uploads archive and reports. A refused upload fails the job, missing files only warn, as with GitLab. */
async function uploadAll(
  place: Workplace,
  job: JobPayload,
  build: Build,
  succeeded: boolean,
): Promise<boolean> {
  let uploaded = true;
  for (const wanted of job.artifacts) {
    if (wanted.when !== 'always' && (wanted.when === 'on_success') !== succeeded) continue;
    const expand = (text: string): string => expandText(text, build.values);
    const paths = await matchFiles(build.project, wanted.paths.map(expand), wanted.exclude.map(expand));
    if (paths.length === 0) {
      build.trace.line(`\u001b[0;33mWARNING: ${wanted.paths.join(', ')}: no matching files\u001b[0;m`);
      continue;
    }
    build.trace.line(
      `Uploading ${wanted.artifact_type}: ${paths.length} file${paths.length === 1 ? '' : 's'}`,
    );
    try {
      const { artifact_type: type, artifact_format: format } = wanted;
      const bytes =
        format === 'zip' ? await packZip(build.project, paths) : await gzipAll(build.project, paths);
      const name = format === 'zip' ? `${expand(wanted.name)}.zip` : `${wanted.name}.gz`;
      await place.client.uploadArtifact(job, type, format, name, bytes);
    } catch (error) {
      uploaded = false;
      build.trace.line(`\u001b[31;1mERROR: ${readable(error)}\u001b[0;m`);
    }
  }
  return uploaded;
}

async function gzipAll(root: string, paths: readonly string[]): Promise<Buffer> {
  return Buffer.concat(
    await Promise.all(paths.map(async (path) => gzipSync(await readFile(join(root, path))))),
  );
}
