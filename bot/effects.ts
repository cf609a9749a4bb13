import {
  type ChainHead,
  candidateKey,
  chartsOf,
  claimKey,
  cleanLine,
  type DataDecision,
  type Decision,
  dataDecisionKey,
  dataHeadKey,
  decisionDigest,
  decisionKey,
  drawChart,
  type Envelope,
  headKey,
  layoutWidth,
  lockFile,
  openHead,
  readDataChain,
  renderMarkdown,
  signDataDecision,
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

/** Whether two approvals of data are one person's word about the same thing. */
function isSameWord(a: Omit<DataDecision, 'seq' | 'prev' | 'time'>, b: DataDecision): boolean {
  return a.version === b.version && a.evidence === b.evidence && a.approver.id === b.approver.id;
}

/** How often two writers may meet at the same number before one gives up for now. */
const tries = 5;

/** The side effects as they really are. `enqueue` hands a task to the queue; `told` hears what was written. */
export function createEffects(
  context: Omit<BotContext, 'effects'>,
  enqueue: (task: Task) => Promise<void>,
  told: { report?(changed: boolean): void; decision?(kind: string): void } = {},
): Effects {
  const { forge, mirror, trusted, state } = context;

  /** Notes how long a chain is, never shorter than somebody else noted meanwhile. */
  async function keepHead(key: string, head: ChainHead): Promise<void> {
    for (let attempt = 0; attempt < tries; attempt++) {
      const record = await trusted.readRecord(key);
      if (record && openHead(record.value, context.keys, key).seq >= head.seq) return;
      const signed = signHead(head, context.signer);
      const condition = record ? { ifMatch: record.etag } : { ifAbsent: true as const };
      if ((await trusted.writeRecord(key, signed, condition)) === 'stored') return;
    }
  }

  /** Writes the next link of a chain and its head; the newest again when `read` finds that it was said already. */
  async function append(chain: {
    key: (seq: number) => string;
    headKey: string;
    /** What is signed, as it is counted. */
    kind: string;
    place: { model: string; environment: string } | { dataset: string };
    project: string;
    /** The chain, verified, and whether it says the same already. */
    read: () => Promise<{ envelopes: unknown[]; said: boolean }>;
    sign: (link: Pick<Decision, 'seq' | 'prev' | 'time'>) => Envelope;
  }): Promise<void> {
    const { project, place } = chain;
    const noted = (envelope: Envelope, seq: number) =>
      keepHead(chain.headKey, { v: 1, project, ...place, seq, digest: decisionDigest(envelope) });
    for (let attempt = 0; attempt < tries; attempt++) {
      const { envelopes, said } = await chain.read();
      const last = envelopes.at(-1) as Envelope | undefined;
      // Somebody (or this very job before it was killed) was first.
      if (last && said) return noted(last, envelopes.length);
      const seq = envelopes.length + 1;
      const prev = last ? decisionDigest(last) : null;
      const envelope = chain.sign({ seq, prev, time: context.now().toISOString() });
      if ((await trusted.writeRecord(chain.key(seq), envelope, { ifAbsent: true })) !== 'stored') continue;
      told.decision?.(chain.kind);
      return noted(envelope, seq);
    }
    throw new UpstreamError('store', 'others keep writing decisions', { retryable: true });
  }

  return {
    enqueue,
    setCursor: (name, value) => state.setCursor(name, value),
    async comment(change, key, report) {
      const pictures = new Map<string, string>();
      for (const [id, chart] of chartsOf(report.blocks)) {
        let markdown = await state.picture(id);
        if (markdown === null) {
          const name = `${chart.kind}-${id.slice(7, 19)}.png`;
          const png = await drawChart(chart);
          markdown = await state.keepPicture(id, await forge.upload(name, png, layoutWidth(png)));
        }
        pictures.set(id, markdown);
      }
      const fitting = fitReport(report, longestReport[forge.kind], pictures);
      const { changed, updatedAt } = await forge.ensureComment(
        change,
        key,
        renderMarkdown(fitting, pictures),
      );
      told.report?.(changed);
      return updatedAt;
    },
    lineThreads: (change, problems) => forge.ensureLineThreads(change, problems),
    status: (sha, status) => forge.setStatus(sha, { ...status, description: cleanLine(status.description) }),
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
    appendDecision(decision) {
      const { project, model, environment } = decision;
      return append({
        project,
        place: { model, environment },
        key: (seq) => decisionKey(project, model, environment, seq),
        headKey: headKey(project, model, environment),
        kind: decision.decision,
        async read() {
          const { decisions, envelopes } = await readDecisions(context, project, model, environment);
          const last = decisions.at(-1);
          return { envelopes, said: last !== undefined && saysTheSame(decision, last) };
        },
        sign: (link) => signDecision({ ...decision, ...link }, context.signer),
      });
    },
    appendDataDecision(decision) {
      const { project, dataset } = decision;
      return append({
        project,
        place: { dataset },
        key: (seq) => dataDecisionKey(project, dataset, seq),
        headKey: dataHeadKey(project, dataset),
        kind: 'data',
        async read() {
          const { decisions, envelopes } = await readDataChain(trusted, context.keys, project, dataset);
          return { envelopes, said: decisions.some((one) => isSameWord(decision, one)) };
        },
        sign: (link) => signDataDecision({ ...decision, ...link }, context.signer),
      });
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
