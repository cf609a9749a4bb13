import type { Change, Comment, Person } from '../../src/index.ts';
import type { ChangePlan } from '../plan.ts';
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
}

/** What commands may use; each asks for the part it needs. */
export interface Tools {
  /** The member of the project behind a comment, by id; null when they are none. */
  member(userId: string): Promise<Person | null>;
  /** Whether a person wrote a commit of the change. */
  wroteCommits(change: number, person: Person): Promise<boolean>;
  addApproval(approval: Approval): Promise<void>;
  setRejection(rejection: Rejection): Promise<void>;
  liftRejection(change: number, userId: string): Promise<void>;
  now(): Date;
}

/** One command. `Needs` is the part of {@link Tools} its handler uses. */
export interface Command<Needs extends Partial<Tools> = object> {
  name: string;
  usage: string;
  summary: string;
  /** Who may: anybody who can comment, or the approving role of cdl.yaml. */
  role: 'anyone' | 'approver';
  handle(call: Call, tools: Needs): Promise<Answer>;
}
