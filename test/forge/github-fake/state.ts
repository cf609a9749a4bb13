import type { KeyObject } from 'node:crypto';

/** An account; `bot` is what an app writes as. */
export interface FakeUser {
  id: number;
  login: string;
  token: string;
  bot: boolean;
}

export interface FakePull {
  number: number;
  title: string;
  body: string;
  draft: boolean;
  author: FakeUser;
  source: string;
  target: string;
  /** Kept by pushes while it is open. */
  head: string;
  base: string;
  fork: boolean;
  state: 'open' | 'closed';
  mergedAt: string | null;
  mergeCommit: string | null;
  updatedAt: string;
}

export interface FakeComment {
  id: number;
  issue: number;
  author: FakeUser;
  body: string;
  createdAt: string;
  updatedAt: string;
  reactions: { author: FakeUser; content: string }[];
}

export interface FakeStatus {
  id: number;
  sha: string;
  state: 'error' | 'failure' | 'pending' | 'success';
  context: string;
  description: string;
  creator: FakeUser;
}

export interface FakeCheck {
  id: number;
  sha: string;
  name: string;
  status: string;
  conclusion: string | null;
  title: string;
  annotations: { path: string; start_line: number; message: string }[];
}

export interface FakeRun {
  id: number;
  branch: string;
  sha: string;
  event: string;
  status: string;
  conclusion: string | null;
  title: string;
  actor: FakeUser;
  pulls: number[];
  inputs: Record<string, string>;
  createdAt: string;
}

export interface FakeJob {
  id: number;
  run: number;
  name: string;
  status: string;
  conclusion: string | null;
  startedAt?: string;
  completedAt?: string;
  labels?: string[];
}

export interface FakeArtifact {
  id: number;
  run: number;
  name: string;
  zip: Buffer;
}

export interface FakeIssue {
  number: number;
  title: string;
  body: string;
  labels: string[];
  author: FakeUser;
  state: 'open' | 'closed';
}

export interface FakeHook {
  id: number;
  url: string;
  secret: string;
  events: string[];
  active: boolean;
}

export interface FakeRelease {
  id: number;
  tag: string;
  name: string;
  body: string;
}

export interface FakeReview {
  id: number;
  pull: number;
  user: FakeUser;
  state: string;
  at: string;
  /** The head it was written about. */
  commit?: string;
}

/** One repository and everybody around it. */
export interface FakeState {
  owner: string;
  name: string;
  /** Folder of the bare repository. */
  repository: string;
  /** Base of the web pages, without a slash at the end. */
  web: string;
  users: FakeUser[];
  /** Role by id of the user. */
  roles: Map<number, 'admin' | 'maintain' | 'write' | 'triage' | 'read'>;
  /** Members by `org/team`. */
  teams: Map<string, number[]>;
  app: {
    id: number;
    slug: string;
    key: KeyObject;
    user: FakeUser;
    events: string[];
    /** Permissions it is registered with, and those accepted where it is installed. */
    wanted: Record<string, string>;
    granted: Record<string, string>;
    selection: 'all' | 'selected';
  } | null;
  /** Tokens that the app's installation was given, and how many seconds the next one lives. */
  installationTokens: Set<string>;
  tokenSeconds: number;
  pulls: FakePull[];
  comments: FakeComment[];
  statuses: FakeStatus[];
  checks: FakeCheck[];
  runs: FakeRun[];
  jobs: FakeJob[];
  artifacts: FakeArtifact[];
  issues: FakeIssue[];
  hooks: FakeHook[];
  releases: FakeRelease[];
  reviews: FakeReview[];
  /** What `return_run_details` does: names the run that was started, is ignored, or is refused (Enterprise Servers). */
  runDetails: 'named' | 'ignored' | 'refused';
  /** The default branch is protected. */
  isProtected: boolean;
  /** The app may write check runs. */
  mayCheck: boolean;
  nextId(): number;
  /** Issues and pull requests share their numbers. */
  nextNumber(): number;
  now(): string;
}

/** What a handler is given. `actor` is whose token it is. */
export interface Call {
  state: FakeState;
  actor: FakeUser;
  /** Speaks as an app's installation. */
  isApp: boolean;
  values: Record<string, string>;
  query: URLSearchParams;
  body: Record<string, unknown>;
  /** Tells the hooks. */
  emit(event: string, payload: object): void;
  /** Starts what a dispatched workflow does; gives its run. */
  dispatch(branch: string, inputs: Record<string, string>, actor: FakeUser): Promise<FakeRun>;
}

/** What a handler answers: as much of the body as it knows, the description adds the rest. */
export interface Answer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
  /** Bytes instead of JSON. */
  bytes?: Buffer;
}

export type Handler = (call: Call) => Answer | Promise<Answer>;

export const ok = (body: unknown): Answer => ({ status: 200, body });
export const created = (body: unknown): Answer => ({ status: 201, body });
export const absent: Answer = { status: 404, body: { message: 'Not Found' } };
export const noContent: Answer = { status: 204 };

/** A page of a list, as `page` and `per_page` ask. */
export function paged<T>(query: URLSearchParams, all: readonly T[]): T[] {
  const size = Number(query.get('per_page') ?? 30);
  const page = Number(query.get('page') ?? 1);
  return all.slice((page - 1) * size, page * size);
}

export const simpleUser = (user: FakeUser): object => ({
  id: user.id,
  login: user.login,
  type: user.bot ? 'Bot' : 'User',
});
