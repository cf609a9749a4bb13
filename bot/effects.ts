import {
  candidateKey,
  chartsOf,
  claimKey,
  type Decision,
  type Digest,
  decisionDigest,
  decisionKey,
  drawChart,
  type Envelope,
  headKey,
  lockFile,
  openHead,
  renderMarkdown,
  signDecision,
  signHead,
  UpstreamError,
  UserError,
} from '../src/index.ts';
import { driftKey } from './drift.ts';
import { fitReport, longestReport } from './fit.ts';
import { mergeWithLock } from './lock-merge.ts';
import { readDecisions } from './read.ts';
import type { BotContext, Effects, Task } from './types.ts';

/** Whether two decisions say the same about the same thing. */
function saysTheSame(a: Omit<Decision, 'seq' | 'prev' | 'time'>, b: Decision): boolean {
  return (
    a.decision === b.decision &&
    a.candidate === b.candidate &&
    a.evaluation === b.evaluation &&
    a.plan === b.plan &&
    a.baseline === b.baseline &&
    a.change === b.change
  );
}

/** How often two writers may meet at the same number before one gives up for now. */
const tries = 5;

/** The side effects as they really are. `enqueue` hands a task to the queue. */
export function createEffects(
  context: Omit<BotContext, 'effects'>,
  enqueue: (task: Task) => Promise<void>,
): Effects {
  const { forge, mirror, trusted, state } = context;

  /** Notes how long a chain is, never shorter than somebody else noted meanwhile. */
  async function keepHead(
    of: Pick<Decision, 'project' | 'model' | 'environment'>,
    seq: number,
    digest: Digest,
  ): Promise<void> {
    const key = headKey(of.project, of.model, of.environment);
    for (let attempt = 0; attempt < tries; attempt++) {
      const record = await trusted.readRecord(key);
      if (record && openHead(record.value, context.keys, key).seq >= seq) return;
      const head = signHead({ v: 1, ...of, seq, digest }, context.signer);
      const condition = record ? { ifMatch: record.etag } : { ifAbsent: true as const };
      if ((await trusted.writeRecord(key, head, condition)) === 'stored') return;
    }
  }

  return {
    enqueue,
    setCursor: (name, value) => state.setCursor(name, value),
    async comment(change, key, report) {
      const pictures = new Map<string, string>();
      for (const [id, chart] of chartsOf(report.blocks)) {
        let markdown = await state.picture(id);
        if (markdown === null) {
          markdown = await forge.upload(`${chart.kind}-${id.slice(7, 19)}.png`, await drawChart(chart));
          await state.setPicture(id, markdown);
        }
        pictures.set(id, markdown);
      }
      const fitting = fitReport(report, longestReport[forge.kind], pictures);
      await forge.ensureComment(change, key, renderMarkdown(fitting, pictures));
    },
    lineThreads: (change, problems) => forge.ensureLineThreads(change, problems),
    status: (sha, status) => forge.setStatus(sha, status),
    async recordCandidate(candidate, claim) {
      // Whoever finds the candidate finds the claim, so that comes first.
      await trusted.writeRecord(claimKey(candidate), claim, { ifAbsent: true });
      await trusted.writeRecord(candidateKey(candidate), claim.candidate, { ifAbsent: true });
    },
    async startEvaluation({ ref, question, head, inputs }) {
      await state.alone(`evaluation ${question}`, async () => {
        // Another bot may have asked since this one looked.
        if ((await state.evaluationRun(question))?.head === head) return;
        const pipeline = await forge.runPipeline(ref, inputs);
        await state.setEvaluationRun({ question, pipeline: pipeline.id, head });
        const change = Number(inputs.cdl_change);
        if (Number.isInteger(change) && change > 0) await state.addPipeline(pipeline.id, change);
      });
    },
    async driftIssue(issue) {
      if (issue) await forge.ensureIssue(driftKey, issue);
      else await forge.closeIssue(driftKey);
    },
    startTriggered: (branch, inputs) => forge.runPipeline(branch, inputs, 'self'),
    startDeployment: (branch, inputs) => forge.runPipeline(branch, inputs),
    recordJobs: (jobs) => state.setJobs(jobs),
    commitLock: (commit) => mirror.fastForward(commit),
    async mergeLock(branch, target) {
      const { name, username } = await forge.self();
      const author = { name, email: botEmail(username) };
      return mergeWithLock(context, { branch, target, author });
    },
    async appendDecision(decision) {
      for (let attempt = 0; attempt < tries; attempt++) {
        const { project, model, environment } = decision;
        const { decisions, envelopes } = await readDecisions(context, project, model, environment);
        const last = decisions.at(-1);
        // Somebody (or this very job before it was killed) was first.
        if (last && saysTheSame(decision, last)) {
          await keepHead(
            { project, model, environment },
            last.seq,
            decisionDigest(envelopes.at(-1) as Envelope),
          );
          return;
        }
        const seq = decisions.length + 1;
        const before = envelopes.at(-1) as Envelope | undefined;
        const envelope = signDecision(
          {
            ...decision,
            seq,
            prev: before ? decisionDigest(before) : null,
            time: context.now().toISOString(),
          },
          context.signer,
        );
        const key = decisionKey(project, model, environment, seq);
        if ((await trusted.writeRecord(key, envelope, { ifAbsent: true })) !== 'stored') continue;
        await keepHead({ project, model, environment }, seq, decisionDigest(envelope));
        return;
      }
      throw new UpstreamError('store', 'others keep writing decisions', { retryable: true });
    },
    async release(release) {
      await forge.ensureRelease(release);
    },
    async cancelEvaluation(pipeline) {
      try {
        await forge.cancelPipeline(pipeline);
      } catch (error) {
        // It ended by itself, or it is not ours to stop: then it only costs its time.
        const isRefused = error instanceof UpstreamError && !error.retryable;
        if (!isRefused && !(error instanceof UserError)) throw error;
      }
    },
    async openRevert(revert) {
      await mirror.ensureBranch(revert.branch, revert.from);
      const self = await forge.self();
      const pushed = await mirror.fastForward({
        branch: revert.branch,
        parent: revert.from,
        files: { [lockFile]: revert.lock },
        message: `${revert.title}\n`,
        author: { name: self.name, email: botEmail(self.username) },
      });
      if (pushed === 'moved') return;
      await forge.ensureChange({
        source: revert.branch,
        target: revert.target,
        title: revert.title,
        description: revert.description,
      });
    },
  };
}

/** The address of the bot's commits: of no mailbox. */
export function botEmail(username: string): string {
  return `${username}@noreply.invalid`;
}
