import { z } from 'zod';
import { UpstreamError } from '../core/error.ts';
import type { Change, Comment, Job, Person, Pipeline, PipelineState } from './types.ts';

// Each schema declares only what is used; GitHub adds fields without notice.

/** A user as other objects name them (docs.github.com, REST, users). */
export const userSchema = z.object({ id: z.int(), login: z.string() });
/** A repository (REST, repos). */
export const repositorySchema = z.object({ default_branch: z.string() });
/** An app as it sees itself (REST, apps). */
export const appSchema = z.object({ id: z.int(), slug: z.string(), events: z.array(z.string()).default([]) });
/** Where an app's webhook goes to (REST, apps, webhook configuration). */
export const appHookSchema = z.object({ url: z.string().nullish() });
/** The installation of an app on a repository. */
export const installationSchema = z.object({ id: z.int() });
/** An installation's token; `expires_at` in ISO 8601, an hour from now. */
export const installationTokenSchema = z.object({ token: z.string(), expires_at: z.string() });

/** A pull request (REST, pulls). `user` is null when the account is gone. */
export const pullSchema = z.object({
  number: z.int(),
  title: z.string(),
  draft: z.boolean().default(false),
  state: z.string(),
  user: userSchema.nullable(),
  head: z.object({ ref: z.string(), sha: z.string(), repo: z.object({ id: z.int() }).nullable() }),
  base: z.object({ ref: z.string(), sha: z.string(), repo: z.object({ id: z.int() }) }),
  merged_at: z.string().nullable(),
  merge_commit_sha: z.string().nullable(),
  updated_at: z.string(),
  html_url: z.string(),
});

/** A changed file of a pull request. */
export const fileSchema = z.object({ filename: z.string(), previous_filename: z.string().optional() });

const signatureSchema = z.object({ name: z.string(), email: z.string() });
const accountSchema = z.union([userSchema, z.object({})]);

/** A commit: what git says of its author and its committer, and the accounts GitHub knows behind them. */
export const commitSchema = z.object({
  sha: z.string(),
  commit: z.object({ author: signatureSchema.nullable(), committer: signatureSchema.nullish() }),
  author: accountSchema.nullable(),
  committer: accountSchema.nullish(),
});

/** A comparison, a page of its commits. */
export const comparisonSchema = z.object({ commits: z.array(commitSchema) });

/** A file's content; `encoding` is "none" above 1 MiB. Folders are arrays. */
export const contentSchema = z.union([
  z.array(z.unknown()),
  z.object({
    type: z.literal('file'),
    encoding: z.string(),
    content: z.string(),
    sha: z.string(),
    path: z.string(),
  }),
  z.object({ type: z.enum(['symlink', 'submodule', 'dir']) }),
]);
/** A blob (REST, git database). */
export const blobSchema = z.object({ content: z.string(), encoding: z.literal('base64') });
/** Anything of the git database that was made. */
export const objectSchema = z.object({ sha: z.string() });

/** What a person may do (REST, collaborators). `role_name` may be one of the organisation's own making. */
export const permissionSchema = z.object({ permission: z.string(), role_name: z.string() });

/** A comment on an issue or pull request (REST, issue comments). */
export const commentSchema = z.object({
  id: z.int(),
  body: z.string().default(''),
  user: userSchema.nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  html_url: z.string(),
  issue_url: z.string(),
});

/** A commit status (REST, commit statuses). */
export const statusSchema = z.object({
  state: z.string(),
  context: z.string(),
  description: z.string().nullable(),
  creator: userSchema.nullable(),
});
/** Check runs of a commit (REST, checks). */
export const checkRunsSchema = z.object({
  check_runs: z.array(
    z.object({
      id: z.int(),
      status: z.string(),
      conclusion: z.string().nullable(),
      output: z.object({ title: z.string().nullable() }),
    }),
  ),
});

/** A workflow run (REST, actions). */
export const runSchema = z.object({
  id: z.int(),
  head_branch: z.string().nullable(),
  head_sha: z.string(),
  event: z.string(),
  status: z.string().nullable(),
  conclusion: z.string().nullable(),
  html_url: z.string(),
  created_at: z.string(),
  display_title: z.string(),
  actor: userSchema.nullish(),
  triggering_actor: userSchema.nullish(),
  head_repository: z.object({ id: z.int() }).nullable(),
  repository: z.object({ id: z.int() }),
  pull_requests: z.array(z.object({ number: z.int() })).nullable(),
});
/** A page of workflow runs. */
export const runsSchema = z.object({ workflow_runs: z.array(runSchema) });
/** What starting a workflow answers when asked for the run. */
export const dispatchSchema = z.object({ workflow_run_id: z.int(), html_url: z.string() });
/** A job of a run. */
export const jobSchema = z.object({
  id: z.int(),
  run_id: z.int(),
  name: z.string(),
  status: z.string(),
  conclusion: z.string().nullable(),
  html_url: z.string().nullable(),
  started_at: z.string().nullish(),
  completed_at: z.string().nullish(),
  labels: z.array(z.string()).default([]),
});
/** A page of jobs. */
export const jobsSchema = z.object({ jobs: z.array(jobSchema) });
/** A page of artifacts. */
export const artifactsSchema = z.object({
  artifacts: z.array(
    z.object({ id: z.int(), name: z.string(), size_in_bytes: z.int(), expired: z.boolean() }),
  ),
});

/** An issue; pull requests are issues too. */
export const issueSchema = z.object({
  number: z.int(),
  title: z.string(),
  body: z.string().nullish(),
  html_url: z.string(),
  user: userSchema.nullable(),
  pull_request: z.unknown().optional(),
});
/** A review of a pull request; `submitted_at` in ISO 8601, `commit_id` the head it was written about. */
export const reviewSchema = z.object({
  user: userSchema.nullable(),
  state: z.string(),
  submitted_at: z.string().optional(),
  commit_id: z.string().nullish(),
});
/** A release (REST, releases). */
export const releaseSchema = z.object({
  id: z.int(),
  name: z.string().nullable(),
  body: z.string().nullish(),
  html_url: z.string(),
});
/** A webhook of a repository (REST, webhooks). */
export const hookSchema = z.object({
  id: z.int(),
  active: z.boolean(),
  events: z.array(z.string()),
  config: z.object({ url: z.string().optional() }),
});

/** Reads an answer of GitHub. Throws UpstreamError when it is not what is documented. */
export function read<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UpstreamError('github', `${what}: unexpected answer\n${z.prettifyError(parsed.error)}`, {
    retryable: false,
  });
}

/** The account GitHub shows in place of one that is gone (https://github.com/ghost). */
const ghost = { id: 10137, login: 'ghost' };

/**
 * A user as the port has them. Only some of GitHub's answers tell a person's full name, so that the login stands for it in
 * all of them: the same person is the same everywhere.
 */
export function toPerson(user: z.infer<typeof userSchema> | null): Person {
  const { id, login } = user ?? ghost;
  return { id: String(id), username: login, name: login };
}

/** A pull request as the port has it. */
export function toChange(pull: z.infer<typeof pullSchema>): Change {
  const merged = pull.merged_at !== null;
  return {
    id: pull.number,
    reference: `#${pull.number}`,
    title: pull.title,
    draft: pull.draft,
    state: merged ? 'merged' : pull.state === 'open' ? 'open' : 'closed',
    author: toPerson(pull.user),
    sourceBranch: pull.head.ref,
    targetBranch: pull.base.ref,
    head: pull.head.sha,
    // Before the merge GitHub names a test merge here.
    mergeCommit: merged ? pull.merge_commit_sha : null,
    // A fork that was deleted is null, and still was none of ours.
    fork: pull.head.repo?.id !== pull.base.repo.id,
    url: pull.html_url,
  };
}

const conclusions: Record<string, PipelineState> = {
  success: 'success',
  neutral: 'success',
  skipped: 'skipped',
  cancelled: 'canceled',
  // A first-time contributor's run that waits for a maintainer.
  action_required: 'waiting',
};

/** GitHub's status and conclusion (docs.github.com, REST, workflow runs) in our words. */
export function toState(status: string | null, conclusion: string | null): PipelineState {
  if (status === 'in_progress') return 'running';
  if (status !== 'completed') return 'waiting';
  return conclusions[conclusion ?? ''] ?? 'failed';
}

/** A workflow run as the port has it. */
export function toPipeline(run: z.infer<typeof runSchema>): Pipeline {
  return {
    id: String(run.id),
    ref: run.head_branch ?? '',
    sha: run.head_sha,
    source: run.event,
    state: toState(run.status, run.conclusion),
    url: run.html_url,
    createdAt: run.created_at,
  };
}

/** Seconds between start and end of a job, or now while it runs. Jobs that never ran name times too, in any order. */
function secondsOf({ status, started_at, completed_at }: z.infer<typeof jobSchema>): number {
  if (!started_at || (status !== 'completed' && status !== 'in_progress')) return 0;
  const end = completed_at ? Date.parse(completed_at) : Date.now();
  return Math.max(0, (end - Date.parse(started_at)) / 1000);
}

/** A job as the port has it. GitHub does not say that a job may fail: `tolerated` when its run succeeded all the same. */
export function toJob(job: z.infer<typeof jobSchema>, tolerated: boolean): Job {
  const state = toState(job.status, job.conclusion);
  return {
    id: String(job.id),
    name: job.name,
    state,
    optional: tolerated && state === 'failed',
    url: job.html_url ?? '',
    reason: state === 'failed' ? job.conclusion : null,
    seconds: secondsOf(job),
    endedAt: job.completed_at ?? null,
    tags: job.labels,
  };
}

/** A comment as the port has it. GitHub has no threads below pull requests, so each comment is its own. */
export function toComment(comment: z.infer<typeof commentSchema>): Comment {
  return {
    id: String(comment.id),
    thread: String(comment.id),
    author: toPerson(comment.user),
    body: comment.body,
    system: false,
    createdAt: comment.created_at,
    updatedAt: comment.updated_at,
  };
}
