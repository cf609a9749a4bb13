import {
  type Change,
  type Decision,
  type Digest,
  digestJson,
  digestSchema,
  type Evaluation,
  emptyLock,
  evaluationKey,
  evaluationQuestion,
  evaluationRules,
  evaluationSchema,
  type LiveState,
  type Lock,
  lockEntry,
  lockFile,
  type Pipeline,
  type Project,
  parseLock,
  parseProject,
  planDeployment,
  projectFile,
  readChain,
  readLiveRecord,
  reviewDigest,
  UserError,
  type Zone,
} from '../src/index.ts';
import type { Spending } from './budget.ts';
import { readWithdrawn } from './button.ts';
import { changedRollout, changedRules } from './changed-rules.ts';
import { checkClaim, versionThatRan } from './claim.ts';
import { rejectionOf } from './content.ts';
import { readData } from './data-approval.ts';
import { readFailures } from './failures.ts';
import { remembering } from './parsed.ts';
import { pausedBy } from './paused.ts';
import { askedPipelines, readHeadPipeline } from './pipelines.ts';
import { type Place, placesOf, proposedPlaces, readReturn, returnOf } from './places.ts';
import { isOverruled, isTakenIn } from './plan.ts';
import { readFound, readRegistered } from './registered.ts';
import { createRoles, whoStillMay } from './roles.ts';
import { readRollout } from './rollout.ts';
import { readSpending } from './spending.ts';
import type { Approval, CheckedClaim, Facts, Sources } from './types.ts';

/** What a cdl.yaml says: a project, nothing (null), or why it cannot be read. */
export type ReadProject = { project: Project } | { problem: string } | null;

/** Reads cdl.yaml of a commit. */
export async function projectAt(sources: Pick<Sources, 'mirror'>, commit: string): Promise<ReadProject> {
  const text = await sources.mirror.readFile(commit, projectFile);
  return text === null ? null : readProject(text);
}

const readProject = remembering((text): NonNullable<ReadProject> => {
  try {
    return { project: parseProject(text) };
  } catch (error) {
    if (error instanceof UserError) return { problem: error.message };
    throw error;
  }
});

/** Reads cdl.lock of a commit; `problem` says why it is none. */
export async function lockAt(
  sources: Pick<Sources, 'mirror'>,
  commit: string,
): Promise<{ text: string; lock: Lock; problem: string | null }> {
  return readLock((await sources.mirror.readFile(commit, lockFile)) ?? '');
}

const readLock = remembering((text): { text: string; lock: Lock; problem: string | null } => {
  try {
    return { text, lock: parseLock(text), problem: null };
  } catch (error) {
    if (error instanceof UserError) return { text, lock: emptyLock, problem: error.message };
    throw error;
  }
});

/** Reads the live record of an environment. Throws UserError artifact-corrupt for one that is none. */
export async function readLive(
  trusted: Zone,
  project: string,
  model: string,
  environment: string,
): Promise<LiveState | null> {
  return (await readLiveRecord(trusted, project, model, environment))?.state ?? null;
}

/** Every decision about an environment, oldest first, verified. Also gives the envelopes, to go on from. */
export async function readDecisions(
  sources: Pick<Sources, 'trusted' | 'keys'>,
  project: string,
  model: string,
  environment: string,
): Promise<{ decisions: Decision[]; envelopes: unknown[] }> {
  return readChain(sources.trusted, sources.keys, project, model, environment);
}

/** The answer to a question, from the trusted zone alone. */
export async function readAnswer(
  trusted: Zone,
  question: Digest,
): Promise<{ digest: Digest; evaluation: Evaluation } | null> {
  const record = await trusted.readRecord(evaluationKey(question));
  if (!record) return null;
  const value = record.value;
  const named = value && typeof value === 'object' && 'evaluation' in value ? value.evaluation : null;
  const digest = digestSchema.safeParse(named);
  if (!digest.success)
    throw new UserError('artifact-corrupt', `${evaluationKey(question)} names no evaluation`);
  const artifact = await trusted.getArtifact(digest.data);
  const evaluation = evaluationSchema.safeParse(artifact.meta);
  if (artifact.kind !== 'evaluation' || !evaluation.success) {
    throw new UserError('artifact-corrupt', `${digest.data} is not an evaluation`);
  }
  return { digest: digest.data, evaluation: evaluation.data };
}

async function readLosses(work: Zone, run: Digest): Promise<Facts['losses']> {
  try {
    const { meta } = await work.getArtifact(run);
    const epochs = Array.isArray(meta.epochs) ? meta.epochs : [];
    const series = new Map<string, [number, number][]>();
    for (const one of epochs) {
      if (!one || typeof one !== 'object' || Array.isArray(one)) continue;
      const { epoch, metrics } = one;
      if (typeof epoch !== 'number' || !metrics || typeof metrics !== 'object' || Array.isArray(metrics))
        continue;
      for (const [name, value] of Object.entries(metrics)) {
        if (typeof value !== 'number' || !/loss$/i.test(name)) continue;
        series.set(name, [...(series.get(name) ?? []), [epoch, value]]);
      }
    }
    return [...series].map(([name, points]) => ({ name, points }));
  } catch (error) {
    // Told by the change's own job: a curve that is not there stops nothing.
    if (error instanceof UserError) return [];
    throw error;
  }
}

/** A change that cannot be read any further, and why; or the facts of each of its models. */
export type ReadChange =
  | { kind: 'ignored' }
  | { kind: 'unreadable'; change: Change; why: 'fork' }
  /** Its own cdl.yaml is wrong. */
  | { kind: 'unreadable'; change: Change; why: 'change'; problem: string }
  /** That of the default branch is, whose rules judge every change. `mends`: the change brings one that can be read. */
  | { kind: 'unreadable'; change: Change; why: 'branch'; branch: string; problem: string; mends: boolean }
  | {
      kind: 'read';
      change: Change;
      base: Lock;
      models: Facts[];
      spending: Spending;
      /** Pipelines of the change that are under way. */
      running: Pipeline[];
      /** The default branch's cdl.yaml; null while it has none. */
      rules: Project | null;
      defaultBranch: string;
      /** Its head. */
      tip: string;
    };

/** Reads everything about a change, fresh. */
export async function readChange(sources: Sources, id: number, isolated: boolean): Promise<ReadChange> {
  const { forge, mirror } = sources;
  const change = await forge.getChange(id);
  const defaultBranch = await forge.defaultBranch();
  if (!change || change.head === '' || change.targetBranch !== defaultBranch) return { kind: 'ignored' };
  if (change.state === 'closed') return { kind: 'ignored' };
  const tip = await mirror.head(defaultBranch);
  if (!tip) return { kind: 'ignored' };
  if (change.fork) return { kind: 'unreadable', change, why: 'fork' };
  const [headProject, baseProject, headLock, baseLock, pipelines] = await Promise.all([
    projectAt(sources, change.head),
    projectAt(sources, tip),
    lockAt(sources, change.head),
    lockAt(sources, tip),
    readHeadPipeline(sources, change),
  ]);
  if (headProject === null) return { kind: 'ignored' };
  if (baseProject && 'problem' in baseProject) {
    const { problem } = baseProject;
    const own = 'problem' in headProject ? headProject.problem : null;
    if (own !== null && own !== problem) return { kind: 'unreadable', change, why: 'change', problem: own };
    // A branch that leaves the file alone brings nothing into the default branch that could be read.
    const mends = own === null && (await forge.changedFiles(id)).includes(projectFile);
    return { kind: 'unreadable', change, why: 'branch', branch: defaultBranch, problem, mends };
  }
  if ('problem' in headProject) {
    return { kind: 'unreadable', change, why: 'change', problem: headProject.problem };
  }
  const pipeline = pipelines.head;
  const [approvals, rejections] = await Promise.all([
    sources.state.approvals(id),
    sources.state.rejections(id),
  ]);
  const places = placesOf(headProject.project);
  const decided = new Map<Place, Awaited<ReturnType<typeof readDecisions>>>();
  const project = baseProject?.project ?? headProject.project;
  for (const place of places) {
    const { model, environment } = place;
    decided.set(place, await readDecisions(sources, project.project, model, environment));
  }
  const lockEdits = places.filter(
    ({ model, environment }) =>
      digestJson(lockEntry(headLock.lock, model, environment)) !==
      digestJson(lockEntry(baseLock.lock, model, environment)),
  );
  const decisionsAt = (place: Place): Decision[] => decided.get(place)?.decisions ?? [];
  const [withdrawn, kept, paused] = await Promise.all([
    readWithdrawn(sources.state, id),
    readReturn(sources.state, id),
    pausedBy(sources.state, id),
  ]);
  const proposed = await proposedPlaces({
    isMerged: change.state === 'merged',
    places,
    lockEdits,
    isDecided: (place) =>
      (kept?.model === place.model && kept.environment === place.environment) ||
      decisionsAt(place).some((one) => isTakenIn(one, change)) ||
      approvals.some((one) => one.model === place.model && one.environment === place.environment),
    mayReturn: (place) => returnOf(headLock.lock, baseLock.lock, place, decisionsAt(place)) !== null,
    changedFiles: () => forge.changedFiles(id),
  });
  const roles = createRoles(sources, { change: id, pipelines: pipelines.pipelines });
  const asked = await askedPipelines(sources, id);
  const spending = await readSpending(sources, {
    change: id,
    pipelines: [...pipelines.pipelines, ...asked],
    known: new Map(pipeline ? [[pipeline.pipeline.id, pipeline.jobs]] : []),
    budgets: baseProject?.project.budgets,
    now: sources.now(),
  });
  const models: Facts[] = [];
  for (const place of proposed.places) {
    const { model, environment, config, isFirst } = place;
    const baseModel = baseProject?.project.models[model];
    const rules = baseProject && baseModel ? { project: baseProject.project, model: baseModel } : null;
    const decisions = decisionsAt(place);
    const returns =
      change.state === 'merged'
        ? kept?.model === model && kept.environment === environment
          ? { candidate: kept.candidate, version: kept.version }
          : null
        : proposed.lockOnly
          ? returnOf(headLock.lock, baseLock.lock, place, decisions)
          : null;
    const [claim, live] = await Promise.all([
      checkClaim(sources, {
        head: pipeline,
        commit: change.head,
        model,
        config,
        data: headProject.project.datasets[config.data]!,
        project: headProject.project.project,
        lock: headLock.lock,
        environment,
        registered: isFirst ? await readRegistered(sources.state, id, model) : null,
        found: isFirst ? await readFound(sources.state, id, model) : null,
        lockOnly: !isFirst || returns !== null,
      }),
      readLive(sources.trusted, project.project, model, environment),
    ]);
    const baseline = baselineOf(live, claim, change, decisions);
    const question =
      claim.kind === 'verified' && rules
        ? evaluationQuestion({
            project: project.project,
            model,
            environment,
            candidate: claim.digest,
            baseline,
            ...evaluationRules(rules.model, rules.project.datasets[rules.model.data]),
          })
        : null;
    const answer = question ? await readAnswer(sources.trusted, question) : null;
    const started = question && !answer ? await sources.state.evaluationRun(question) : null;
    const running = started
      ? (asked.find((one) => one.id === started.pipeline) ?? (await forge.getPipeline(started.pipeline)))
      : null;
    const said = running?.state === 'failed' ? await readFailures(forge, await forge.jobs(running.id)) : null;
    const before = claim.kind === 'verified' ? await versionThatRan(sources.trusted, live, baseline) : null;
    const plan =
      claim.kind === 'verified'
        ? planDeployment({
            project: project.project,
            model,
            environment,
            from: baseline,
            fromPackage: before?.package ?? null,
            to: claim.digest,
            package: claim.claim.candidate.package,
            version: claim.claim.version,
            bytes: claim.bytes,
            environmentConfig: config.environments[environment]!,
            resources: config.resources.serve,
          })
        : null;
    const review =
      claim.kind === 'verified' && answer && plan
        ? reviewDigest({ candidate: claim.digest, evaluation: answer.digest, plan: plan.digest })
        : null;
    const mine = approvals.filter((one) => one.model === model && one.environment === environment);
    const about = claim.kind === 'verified' &&
      answer && { candidate: claim.digest, evaluation: answer.digest };
    const isCurrent = (one: Approval) =>
      one.review === review && !(about && isOverruled(one, decisions, about));
    const current = mine.filter(isCurrent);
    const { standing, lapsed } = await whoStillMay(roles, project, change, current);
    const made = { change, model, headProject: headProject.project, claim };
    models.push({
      project: project.project,
      change,
      model,
      environment,
      isFirst,
      defaultBranch,
      rules,
      rulesChanged: rules ? changedRules(headProject.project, rules.project, model) : [],
      rolloutChanged: rules ? changedRollout(config, rules.model, environment) : [],
      headProject: headProject.project,
      pipeline,
      claim,
      live,
      rollout:
        change.state === 'merged' ? await readRollout(sources.trusted, place, project, claim, returns) : null,
      lock: {
        text: headLock.text,
        baseText: baseLock.text,
        problem: headLock.problem,
        head: lockEntry(headLock.lock, model, environment),
        base: lockEntry(baseLock.lock, model, environment),
      },
      question,
      answer,
      run: started
        ? {
            ...started,
            state: running?.state ?? 'failed',
            url: running?.url ?? change.url,
            said: [...(said ?? new Map()).values()],
          }
        : null,
      plan,
      replaces: before?.version ?? null,
      review,
      data: await readData(sources, roles, rules, claim),
      approvals: standing,
      lapsed,
      withdrawn,
      voided: mine.filter((one) => !isCurrent(one)),
      rejection: await rejectionOf(sources, rejections, made),
      decisions,
      returns,
      paused,
      spending,
      losses: claim.kind === 'verified' ? await readLosses(sources.work, claim.claim.run) : [],
      isolated,
    });
  }
  return {
    kind: 'read',
    change,
    base: baseLock.lock,
    models,
    spending,
    running: pipelines.pipelines.filter((one) => one.state === 'running' || one.state === 'waiting'),
    rules: baseProject?.project ?? null,
    defaultBranch,
    tip,
  };
}

/**
 * What the candidate is compared with: what is live. A merged change stays with the baseline it was approved against, so
 * that its report keeps what people saw, also when it is live itself.
 */
function baselineOf(
  live: LiveState | null,
  claim: CheckedClaim,
  change: Change,
  decisions: readonly Decision[],
): Digest | null {
  if (change.state === 'merged' && claim.kind === 'verified') {
    const approved = decisions.findLast(
      (one) => one.decision === 'approved' && one.candidate === claim.digest && isTakenIn(one, change),
    );
    if (approved) return approved.baseline;
  }
  return live?.current?.candidate ?? null;
}
