import type {
  AccuracyDifference,
  Change,
  Claim,
  Comment,
  DataDecision,
  Digest,
  Evaluation,
  Forge,
  LockEntry,
  Person,
  Project,
  Role,
} from '../../src/index.ts';
import type { DataRequest } from '../data-issue.ts';
import type { ChangePlan } from '../plan.ts';
import type { FoundVersion } from '../registered.ts';
import type { Conflict } from '../roles.ts';
import type { Approval, Facts, Rejection } from '../types.ts';

/** One command as it was written, and by whom. */
export interface Call {
  args: string[];
  options: Record<string, string>;
  comment: Comment;
  change: Change;
  /** Models of the change as they stand now. */
  models: { facts: Facts; plan: ChangePlan }[];
}

/** What the bot answers: one reaction and one text in the thread. `converge` when something changed. */
export interface Answer {
  emoji: 'thumbsup' | 'confused' | 'no_entry' | 'eyes';
  text: string;
  converge?: true;
  /** A refusal of who asks, whatever the change is like. */
  about?: 'person';
}

/** What became of a commit on a branch: `moved` = others kept pushing. */
export type Committed = 'pushed' | 'same' | 'moved';

/** What commands may use; each asks for the part it needs. Everything may be called again after a kill. */
export interface Tools {
  /** Whose words for pipelines people know. */
  forge: Forge['kind'];
  /** The member of the project behind a comment, by id, and their access level; null when they are none. */
  member(userId: string): Promise<{ person: Person; level: number } | null>;
  /** The first of these roles that somebody has by these rules; null when none. */
  roleOf(
    project: Project,
    roles: readonly Role[],
    userId: string,
  ): Promise<{ person: Person; role: Role } | null>;
  /** All of these roles that somebody has by these rules, in this order. */
  rolesOf(project: Project, roles: readonly Role[], userId: string): Promise<Role[]>;
  /** Why a person who has the role may not approve all the same; null when nothing speaks against it. */
  conflictOf(project: Project, change: Change, person: Person): Promise<Conflict | null>;
  addApproval(approval: Approval): Promise<void>;
  /** Signs an approval of a data version, once. */
  approveData(decision: Omit<DataDecision, 'seq' | 'prev' | 'time'>): Promise<void>;
  /** What somebody sent back of a change, whoever else did so; null for nothing. */
  rejectionBy(change: number, userId: string): Promise<Rejection | null>;
  setRejection(rejection: Rejection): Promise<void>;
  /** Takes back what somebody said before `at` (ISO 8601). */
  liftRejection(change: number, userId: string, at: string): Promise<void>;
  /** Remembers who paused a change (null = nobody any more) by a word of that time; false where a newer word is known. */
  setPaused(change: number, username: string | null, at: string): Promise<boolean>;
  /** What the head says that a model is made of. */
  contentOf(facts: Facts): Promise<Digest>;
  /** The first value that was kept under a name for a comment: this one, unless there was one. A command begun again after a kill goes on with it. */
  keep(comment: string, name: string, value: string): Promise<string>;
  /** Has the question of a model asked again; false when that was done for this head before. */
  askAgain(facts: Facts): Promise<boolean>;
  /** Changes one file at the head of the change's branch, in the name of a person; read again when somebody pushed meanwhile. */
  editFile(
    change: Change,
    path: string,
    edit: (text: string) => string,
    message: string,
    person: Person,
  ): Promise<Committed>;
  /** Brings the default branch into the change's branch with cdl.lock merged by whole entries; `conflict` in other files. */
  refreshLock(change: Change, person: Person): Promise<Committed | { conflict: string[] }>;
  /**
   * The commit of the default branch where what a comment proposes begins: the newest one when that was first asked. A command
   * begun again after a kill finds the change that it opened, also when somebody pushed meanwhile.
   */
  proposalBase(comment: string): Promise<string>;
  /** cdl.yaml at such a commit as text. */
  defaultProject(base: string): Promise<string | null>;
  /** Opens a change to the default branch that begins at `base`, with these files changed. */
  propose(wanted: {
    base: string;
    branch: string;
    files: Record<string, string>;
    title: string;
    description: string;
    person: Person;
  }): Promise<Change>;
  /** cdl.lock at such a commit with an entry set, as text. */
  lockWith(base: string, model: string, environment: string, entry: LockEntry): Promise<string>;
  /** A version that was ever promoted here, newest first, as an entry that can come back. */
  promoted(facts: Facts, environment: string): Promise<PromotedVersion[]>;
  /** The entry of the default branch's lock, and whether code and configuration of that branch still make it. */
  lockedAt(facts: Facts, environment: string): Promise<{ entry: LockEntry; isCurrent: boolean } | null>;
  /** What is known of a version's evaluation in an environment: the newest on this test set, else the newest at all. */
  evaluationOf(facts: Facts, version: number): Promise<FoundEvaluation>;
  /** A version of the registry for this change, by number or by the first digits of its checkpoint. */
  registered(facts: Facts, wanted: { version: number } | { prefix: string }): Promise<FoundVersion>;
  /** Proposes such a version on a change, and notes who said so; false where something newer was said. */
  setRegistered(
    change: number,
    model: string,
    claim: Claim,
    said: { by: Person; at: string },
  ): Promise<boolean>;
  /** Whether an entry of the default branch's lock can be deployed now. */
  deployable(facts: Facts, environment: string, entry: LockEntry): Promise<Deployable>;
  /** Starts the deployment of a model to an environment once for each key. */
  startDeployment(key: string, model: string, environment: string): Promise<{ url: string }>;
  /** Opens an issue for the role data that leads back to the change it is about. */
  openIssue(key: string, issue: Omit<DataRequest, 'key'> & { labels: string[] }): Promise<{ url: string }>;
}

/** Where the deployment of an entry stands. */
export type Deployable =
  | { kind: 'ready' }
  | { kind: 'live' }
  | { kind: 'under-way'; since: string }
  | { kind: 'not-approved'; revoked: boolean };

/** A version that ran in an environment. */
export interface PromotedVersion {
  version: number;
  entry: LockEntry;
  /** Since when it is live, ISO 8601; null when it is not. */
  liveSince: string | null;
  /** Its package is still in the trusted zone. */
  isKept: boolean;
}

/** An evaluation of a version, or why there is none. */
export type FoundEvaluation =
  | {
      kind: 'found';
      evaluation: Evaluation;
      /** Item by item, where both were measured on the same test set. */
      paired: AccuracyDifference | null;
    }
  | { kind: 'unknown-version'; known: number[] }
  | { kind: 'never-evaluated' };

/** One command. `Needs` is the part of {@link Tools} its handler uses. */
export interface Command<Needs extends Partial<Tools> = object> {
  name: string;
  usage: string;
  summary: string;
  /** One or two lines as a person would write them. */
  examples: readonly string[];
  /** Who may: anybody who can comment, a member who may push, the approving role, that or the role data, the role data, or a role that operates (devops, maintainer) too. */
  role: 'anyone' | 'member' | 'approver' | 'approver-or-data' | 'data' | 'operator';
  /**
   * Milliseconds after which it is about the content that its author saw, and not done where that is another one by then.
   * Absent: it holds whatever the content is.
   */
  holds?: number;
  handle(call: Call, tools: Needs): Promise<Answer>;
}
