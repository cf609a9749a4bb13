import {
  candidateDigest,
  candidateSchema,
  codeDigest,
  configDigest,
  createEntry,
  type Digest,
  digestJson,
  type Evaluation,
  emptyLock,
  evaluationQuestion,
  evaluationSchema,
  type Lock,
  lockEntry,
  lockFile,
  mergeLocks,
  type Person,
  projectFile,
  renderLock,
  renderMarkdown,
  UserError,
  versionKey,
  withEntry,
} from '../src/index.ts';
import { readClaim } from './claim.ts';
import type { FoundEvaluation, PromotedVersion, Tools } from './commands/types.ts';
import { lockAt, projectAt, readAnswer, readDecisions, readLive } from './read.ts';
import { createRoles } from './roles.ts';
import type { BotContext, Facts } from './types.ts';

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

/** Both locks merged by whole entries; what both sides changed is the default branch's, for the bot writes its own anew. */
function mergedLock(base: Lock, ours: Lock, theirs: Lock): Lock {
  const first = mergeLocks(base, ours, theirs);
  if (first.kind === 'merged') return first.lock;
  let side = ours;
  for (const [model, environment] of first.entries) {
    side = withEntry(side, model, environment, lockEntry(theirs, model, environment));
  }
  const second = mergeLocks(base, side, theirs);
  return second.kind === 'merged' ? second.lock : theirs;
}

async function refreshLock(
  context: BotContext,
  branch: string,
  target: string,
  person: Person,
): Promise<Awaited<ReturnType<Tools['refreshLock']>>> {
  const { mirror } = context;
  for (let attempt = 0; attempt < tries; attempt++) {
    const [head, tip] = await Promise.all([mirror.head(branch), mirror.head(target)]);
    if (!head || !tip) return 'moved';
    const base = await mirror.mergeBase(head, tip);
    if (base === tip) return 'same';
    const [before, ours, theirs] = await Promise.all([
      base ? lockAt(context, base) : { lock: emptyLock },
      lockAt(context, head),
      lockAt(context, tip),
    ]);
    const lock = ours.problem === null ? mergedLock(before.lock, ours.lock, theirs.lock) : theirs.lock;
    const wasThere = [ours, theirs].some((one) => one.text !== '');
    const done = await mirror.merge({
      branch,
      parent: head,
      other: tip,
      files: wasThere ? { [lockFile]: renderLock(lock) } : {},
      message: `Merge ${target} into ${branch}\n\ncdl.lock by whole entries.\n`,
      author: authorOf(person),
    });
    if (done !== 'moved') return done;
  }
  return 'moved';
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
  const found: Evaluation[] = [];
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
      gates: rules!.model.gates,
      data: digestJson(rules!.project.datasets[rules!.model.data]),
    });
    const one = await readAnswer(context.trusted, question);
    if (one) found.push(one.evaluation);
  }
  // Under earlier rules: the evaluations that decisions name.
  for (const decision of decisions) {
    if (decision.candidate !== candidate) continue;
    const evaluation = await readEvaluationArtifact(context, decision.evaluation);
    if (evaluation) found.push(evaluation);
  }
  const testset = answer?.evaluation.testset;
  const best = found.find((one) => one.testset === testset) ?? found.at(-1);
  return best ? { kind: 'found', evaluation: best } : { kind: 'never-evaluated' };
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
    const { candidate, version, run } = claim;
    versions.set(one.candidate, {
      version,
      entry: createEntry(candidate, one.evaluation, { version, run }),
      isLive: live?.current?.candidate === one.candidate,
      isKept: await context.trusted.hasArtifact(candidate.package),
    });
  }
  return [...versions.values()];
}

/** What commands may use, as it really is. Each call may be repeated after a kill. */
export function createTools(context: BotContext): Tools {
  const { forge, mirror, state } = context;
  const roles = createRoles(context);
  return {
    member: (userId) => roles.member(userId),
    roleOf: (project, wanted, userId) => roles.roleOf(project, wanted, userId),
    conflictOf: (project, change, person) => roles.conflictOf(project, change, person),
    addApproval: (approval) => state.addApproval(approval),
    setRejection: (rejection) => state.setRejection(rejection),
    liftRejection: (change, userId) => state.liftRejection(change, userId),
    setPaused: (change, username) => state.setCursor(`paused/${change}`, username ?? ''),
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
    refreshLock: (change, person) => refreshLock(context, change.sourceBranch, change.targetBranch, person),
    async defaultProject() {
      return mirror.readFile((await tipOf(context)).tip, projectFile);
    },
    async propose({ branch, files, title, description, person }) {
      const { branch: target, tip } = await tipOf(context);
      // The tip is part of the name: an earlier proposal that was closed is another one.
      const source = `${branch}-${tip.slice(0, 8)}`;
      await mirror.ensureBranch(source, tip);
      await mirror.fastForward({
        branch: source,
        parent: tip,
        files,
        message: `${title}\n`,
        author: authorOf(person),
      });
      return forge.ensureChange({ source, target, title, description });
    },
    async lockWith(model, environment, entry) {
      const { lock } = await lockAt(context, (await tipOf(context)).tip);
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
    openIssue(key, { title, text, labels }) {
      const description = renderMarkdown({
        key,
        title,
        verdict: 'warn',
        summary: 'Asked for by a validator.',
        blocks: [{ kind: 'text', text }],
      });
      return forge.ensureIssue(key, { title, description, labels });
    },
    now: () => context.now(),
  };
}
