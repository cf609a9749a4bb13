import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, isDigest, shortDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import type { ModelConfig } from '../core/project.ts';
import { ownerName } from '../exec/owner.ts';
import { cloneAt, type Snapshot, takeSnapshot } from '../exec/snapshot.ts';
import type { Job } from '../forge/types.ts';
import { renderTerminal } from '../report/terminal.ts';
import { createContext, readProject } from '../steps/context.ts';
import { openHandover } from '../steps/handover.ts';
import { steps } from '../steps/index.ts';
import { parseParameters } from '../steps/parameters.ts';
import { runStep, type StepResult } from '../steps/run-step.ts';
import { modelOf } from '../steps/subject.ts';
import { type Ctx, outputDigest } from '../steps/types.ts';
import { followPipeline } from './follow.ts';
import { openRemote, type Remote, runBranches } from './remote.ts';
import type { CommandInput } from './types.ts';

/** The steps up to a trained model, as the starter pipeline has them, each with its subject. */
export function stepsOf(
  project: Ctx['project'],
  model: string,
  config: ModelConfig,
): { step: string; params: Record<string, string> }[] {
  const { data } = config;
  const { item, clean, rules } = project.datasets[data]!;
  const ofData = (step: string) => ({ step, params: { dataset: data } });
  const ofModel = (step: string) => ({ step, params: { model } });
  return [
    ofData('ingest'),
    ...(clean !== undefined || rules.check !== undefined ? [ofData('clean')] : []),
    ofData('validate'),
    ...(item === 'tensor' ? [] : [ofModel('transform')]),
    ...(config.tune ? [ofModel('tune')] : []),
    ofModel('train'),
  ];
}

/** What a snapshot is, in one line. */
export function snapshotText({ commit, isNew, untracked }: Snapshot): string {
  const short = commit.slice(0, 12);
  if (!isNew) return `nothing differs from commit ${short}`;
  const shown = untracked.slice(0, 5).join(', ');
  const more = untracked.length > 5 ? ` and ${untracked.length - 5} more` : '';
  const added = untracked.length > 0 ? `, with ${plural(untracked.length, 'new file')}: ${shown}${more}` : '';
  return `snapshot ${short} of your worktree${added}`;
}

/**
 * `cdl run [MODEL]`: the steps up to a trained model, on a snapshot of the worktree, so that it may be edited meanwhile. Exit 4
 * when a step said no. With `--remote`, on the forge's runners.
 */
export async function runHere(input: CommandInput): Promise<number> {
  const started = performance.now();
  const ctx = await createContext(input.cwd, input.env, input.console);
  const { model } = modelOf(ctx, input.args[0] ?? '');
  if (input.options.remote === true) return runRemote(input, ctx);
  const snapshot = await takeSnapshot(ctx.root, input.env);
  ctx.log(snapshotText(snapshot));
  const folder = join(tmpdir(), `cdl-run-${ownerName()}`);
  await mkdir(folder, { mode: 0o700 });
  try {
    const clone = join(folder, 'clone');
    await cloneAt(ctx.root, snapshot.commit, clone);
    const project = await readProject(clone);
    const handover = openHandover(join(folder, 'handover'));
    const there: Ctx = { ...ctx, root: clone, ref: 'HEAD', project, handover };
    const { config } = modelOf(there, model);
    const done: (StepResult & { step: string })[] = [];
    for (const { step: name, params } of stepsOf(project, model, config)) {
      there.signal.throwIfAborted();
      const at = performance.now();
      const step = await steps.find((one) => one.name === name)!.load();
      const result = await runStep(step, there, parseParameters(step.params, params));
      const how = result.cached ? 'cached' : `${((performance.now() - at) / 1000).toFixed(1)} s`;
      ctx.log(`${name} ${result.subject}: ${result.report.verdict}, ${how}`);
      done.push({ ...result, step: name });
      if (result.report.verdict === 'fail') break;
    }
    return tell(input, snapshot, model, done, (performance.now() - started) / 1000);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function tell(
  input: CommandInput,
  snapshot: Snapshot,
  model: string,
  done: readonly (StepResult & { step: string })[],
  seconds: number,
): number {
  const last = done.at(-1)!;
  const run = last.step === 'train' ? outputDigest(last.outputs, 'run') : null;
  const next = run
    ? `\nrun ${shortDigest(run)}: cdl runs show ${run.slice(7, 15)}, and cdl reproduce --run ${run.slice(7, 15)} makes it again`
    : '';
  input.console.print(`${renderTerminal(last.report, input.console)}${next}`, {
    model,
    commit: snapshot.commit,
    snapshot: snapshot.isNew,
    run,
    verdict: last.report.verdict,
    summary: last.report.summary,
    steps: done.map(({ step, subject, cached, outputs, report }) => ({
      step,
      subject,
      cached,
      verdict: report.verdict,
      outputs,
    })),
    seconds: Number(seconds.toFixed(3)),
  });
  return last.report.verdict === 'fail' ? 4 : 0;
}

/**
 * `cdl run --remote`: pushes the snapshot as a branch, starts the pipeline that trains on it and follows that. The branch goes
 * when the pipeline has ended, and not before: runners fetch it for every job (GitLab, Ci::BuildRunnerPresenter#refspecs).
 */
async function runRemote(input: CommandInput, ctx: Ctx): Promise<number> {
  const remote = await openRemote(input, ctx.root, String(input.options.to));
  const snapshot = await takeSnapshot(ctx.root, input.env);
  ctx.log(snapshotText(snapshot));
  const branch = `${runBranches}${snapshot.commit.slice(0, 16)}`;
  await remote.push(snapshot.commit, branch);
  const made = await remote.forge
    .runPipeline(branch, { cdl_task: 'train' }, 'self')
    .catch(async (error: unknown) => {
      await dropBranch(remote, snapshot.commit, branch, ctx);
      if (!(error instanceof UpstreamError && error.status === 400)) throw error;
      throw new UserError(
        'config-invalid',
        `the forge starts no pipeline for this: ${error.message}`,
        '.gitlab-ci.yml must take the input cdl_task and have jobs for "train" on branches, as cdl init writes it',
        { cause: error },
      );
    });
  ctx.log(`pipeline ${made.id} on branch ${branch}: ${made.url}`);
  return follow(input, ctx, remote, made.id);
}

/** Follows a pipeline to its end, and tidies up after one that `cdl run --remote` started. Gives the pipeline's exit code. */
export async function follow(input: CommandInput, ctx: Ctx, remote: Remote, id: string): Promise<number> {
  const { pipeline, jobs, exit } = await followPipeline(remote.forge, id, input.console);
  const runs = await runsOf(remote, ctx, jobs);
  await dropBranch(remote, pipeline.sha, pipeline.ref, ctx);
  const made = runs.map((run) => `\nrun ${shortDigest(run)}: cdl runs show ${run.slice(7, 15)}`).join('');
  input.console.print(`pipeline ${id}: ${pipeline.state}  ${pipeline.url}${made}`, {
    pipeline: id,
    state: pipeline.state,
    commit: pipeline.sha,
    url: pipeline.url,
    runs,
    jobs: jobs.map(({ name, state, seconds, url }) => ({ name, state, seconds, url })),
  });
  return exit;
}

/** The runs that jobs of a pipeline handed on. */
async function runsOf(remote: Remote, ctx: Ctx, jobs: readonly Job[]): Promise<Digest[]> {
  const found = new Set<Digest>();
  for (const job of jobs.filter(({ name, state }) => state === 'success' && /train/.test(name))) {
    for (const model of Object.keys(ctx.project.models)) {
      const bytes = await remote.forge.artifact(job.id, `.cdl/${model}.train.outputs.json`);
      const told = bytes ? /"run": *"(sha256:[0-9a-f]{64})"/.exec(bytes.toString())?.[1] : undefined;
      if (isDigest(told)) found.add(told);
    }
  }
  return [...found];
}

/** Removes a branch of ours at this commit, unless another pipeline still works on it. Failing is no failure of the run. */
async function dropBranch(remote: Remote, commit: string, branch: string, ctx: Ctx): Promise<void> {
  if (!branch.startsWith(runBranches)) return;
  try {
    const others = await remote.forge.branchPipelines(branch);
    if (others.some(({ state }) => state === 'running' || state === 'waiting')) return;
    await remote.drop(commit, branch);
  } catch (error) {
    if (!(error instanceof UserError || error instanceof UpstreamError)) throw error;
    ctx.log(`branch ${branch} is still there: ${error.message}`);
  }
}
