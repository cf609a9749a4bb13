import type { Network } from './network.ts';

/** A person (or bot) as the forge knows them. `id` is the number that never changes; authorise by it, never by name. */
export interface Person {
  id: string;
  username: string;
  name: string;
}

/** A merge request or pull request. `id` is its number in the project. */
export interface Change {
  id: number;
  /** How people of the forge write it: `!12`, on GitHub `#12`. */
  reference: string;
  title: string;
  draft: boolean;
  state: 'open' | 'merged' | 'closed';
  author: Person;
  sourceBranch: string;
  targetBranch: string;
  /** Head commit of the source branch. */
  head: string;
  /** The commit that brought it to the target branch, once merged. */
  mergeCommit: string | null;
  /** The source branch lives in another project: nothing of ours runs for it. */
  fork: boolean;
  url: string;
}

/** A comment on a change. `thread` is where an answer belongs. */
export interface Comment {
  id: string;
  thread: string;
  author: Person;
  body: string;
  system: boolean;
  /** ISO 8601. */
  createdAt: string;
  /** When it was last edited, ISO 8601; that it was written when it never was. GitLab counts a reaction as well. */
  updatedAt: string;
}

/** A pipeline's state, whatever the forge calls it. */
export type PipelineState = 'waiting' | 'running' | 'success' | 'failed' | 'canceled' | 'skipped';

/** A pipeline (workflow run). */
export interface Pipeline {
  id: string;
  ref: string;
  sha: string;
  source: string;
  state: PipelineState;
  url: string;
  /** ISO 8601. */
  createdAt: string;
}

/** One job of a pipeline. */
export interface Job {
  id: string;
  name: string;
  state: PipelineState;
  /** Its failure does not fail the pipeline. */
  optional: boolean;
  url: string;
  /** Why it failed, where the forge says so. */
  reason: string | null;
  /** Seconds it ran, so far when it still runs; 0 before it starts. */
  seconds: number;
  /** When it ended, in ISO 8601; null while it has not. */
  endedAt: string | null;
  /** Tags (labels) of the runner it asks for. */
  tags: string[];
}

/** What a status on a commit says. */
export interface Status {
  name: string;
  /** `canceled`: nobody says any more how it is. */
  state: 'pending' | 'running' | 'success' | 'failed' | 'canceled';
  description: string;
  url: string | null;
  pipeline: string | null;
  /** Shown at the lines they are about, where the forge can (GitHub's check runs). */
  problems?: readonly LineProblem[];
}

/** Something wrong in a line (from 1) of a file. */
export interface LineProblem {
  path: string;
  line: number;
  message: string;
}

/** A webhook of ours. */
export interface Hook {
  /** `resting` and `off`: the forge stopped delivering, for a time or for good, because deliveries failed. */
  health: 'working' | 'resting' | 'off';
  /** Until when it rests, in ISO 8601. */
  until: string | null;
  /** The forge signs deliveries (GitLab 19.0 and newer, GitHub). */
  signed: boolean;
  /** Events that the bot needs and the webhook does not tell, in the forge's words. */
  missing: string[];
}

/** How to reach the repository with git: the token goes into an HTTP header, never into a remote URL. */
export interface GitAccess {
  url: string;
  /** A function where the token in it is renewed every hour (GitHub Apps). */
  header: string | (() => Promise<string>);
  network?: Network;
}

/**
 * GitLab or GitHub, seen from one project. Absent is null. Every write is idempotent: calling it again with the same
 * arguments changes nothing. Throws UserError forge-denied (401, 403), UpstreamError (5xx, network; retryable).
 */
export interface Forge {
  readonly kind: 'gitlab' | 'github';
  /** Path of the project, e.g. `acme/fashion`. */
  readonly project: string;
  self(): Promise<Person>;
  defaultBranch(): Promise<string>;
  git(): GitAccess;
  getChange(id: number): Promise<Change | null>;
  /** Open changes, and those merged or closed since a time (ISO 8601). */
  listChanges(filter: { state: 'open' } | { updatedSince: string }): Promise<Change[]>;
  changedFiles(id: number): Promise<string[]>;
  /** User names, e-mails and names of everybody who wrote a commit of the change or committed it (amended, rebased). */
  commitAuthors(id: number): Promise<{ name: string; email: string }[]>;
  /** A file's text at a ref; null when there is no such file. */
  readFile(path: string, ref: string): Promise<string | null>;
  /** A member of the project with their access level (GitLab's numbers: 30 developer, 40 maintainer); null when they are none. */
  member(userId: string): Promise<{ person: Person; level: number } | null>;
  /** Ids of a group's (team's) members, inherited ones too; null when there is no such group, or none we may see. */
  groupMembers(path: string): Promise<string[] | null>;
  /**
   * Who approves the change at the forge's own button; `at` in ISO 8601 and `commit`, the head they had before them, null
   * where the forge does not say.
   */
  approvers(change: number): Promise<{ person: Person; at: string | null; commit: string | null }[]>;
  /** Id of who started a pipeline; null when nobody (or nobody is left). */
  pipelineStarter(pipeline: string): Promise<string | null>;
  /** Keeps exactly one comment of ours with this key on the change; `updatedAt` as {@link Comment} has it. */
  ensureComment(
    change: number,
    key: string,
    markdown: string,
  ): Promise<{ id: string; url: string; changed: boolean; updatedAt: string }>;
  /** Answers once in the thread of a comment; `key` makes a repeated call find the earlier answer. */
  ensureReply(change: number, comment: Comment, key: string, markdown: string): Promise<void>;
  react(change: number, comment: string, emoji: string): Promise<void>;
  listComments(change: number): Promise<Comment[]>;
  getComment(change: number, id: string): Promise<Comment | null>;
  setStatus(sha: string, status: Status): Promise<void>;
  /**
   * Uploads a picture and returns the markdown that shows it: so many pixels wide, else as wide as it is.
   */
  upload(name: string, bytes: Uint8Array, width?: number): Promise<string>;
  /**
   * Starts a pipeline: as the evaluating identity, or as the bot itself for branches of people, whose code must not get at
   * what the former may do.
   */
  runPipeline(ref: string, inputs: Record<string, string>, as?: 'evaluator' | 'self'): Promise<Pipeline>;
  getPipeline(id: string): Promise<Pipeline | null>;
  cancelPipeline(id: string): Promise<void>;
  /** Pipelines of a change, newest first. */
  changePipelines(change: number): Promise<Pipeline[]>;
  /** Pipelines of a branch, newest first. */
  branchPipelines(branch: string): Promise<Pipeline[]>;
  jobs(pipeline: string): Promise<Job[]>;
  /**
   * What a job printed so far, from byte `from` on; null while the forge does not show it (GitHub: until the job has ended).
   * At most 64 MiB in all.
   */
  jobLog(job: string, from: number): Promise<Buffer | null>;
  /** One file out of a job's artifacts; null when it is not there. At most `limit` bytes (default 1 MiB). */
  artifact(job: string, path: string, limit?: number): Promise<Buffer | null>;
  ensureChange(change: {
    source: string;
    target: string;
    title: string;
    description: string;
  }): Promise<Change>;
  /** Keeps one open issue of ours with this key; one that says something else gets the new title and text. */
  ensureIssue(
    key: string,
    issue: { title: string; description: string; labels: string[] },
  ): Promise<{ url: string }>;
  /** Closes our open issue with this key; nothing when there is none. */
  closeIssue(key: string): Promise<void>;
  /**
   * Keeps one thread for each of these problems, at its line of the change's diff, and resolves our other ones. Problems at
   * lines that the diff does not have are left out. Nothing where a status shows them (GitHub's check runs).
   */
  ensureLineThreads(change: number, problems: readonly LineProblem[]): Promise<void>;
  /** A tag at a commit with a release of the same name; an existing one keeps its commit and gets the new text. */
  ensureRelease(release: {
    tag: string;
    commit: string;
    title: string;
    description: string;
  }): Promise<{ url: string }>;
  /** Our webhook with this URL; null when there is none. Takes the right to administer webhooks. */
  findHook(url: string): Promise<Hook | null>;
  /** Installs our webhook, or writes it again with all it needs; of several with its URL one is left. */
  ensureHook(hook: { url: string; token: string | null; signingToken: string }): Promise<Hook>;
  /**
   * Has the forge deliver something now, which also puts a webhook back to work that was switched off. `delivered` is null
   * where the forge does not say.
   */
  testHook(url: string): Promise<{ delivered: boolean | null; detail: string }>;
}
