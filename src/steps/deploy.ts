import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { codeDigest } from '../core/candidate.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { type Live, type LiveState, liveKey, type Rollout, rolloutKey } from '../core/live.ts';
import { type Lock, type LockEntry, lockEntry, lockFile, parseLock } from '../core/lock.ts';
import { configDigest } from '../core/project.ts';
import type { Block, Report } from '../core/report.ts';
import { checkDeployment, type DeploymentFacts, type Read } from '../deploy/checks.ts';
import { openTarget, type Plan } from '../deploy/index.ts';
import { planDeployment } from '../deploy/plan.ts';
import { readDataChain } from '../deploy/records.ts';
import { selectCode } from '../exec/code.ts';
import { run as runProgram } from '../exec/run.ts';
import type { Zone } from '../store/types.ts';
import { environmentParameter, modelOf, modelParameter } from './subject.ts';
import { readDecisions, readEvaluation, readLive } from './trusted.ts';
import type { Ctx, Outcome, Step } from './types.ts';

const params = z.object({ model: modelParameter, environment: environmentParameter });

interface Place {
  model: string;
  environment: string;
}

async function attempt<T>(work: () => Promise<T> | T): Promise<Read<T>> {
  try {
    return { kind: 'ok', value: await work() };
  } catch (error) {
    if (error instanceof UserError) return { kind: 'failed', error };
    throw error;
  }
}

async function gitFile(ctx: Ctx, revision: string): Promise<string | null> {
  const result = await runProgram('git', ['show', `${revision}:${lockFile}`], { cwd: ctx.root });
  return result.code === 0 ? result.stdout.toString() : null;
}

/** The lock at the tip of the branch as the forge has it now: another deployment may have been merged since this job's commit. */
async function tipLock(ctx: Ctx, branch: string): Promise<Lock | null> {
  const fetched = await runProgram(
    'git',
    ['fetch', '--quiet', '--depth=1', 'origin', `refs/heads/${branch}`],
    {
      cwd: ctx.root,
    },
  );
  if (fetched.code !== 0) {
    throw new UserError('forge-unavailable', `git fetch of ${branch}: ${fetched.stderr.toString().trim()}`);
  }
  const text = await gitFile(ctx, 'FETCH_HEAD');
  return text === null ? null : parseLock(text, `${branch}:${lockFile}`);
}

/**
 * Whether every file of a package is in the trusted zone with the content its manifest names, and the transform
 * of the entry, if it has one, is what it was made from.
 */
async function verifyPackage(zone: Zone, entry: LockEntry, folder: string): Promise<Digest> {
  await mkdir(folder, { recursive: true });
  const { parents } = await zone.saveArtifact(entry.package, folder);
  if (entry.transform && !parents.includes(entry.transform)) {
    throw new UserError(
      'artifact-corrupt',
      `the package ${entry.package} was not made from the transform ${entry.transform} of its lock entry`,
    );
  }
  return entry.package;
}

interface Prepared {
  facts: DeploymentFacts;
  entry: LockEntry | null;
  plan: Plan;
  state: LiveState;
  etag: string | null;
  folder: string;
}

/** Reads all that the checks judge by; changes nothing. */
async function prepare(ctx: Ctx, trusted: Zone, place: Place, folder: string): Promise<Prepared> {
  const { model, environment } = place;
  const { config } = modelOf(ctx, model);
  const settings = Object.hasOwn(config.environments, environment)
    ? config.environments[environment]
    : undefined;
  if (!settings) {
    throw new UserError('config-invalid', `models.${model} has no environment ${environment} in cdl.yaml`);
  }
  if (!ctx.ci) {
    throw new UserError(
      'not-protected',
      'cdl deploy runs in CI, on a protected branch',
      'merge the change; its deploy job does it',
    );
  }
  const project = ctx.project.project;
  const own = await gitFile(ctx, ctx.ci.sha);
  const entry = await attempt(() => (own === null ? null : lockEntry(parseLock(own), model, environment)));
  const found = entry.kind === 'ok' ? entry.value : null;
  const tip = entry.kind === 'ok' ? await tipLock(ctx, ctx.ci.branch ?? ctx.ci.defaultBranch) : null;
  const { state, etag } = await readLive(trusted, project, model, environment);
  const packageFolder = join(folder, 'package');
  const packaged = await attempt(() =>
    found
      ? verifyPackage(trusted, found, packageFolder)
      : Promise.reject(new UserError('input-missing', 'no entry')),
  );
  const bytes =
    packaged.kind === 'ok'
      ? (await trusted.getArtifact(packaged.value)).files.reduce((sum, file) => sum + file.size, 0)
      : 0;
  const nothing = `sha256:${'0'.repeat(64)}` as Digest;
  const plan = planDeployment({
    project,
    model,
    environment,
    from: state.current?.candidate ?? null,
    fromPackage: state.current?.package ?? null,
    to: found?.candidate ?? nothing,
    package: found?.package ?? nothing,
    version: found?.info.version ?? 0,
    bytes,
    environmentConfig: settings,
    resources: config.resources.serve,
  });
  const evaluation = found
    ? await attempt(() => readEvaluation(trusted, found.evaluation))
    : ({ kind: 'failed' } as const);
  const files = await selectCode(ctx.root, ctx.ci.sha, config.code);
  return {
    entry: found,
    plan,
    state,
    etag,
    folder: packageFolder,
    facts: {
      project,
      model,
      environment,
      ref: { name: ctx.ci.ref, isProtected: ctx.ci.protectedRef },
      entry,
      tip: tip ? lockEntry(tip, model, environment) : null,
      package: packaged,
      live: etag === null ? null : state,
      decisions: await attempt(() => readDecisions(ctx, trusted, model, environment)),
      data: {
        dataset: config.data,
        required: ctx.project.approvals.data?.required ?? 0,
        decisions: await attempt(
          async () => (await readDataChain(trusted, ctx.trustedKeys(), project, config.data)).decisions,
        ),
      },
      recomputed: { code: codeDigest(files), config: configDigest(config) },
      evaluation:
        found && evaluation.kind === 'ok' ? { digest: found.evaluation, content: evaluation.value } : null,
      plan,
    },
  };
}

/** Swaps the live record. Throws UserError deploy-failed when another job wrote it meanwhile. */
async function writeState(
  trusted: Zone,
  place: Place & { project: string },
  state: LiveState,
  etag: string | null,
): Promise<string> {
  const key = liveKey(place.project, place.model, place.environment);
  const result = await trusted.writeRecord(
    key,
    state,
    etag === null ? { ifAbsent: true } : { ifMatch: etag },
  );
  if (result !== 'stored') {
    throw new UserError(
      'deploy-failed',
      `another job deploys ${place.model} to ${place.environment} at this moment`,
    );
  }
  const written = await trusted.readRecord(key);
  return written!.etag;
}

async function run(ctx: Ctx, given: z.output<typeof params>, folder: string): Promise<Outcome> {
  const { model } = modelOf(ctx, given.model);
  const place = { project: ctx.project.project, model, environment: given.environment };
  const trusted = await ctx.zone('trusted');
  const prepared = await prepare(ctx, trusted, place, folder);
  const { state, plan, entry } = prepared;
  const verdict = checkDeployment(prepared.facts);
  if (verdict.kind === 'refuse') throw verdict.error;
  if (verdict.kind === 'done') {
    const text =
      verdict.why === 'already-live'
        ? `version ${entry?.info.version} is live already.`
        : 'A newer commit of this branch says what is to be live; nothing was done here.';
    return outcome(place, text, state, null, []);
  }
  const next: Live = {
    candidate: entry!.candidate,
    evaluation: entry!.evaluation,
    package: entry!.package,
    plan: plan.digest,
    version: entry!.info.version,
    since: new Date().toISOString(),
    commit: ctx.ci!.sha,
  };
  if (trusted.store.url.startsWith('file:')) {
    ctx.log('note: the trusted zone is a folder; whoever can start a process on this machine can write it');
  }
  let etag = await writeState(trusted, place, { ...state, transition: next }, prepared.etag);
  const target = await openTarget(
    plan.target === 'local' ? { target: 'local', folder: ctx.targetFolder } : { target: 'seldon' },
  );
  const steps: string[] = [];
  const rollout: Rollout = {
    v: 1,
    candidate: next.candidate,
    version: next.version,
    state: 'running',
    reason: null,
    steps: [],
  };
  const note = async (more: Partial<Rollout>) => {
    Object.assign(rollout, more);
    try {
      await trusted.writeRecord(rolloutKey(place.project, model, place.environment), rollout);
    } catch (error) {
      // It is told to people and decides nothing: traffic does not stop half-way for it.
      ctx.log(`note: the progress could not be told: ${String(error)}`);
    }
  };
  await note({});
  for await (const progress of target.apply(plan, prepared.folder, ctx.signal)) {
    if (progress.kind === 'step') {
      steps.push(progress.text);
      const { traffic, text } = progress;
      await note({ steps: [...rollout.steps, { at: new Date().toISOString(), traffic, text }] });
      ctx.log(`${String(progress.traffic).padStart(3)} %  ${progress.text}`);
    } else if (progress.kind === 'ready') {
      const live: LiveState = {
        v: 1,
        current: { ...next, since: new Date().toISOString() },
        transition: null,
        failed: null,
        endpoint: progress.endpoint,
      };
      etag = await writeState(trusted, place, live, etag);
      await note({ state: 'done' });
      const text = `Version ${next.version} serves all requests${verdict.mode === 'return' ? ' again' : ''}.`;
      return outcome(place, text, live, plan, steps);
    } else {
      const back: LiveState = {
        ...state,
        transition: null,
        failed: { ...next, reason: progress.reason.slice(0, 2000) },
        endpoint: progress.endpoint,
      };
      await writeState(trusted, place, back, etag);
      await note({ state: 'failed', reason: progress.reason.slice(0, 2000) });
      throw new UserError('deploy-failed', `version ${next.version} was taken back: ${progress.reason}`);
    }
  }
  throw new UserError(
    'interrupted',
    'the deployment was stopped before it ended',
    'run the job again; it goes on',
  );
}

function outcome(
  place: Place,
  summary: string,
  state: LiveState,
  plan: Plan | null,
  steps: string[],
): Outcome {
  const blocks: Block[] = [
    {
      kind: 'facts',
      facts: [
        ['environment', place.environment],
        [
          'live',
          state.current
            ? `version ${state.current.version}, candidate ${shortDigest(state.current.candidate)}`
            : 'nothing',
        ],
        ['endpoint', state.endpoint ?? 'none'],
        ...(plan
          ? [
              ['traffic', plan.traffic.map((share) => `${share} %`).join(' → ')] as [string, string],
              ['bytes moved', String(plan.bytes)] as [string, string],
            ]
          : []),
      ],
    },
    ...(steps.length > 0 ? [{ kind: 'code', language: 'text', text: steps.join('\n') } as const] : []),
  ];
  const report: Report = {
    key: `deploy:${place.model}`,
    title: `${place.model}: deployment to ${place.environment}`,
    verdict: 'pass',
    summary,
    blocks,
  };
  return {
    outputs: {
      ...(state.current && { candidate: state.current.candidate, version: String(state.current.version) }),
      ...(state.endpoint && { endpoint: state.endpoint }),
    },
    report,
  };
}

/** Deploys what the lock names, after the ten checks; a job killed anywhere can be run again. */
export const deploy: Step<typeof params> = {
  name: 'deploy',
  summary: 'Bring the approved candidate to an environment, step by step',
  epoch: 1,
  stage: 'deploy',
  deploys: true,
  params,
  async inputs(ctx, given) {
    const { model } = modelOf(ctx, given.model);
    return { subject: model, zone: 'trusted', key: {}, files: [], artifacts: [], cache: false };
  },
  run,
};
