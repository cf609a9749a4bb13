import {
  type AccuracyDifference,
  candidateDigest,
  candidateSchema,
  claimInfo,
  codeDigest,
  compareCorrect,
  configDigest,
  correctFile,
  createEntry,
  type Digest,
  type Evaluation,
  evaluationQuestion,
  evaluationRules,
  evaluationSchema,
  type LockEntry,
  lockEntry,
  type Person,
  projectFile,
  renderLock,
  UserError,
  versionKey,
  withEntry,
} from '../src/index.ts';
import { readClaim } from './claim.ts';
import type { Deployable, FoundEvaluation, PromotedVersion, Tools } from './commands/types.ts';
import { contentOf } from './content.ts';
import { dataIssue } from './data-issue.ts';
import { mergeWithLock } from './lock-merge.ts';
import { setPaused } from './paused.ts';
import { lockAt, projectAt, readAnswer, readDecisions, readLive } from './read.ts';
import { findRegistered, keepRegistered } from './registered.ts';
import { createRoles } from './roles.ts';
import type { BotContext, Facts } from './types.ts';

/** What the note about a deployment begins with until it names its pipeline. */
const intention = 'after ';

/** Sources of pipelines that a token started: GitLab's and GitHub's word. */
const startedByInterface: ReadonlySet<string> = new Set(['api', 'workflow_dispatch']);

/** How often somebody may push in between before a command gives up. */
const tries = 4;

/** Commits that a command makes are the person's who asked for it: they made the change, so they do not approve it. */
function authorOf(person: Person): { name: string; email: string } {
  return { name: person.name || person.username, email: `${person.username}@noreply.invalid` };
}

async function tipOf(context: BotContext): Promise<{ branch: string; tip: string }> {
  const branch = await context.forge.defaultBranch();
  const tip = await context.mirror.head(branch);
  if (tip) return { branch, tip };
  throw new UserError('file-missing', `${branch} has no commit yet`);
}

/** Every candidate a registered version of this number may name: the first verified claim, or the registry of the work zone. */
async function candidateOf(
  context: BotContext,
  facts: Facts,
  version: number,
): Promise<{ candidate: Digest | null; known: number[] }> {
  const known: number[] = [];
  for (const digest of new Set(facts.decisions.map((one) => one.candidate))) {
    const claim = await readClaim(context.trusted, digest);
    if (claim?.version === version) return { candidate: digest, known };
    if (claim) known.push(claim.version);
  }
  const record = await context.work.readRecord(versionKey(facts.project, facts.model, version));
  const value = record?.value as { candidate?: unknown } | undefined;
  const parsed = candidateSchema.safeParse(value?.candidate);
  return {
    candidate: parsed.success ? candidateDigest(parsed.data) : null,
    known: known.sort((a, b) => a - b),
  };
}

async function readEvaluationArtifact(context: BotContext, digest: Digest): Promise<Evaluation | null> {
  try {
    const { kind, meta } = await context.trusted.getArtifact(digest);
    const parsed = evaluationSchema.safeParse(meta);
    return kind === 'evaluation' && parsed.success ? parsed.data : null;
  } catch (error) {
    if (error instanceof UserError && error.code === 'artifact-missing') return null;
    throw error;
  }
}

async function evaluationOf(context: BotContext, facts: Facts, version: number): Promise<FoundEvaluation> {
  const { candidate, known } = await candidateOf(context, facts, version);
  if (!candidate) return { kind: 'unknown-version', known };
  const { project, model, environment, rules, decisions, answer } = facts;
  const found: { digest: Digest; evaluation: Evaluation }[] = [];
  // Answers are kept by question: against whatever was live at the time, by the rules that count now.
  const baselines = new Set<Digest | null>([
    null,
    ...decisions.flatMap((one) => [one.candidate, one.baseline]),
  ]);
  for (const baseline of rules ? baselines : []) {
    const question = evaluationQuestion({
      project,
      model,
      environment,
      candidate,
      baseline,
      ...evaluationRules(rules!.model, rules!.project.datasets[rules!.model.data]),
    });
    const one = await readAnswer(context.trusted, question);
    if (one) found.push(one);
  }
  // Under earlier rules: the evaluations that decisions name.
  for (const decision of decisions) {
    if (decision.candidate !== candidate) continue;
    const evaluation = await readEvaluationArtifact(context, decision.evaluation);
    if (evaluation) found.push({ digest: decision.evaluation, evaluation });
  }
  const testset = answer?.evaluation.testset;
  const best = found.find((one) => one.evaluation.testset === testset) ?? found.at(-1);
  if (!best) return { kind: 'never-evaluated' };
  const paired =
    answer && best.evaluation.testset === testset
      ? await pairedOf(context, answer.digest, best.digest)
      : null;
  return { kind: 'found', evaluation: best.evaluation, paired };
}

/** Two evaluations item by item; null when one of them is too old to have kept its items. */
async function pairedOf(
  { trusted }: BotContext,
  own: Digest,
  other: Digest,
): Promise<AccuracyDifference | null> {
  const [first, second] = await Promise.all(
    [own, other].map(async (digest) => {
      const file = (await trusted.getArtifact(digest)).files.find((one) => one.path === correctFile);
      return file ? trusted.readBlob(file.digest) : null;
    }),
  );
  return first && second ? compareCorrect(first, second) : null;
}

async function promoted(context: BotContext, facts: Facts, environment: string): Promise<PromotedVersion[]> {
  const { project, model } = facts;
  const [{ decisions }, live] = await Promise.all([
    readDecisions(context, project, model, environment),
    readLive(context.trusted, project, model, environment),
  ]);
  const versions = new Map<Digest, PromotedVersion>();
  for (const one of [...decisions].reverse()) {
    if (one.decision !== 'promoted' || versions.has(one.candidate)) continue;
    if (decisions.findLast((other) => other.candidate === one.candidate)?.decision === 'revoked') continue;
    const claim = await readClaim(context.trusted, one.candidate);
    if (!claim) continue;
    const { candidate, version } = claim;
    versions.set(one.candidate, {
      version,
      entry: createEntry(candidate, one.evaluation, claimInfo(claim)),
      liveSince: live?.current?.candidate === one.candidate ? live.current.since : null,
      isKept: await context.trusted.hasArtifact(candidate.package),
    });
  }
  return [...versions.values()];
}

/** Whether the entry of the default branch's lock can be deployed now, as far as can be told before the job checks it. */
async function deployable(
  context: BotContext,
  { project, model }: Facts,
  environment: string,
  entry: LockEntry,
): Promise<Deployable> {
  const [{ decisions }, live] = await Promise.all([
    readDecisions(context, project, model, environment),
    readLive(context.trusted, project, model, environment),
  ]);
  if (live?.current?.candidate === entry.candidate) return { kind: 'live' };
  if (live?.transition?.candidate === entry.candidate) {
    return { kind: 'under-way', since: live.transition.since };
  }
  const last = decisions.findLast(
    (one) => one.candidate === entry.candidate && one.evaluation === entry.evaluation,
  );
  if (!last || last.decision === 'revoked') return { kind: 'not-approved', revoked: last !== undefined };
  return { kind: 'ready' };
}

/**
 * Starts a deployment once for each key. The forge's interface names no inputs of what runs there, so the note says first
 * after which pipeline it was started: where it says no more than that, a newer one that the interface started and that
 * nothing else is known to have asked for is the one, and it was only not noted before a kill.
 */
async function startDeployment(
  { forge, state, effects }: BotContext,
  key: string,
  model: string,
  environment: string,
): Promise<{ url: string }> {
  const branch = await forge.defaultBranch();
  const name = `deploy/${key}/${model}/${environment}`;
  const before = await state.cursor(name);
  const noted = before && !before.startsWith(intention) ? await forge.getPipeline(before) : null;
  if (noted) return { url: noted.url };
  const all = await forge.branchPipelines(branch);
  if (before?.startsWith(intention)) {
    const after = Number(before.slice(intention.length));
    const later = all.filter(({ id, source }) => Number(id) > after && startedByInterface.has(source));
    for (const one of later.reverse()) {
      if (await state.isAskedFor(one.id)) continue;
      await state.setCursor(name, one.id);
      return { url: one.url };
    }
  } else await state.setCursor(name, `${intention}${all[0]?.id ?? 0}`);
  const made = await effects.startDeployment(branch, {
    cdl_task: 'deploy',
    cdl_model: model,
    cdl_environment: environment,
  });
  await state.setCursor(name, made.id);
  return { url: made.url };
}

/** What commands may use, as it really is. Each call may be repeated after a kill. */
export function createTools(context: BotContext): Tools {
  const { forge, mirror, state } = context;
  const roles = createRoles(context);
  async function keep(comment: string, what: string, value: string): Promise<string> {
    const name = `kept/${comment}/${what}`;
    const kept = await state.cursor(name);
    if (kept === null) await state.setCursor(name, value);
    return kept ?? value;
  }
  return {
    member: (userId) => roles.member(userId),
    roleOf: (project, wanted, userId) => roles.roleOf(project, wanted, userId),
    forge: forge.kind,
    rolesOf: (project, wanted, userId) => roles.rolesOf(project, wanted, userId),
    conflictOf: (project, change, person) => roles.conflictOf(project, change, person),
    addApproval: (approval) => state.addApproval(approval),
    approveData: (decision) => context.effects.appendDataDecision(decision),
    rejectionBy: async (change, userId) =>
      (await state.rejections(change)).find((one) => one.userId === userId) ?? null,
    setRejection: (rejection) => state.setRejection(rejection),
    liftRejection: (change, userId, at) => state.liftRejection(change, userId, at),
    setPaused: (change, by, at) => setPaused(state, change, { by, at }),
    contentOf: (facts) => contentOf(context, facts, facts.change.head),
    keep,
    async askAgain({ question, change }) {
      const run = question ? await state.evaluationRun(question) : null;
      if (!question || !run) return false;
      const name = `asked/${question}/${change.head}`;
      const asked = await state.cursor(name);
      if (asked !== null && asked !== run.pipeline) return false;
      await state.setCursor(name, run.pipeline);
      // A run for no head of this change counts as none: the next look starts one.
      await state.setEvaluationRun({ ...run, head: '' });
      return true;
    },
    async editFile(change, path, edit, message, person) {
      for (let attempt = 0; attempt < tries; attempt++) {
        const head = await mirror.head(change.sourceBranch);
        const text = head ? await mirror.readFile(head, path) : null;
        if (!head || text === null) return 'moved';
        const done = await mirror.fastForward({
          branch: change.sourceBranch,
          parent: head,
          files: { [path]: edit(text) },
          message: `${message}\n`,
          author: authorOf(person),
        });
        if (done !== 'moved') return done;
      }
      return 'moved';
    },
    refreshLock: (change, person) =>
      mergeWithLock(context, {
        branch: change.sourceBranch,
        target: change.targetBranch,
        author: authorOf(person),
      }),
    registered: (facts, wanted) => findRegistered(context, facts, wanted),
    setRegistered: (change, model, claim, said) => keepRegistered(state, change, model, claim, said),
    deployable: (facts, environment, entry) => deployable(context, facts, environment, entry),
    startDeployment: (key, model, environment) => startDeployment(context, key, model, environment),
    proposalBase: async (comment) => keep(comment, 'base', (await tipOf(context)).tip),
    defaultProject: (base) => mirror.readFile(base, projectFile),
    async propose({ base, branch, files, title, description, person }) {
      const { branch: target } = await tipOf(context);
      // Where it begins is part of the name: an earlier proposal that was closed is another one.
      const source = `${branch}-${base.slice(0, 8)}`;
      await mirror.ensureBranch(source, base);
      await mirror.fastForward({
        branch: source,
        parent: base,
        files,
        message: `${title}\n`,
        author: authorOf(person),
      });
      return forge.ensureChange({ source, target, title, description });
    },
    async lockWith(base, model, environment, entry) {
      const { lock } = await lockAt(context, base);
      return renderLock(withEntry(lock, model, environment, entry));
    },
    promoted: (facts, environment) => promoted(context, facts, environment),
    async lockedAt({ model }, environment) {
      const { tip } = await tipOf(context);
      const [{ lock }, read] = await Promise.all([lockAt(context, tip), projectAt(context, tip)]);
      const entry = lockEntry(lock, model, environment);
      const config = read && 'project' in read ? read.project.models[model] : undefined;
      if (!entry || !config) return null;
      const code = codeDigest(await mirror.codeFiles(tip, config.code));
      return { entry, isCurrent: entry.code === code && entry.config === configDigest(config) };
    },
    evaluationOf: (facts, version) => evaluationOf(context, facts, version),
    openIssue(key, { labels, ...request }) {
      const description = dataIssue({ key, ...request });
      return forge.ensureIssue(key, { title: request.title, description, labels });
    },
  };
}
