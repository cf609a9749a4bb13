import type { KeyObject } from 'node:crypto';
import type {
  Change,
  Claim,
  DataDecision,
  DataStanding,
  Decision,
  Digest,
  Evaluation,
  FastForward,
  Forge,
  Job,
  LineProblem,
  LiveState,
  LockEntry,
  Mirror,
  ModelConfig,
  Pipeline,
  PipelineState,
  Plan,
  Project,
  Report,
  Rollout,
  SigningKey,
  Status,
  StepFailure,
  Zone,
} from '../src/index.ts';
import type { Spending, SpentJob } from './budget.ts';

/** Something to converge. Carries names only: what is true is read when it runs. */
export type Task =
  | { kind: 'change'; change: number }
  | { kind: 'comment'; change: number; comment: string }
  /** Live state, decisions and releases of the default branch. */
  | { kind: 'branch' }
  /** A branch that was pushed to, or whose pipeline ended; the default branch calls for the task `branch` instead. */
  | { kind: 'push'; branch: string }
  /** A branch that a merge queue made of what it is about to merge. */
  | { kind: 'queue'; branch: string }
  /** Something was registered: changes that wait for a version are looked at. */
  | { kind: 'registry' }
  /** The comparison of registry, lock and what is live. */
  | { kind: 'drift' }
  /** Telling one receiver (`sink`: {@link sinkId}) of one event (its id) on a change. */
  | { kind: 'notify'; change: number; event: string; sink: string };

/** One approval by a person. It counts for the one `review` it names. */
export interface Approval {
  change: number;
  model: string;
  environment: string;
  review: Digest;
  userId: string;
  username: string;
  role: string;
  /** Why a failed gate is overruled; null for a plain approval. */
  override: string | null;
  comment: string;
  /** ISO 8601. */
  at: string;
}

/** An approval that counts now, with every role its person has among those that are asked for, in their order. */
export interface StandingApproval extends Approval {
  roles: readonly string[];
}

/** A change sent back to a step; void when its content changes. */
export interface Rejection {
  change: number;
  /** Head commit it was said about. */
  head: string;
  /**
   * What it was said about, so that a commit that alters nothing of it does not lift it, and other models of the change are
   * not meant: the candidate of each model, or what its commit makes it of ({@link contentOf}) where there was none yet.
   */
  about: Digest[];
  step: string;
  reason: string;
  userId: string;
  username: string;
  /** When it was written, ISO 8601. */
  at: string;
}

/** A pipeline started to answer a question; `head` is the commit it was started for. */
export interface EvaluationRun {
  question: Digest;
  pipeline: string;
  head: string;
}

/** What the bot remembers of one change. */
export interface ChangeMemory {
  approvals: Approval[];
  rejections: Rejection[];
  /** Pipelines that were started for it. */
  pipelines: string[];
  jobs: SpentJob[];
  /** Notes by name. */
  notes: [name: string, value: string][];
}

/** What the bot remembers. Everything else it reads from forge, git and store. */
export interface BotState {
  /** All that is remembered of a change, in one round trip: the notes called `<what>/<change>…`, and the one called `letter`. */
  remembered(change: number, letter: string): Promise<ChangeMemory>;
  addApproval(approval: Approval): Promise<void>;
  approvals(change: number): Promise<Approval[]>;
  /** Notes that somebody sent the change back, unless a later word of theirs is known. */
  setRejection(rejection: Rejection): Promise<void>;
  /** Takes back what somebody said before `at` (ISO 8601), also when it is only read, or read again, after this. */
  liftRejection(change: number, userId: string, at: string): Promise<void>;
  rejections(change: number): Promise<Rejection[]>;
  evaluationRun(question: Digest): Promise<EvaluationRun | null>;
  setEvaluationRun(run: EvaluationRun): Promise<void>;
  /** Does `work` while nobody else on this database does what has the same name, for this project. */
  alone(name: string, work: () => Promise<void>): Promise<void>;
  /** Notes that a pipeline was started for a change. */
  addPipeline(pipeline: string, change: number): Promise<void>;
  pipelinesFor(change: number): Promise<string[]>;
  /** Whether a pipeline is noted as what an evaluation, a push or a deployment asked for. */
  isAskedFor(pipeline: string): Promise<boolean>;
  picture(key: Digest): Promise<string | null>;
  /** Keeps the markdown of an uploaded picture and returns what counts: that of whoever was first. */
  keepPicture(key: Digest, markdown: string): Promise<string>;
  isHandled(comment: string): Promise<boolean>;
  /** Those of these comments that are not {@link isHandled}, in their order. */
  unhandled(comments: readonly string[]): Promise<string[]>;
  setHandled(comment: string): Promise<void>;
  /** Takes back what a person approved with the forge's button. */
  withdrawButton(change: number, userId: string): Promise<void>;
  /** What the jobs of a change took, as far as it was noted. */
  jobsOf(change: number): Promise<SpentJob[]>;
  /** Jobs of all changes that ended after a time (ISO 8601) or run. */
  jobsSince(time: string): Promise<SpentJob[]>;
  setJobs(jobs: readonly SpentJob[]): Promise<void>;
  cursor(name: string): Promise<string | null>;
  /** Names of the notes that begin with this and say something. */
  cursors(prefix: string): Promise<string[]>;
  setCursor(name: string, value: string): Promise<void>;
}

/** What reading needs. */
export interface Sources {
  forge: Forge;
  mirror: Mirror;
  work: Zone;
  trusted: Zone;
  state: BotState;
  /** Keys whose decisions count; the bot's own among them. */
  keys: ReadonlyMap<string, KeyObject>;
  now(): Date;
}

/** Sources and what the bot adds of its own. */
export interface BotContext extends Sources {
  effects: Effects;
  signer: SigningKey;
}

/** What became of bringing a branch into another: `same` = nothing to do, `moved` = others keep pushing. */
export type Merged = 'pushed' | 'same' | 'moved' | { conflict: string[] };

/** Every side effect of converging, each idempotent: a run that was killed anywhere may be run again. */
export interface Effects {
  /** Keeps a comment; when it was last written by the forge's clock, in ISO 8601. */
  comment(change: number, key: string, report: Report): Promise<string>;
  status(sha: string, status: Status): Promise<void>;
  lineThreads(change: number, problems: readonly LineProblem[]): Promise<void>;
  recordCandidate(candidate: Digest, claim: Claim): Promise<void>;
  startEvaluation(request: {
    ref: string;
    question: Digest;
    head: string;
    inputs: Record<string, string>;
  }): Promise<void>;
  commitLock(commit: FastForward): Promise<'pushed' | 'same' | 'moved'>;
  /** Merges a branch into another one where only cdl.lock keeps git from it, by whole entries. */
  mergeLock(branch: string, target: string): Promise<Merged>;
  appendDecision(decision: Omit<Decision, 'seq' | 'prev' | 'time'>): Promise<void>;
  /** Signs a person's approval of a data version; the same said again is nothing new. */
  appendDataDecision(decision: Omit<DataDecision, 'seq' | 'prev' | 'time'>): Promise<void>;
  openRevert(revert: {
    branch: string;
    from: string;
    target: string;
    lock: string;
    title: string;
    description: string;
  }): Promise<void>;
  release(release: { tag: string; commit: string; title: string; description: string }): Promise<void>;
  /** Stops an evaluation nobody waits for any more; one that cannot be stopped goes on. */
  cancelEvaluation(pipeline: string): Promise<void>;
  /** Keeps the issue about drift; null = all is well, it is closed. */
  driftIssue(issue: { title: string; description: string; labels: string[] } | null): Promise<void>;
  /** Starts what a push to a branch calls for, as the bot itself. */
  startTriggered(branch: string, inputs: Record<string, string>): Promise<Pipeline>;
  /** Starts the deployment of what the default branch's lock names. */
  startDeployment(branch: string, inputs: Record<string, string>): Promise<Pipeline>;
  recordJobs(jobs: readonly SpentJob[]): Promise<void>;
  enqueue(task: Task): Promise<void>;
  setCursor(name: string, value: string): Promise<void>;
}

/** The state of the jobs at a change's head. */
export interface HeadPipeline {
  pipeline: Pipeline;
  state: PipelineState;
  jobs: Job[];
  failed: Job[];
  /** What failed jobs say why, by job. */
  said: ReadonlyMap<string, StepFailure>;
}

/** A claim after it was checked against git and the store. `source` says where it was found. */
export type CheckedClaim =
  | { kind: 'none' }
  | { kind: 'wrong'; problems: string[] }
  | {
      kind: 'verified';
      claim: Claim;
      digest: Digest;
      source: 'pipeline' | 'lock' | 'registry';
      recorded: boolean;
      bytes: number;
    };

/** The data version that a candidate was trained on, as people of the role data see it. */
export interface DataFacts extends DataStanding {
  /** What `/approve-data` names: digest of the evidence. */
  review: Digest;
  /** Approvals that the default branch's rules ask for; 0 = it need not be approved. */
  required: number;
  /** Of this evidence, by people who still have the role; each person once. */
  approvals: DataDecision[];
}

/** Everything the bot knows about one model of one change. Plain data: the plan is made of it alone. */
export interface Facts {
  project: string;
  change: Change;
  model: string;
  environment: string;
  /** The environment a change proposes for by its code; any other one it names in cdl.lock. */
  isFirst: boolean;
  defaultBranch: string;
  /** The default branch's rules; null when its cdl.yaml does not know the model (or there is none). */
  rules: { project: Project; model: ModelConfig } | null;
  /** cdl.yaml of the head has other gates, roles or approval rules than the default branch. */
  rulesChanged: string[];
  /** How the head rolls the model out otherwise than the default branch, and what it was there. */
  rolloutChanged: string[];
  headProject: Project;
  pipeline: HeadPipeline | null;
  claim: CheckedClaim;
  live: LiveState | null;
  /** How the deployment of the candidate goes or went; null while the change is open, or when it was none of it. */
  rollout: Rollout | null;
  lock: {
    /** Text at the head; '' when there is none. */
    text: string;
    /** Text on the default branch. */
    baseText: string;
    /** Why the head's lock cannot be read. */
    problem: string | null;
    head: LockEntry | null;
    base: LockEntry | null;
  };
  question: Digest | null;
  answer: { digest: Digest; evaluation: Evaluation } | null;
  /** `said`: what its failed jobs say why. */
  run: (EvaluationRun & { state: PipelineState; url: string; said: readonly StepFailure[] }) | null;
  plan: Plan | null;
  /** Version of what the plan replaces; null for nothing, and where nothing tells. */
  replaces: number | null;
  review: Digest | null;
  /** Null while there is no verified candidate, or no rules of the default branch to judge its data by. */
  data: DataFacts | null;
  /** For the current review, by people who still have a role for it and are not the author; each person once. */
  approvals: StandingApproval[];
  /** For the current review, by people who may not approve it (any more), and why. */
  lapsed: { approval: Approval; why: string }[];
  /** Ids of people who took back what they had approved with the forge's button. */
  withdrawn: string[];
  /** Approvals of earlier states of this change, or from before the deployment of this one was taken back. */
  voided: Approval[];
  rejection: Rejection | null;
  decisions: Decision[];
  /** The change only puts back what ran here before (or nothing): candidate, and its version. */
  returns: { candidate: Digest | null; version: number | null } | null;
  /** Who told the bot to leave the change alone; null when nobody did. */
  paused: string | null;
  /** What the jobs of the change took, and whether a budget is used up. */
  spending: Spending;
  /** Loss by epoch, as the run recorded it; empty when it did not. */
  losses: { name: string; points: [number, number][] }[];
  /** The store keeps writers of the work zone out of the trusted one. */
  isolated: boolean;
}
