import { z } from 'zod';
import { UpstreamError } from '../core/error.ts';
import type { Change, Comment, Job, Person, Pipeline, PipelineState } from './types.ts';

// Each schema declares only what is used; GitLab adds fields with every release.

const personSchema = z.object({ id: z.int(), username: z.string(), name: z.string() });

/** A user (doc: api/users). */
export const userSchema = personSchema;
/** A member (doc: api/project_members). */
export const memberSchema = personSchema.extend({
  access_level: z.int(),
  state: z.string().optional(),
});

/** A project (doc: api/projects). */
export const projectSchema = z.object({ id: z.int(), default_branch: z.string().nullable() });

/** A merge request (doc: api/merge_requests). */
export const mergeRequestSchema = z.object({
  iid: z.int(),
  title: z.string(),
  draft: z.boolean().default(false),
  state: z.string(),
  author: personSchema,
  source_branch: z.string(),
  target_branch: z.string(),
  sha: z.string().nullable(),
  merge_commit_sha: z.string().nullish(),
  squash_commit_sha: z.string().nullish(),
  source_project_id: z.int().nullable(),
  target_project_id: z.int(),
  web_url: z.string(),
});

/** A pipeline (doc: api/pipelines). */
export const pipelineSchema = z.object({
  id: z.int(),
  ref: z.string(),
  sha: z.string(),
  source: z.string().default('unknown'),
  status: z.string(),
  web_url: z.string(),
  created_at: z.string(),
});

/** A job (doc: api/jobs). */
export const jobSchema = z.object({
  id: z.int(),
  name: z.string(),
  status: z.string(),
  web_url: z.string(),
  allow_failure: z.boolean().default(false),
  failure_reason: z.string().nullish(),
  duration: z.number().nullish(),
  finished_at: z.string().nullish(),
  tag_list: z.array(z.string()).default([]),
});

/** A comment (doc: api/notes). */
export const noteSchema = z.object({
  id: z.int(),
  body: z.string(),
  system: z.boolean().default(false),
  created_at: z.string(),
  updated_at: z.string(),
  author: personSchema,
  resolved: z.boolean().optional(),
});

/** A thread (doc: api/discussions). */
export const discussionSchema = z.object({ id: z.string(), notes: z.array(noteSchema) });
/** A changed file (doc: api/merge_requests, diffs). */
export const diffSchema = z.object({ old_path: z.string(), new_path: z.string() });
/** A commit (doc: api/commits). */
export const commitSchema = z.object({
  author_name: z.string(),
  author_email: z.string(),
  committer_name: z.string().nullish(),
  committer_email: z.string().nullish(),
});
/** A file (doc: api/repository_files). */
export const fileSchema = z.object({ content: z.string(), encoding: z.literal('base64') });
/** An upload (doc: api/project_markdown_uploads). */
export const uploadSchema = z.object({ markdown: z.string() });
/** A commit status (doc: api/commits, list the statuses of a commit). */
export const statusSchema = z.object({
  id: z.int(),
  status: z.string(),
  description: z.string().nullable(),
  pipeline_id: z.int().nullish(),
  author: z.object({ id: z.int() }).nullish(),
});
/** A reaction (doc: api/emoji_reactions). */
export const awardSchema = z.object({ name: z.string(), user: z.object({ id: z.int() }) });
/** An issue (doc: api/issues). */
export const issueSchema = z.object({
  iid: z.int(),
  title: z.string(),
  description: z.string().nullable(),
  web_url: z.string(),
});
/** What a position in a diff is relative to (doc: api/merge_requests, diff_refs). */
export const diffRefsSchema = z.object({
  diff_refs: z
    .object({
      base_sha: z.string().nullable(),
      start_sha: z.string().nullable(),
      head_sha: z.string().nullable(),
    })
    .nullish(),
});
/** A changed file with its hunks (doc: api/merge_requests, diffs). */
export const fileDiffSchema = z.object({ old_path: z.string(), new_path: z.string(), diff: z.string() });
/** Members of a group (doc: api/group_members). */
export const groupMembersSchema = z.array(z.object({ id: z.int(), state: z.string().optional() }));
/** Approvals of a merge request (doc: api/merge_request_approvals). */
export const approvalsSchema = z.object({
  approved_by: z.array(z.object({ user: personSchema, approved_at: z.string().nullish() })),
});
/** Who started a pipeline (doc: api/pipelines, retrieve a pipeline). */
export const starterSchema = z.object({ user: z.object({ id: z.int() }).nullish() });
/** A release (doc: api/releases). */
export const releaseSchema = z.object({
  tag_name: z.string(),
  name: z.string().nullish(),
  description: z.string().nullish(),
  _links: z.object({ self: z.string().optional() }).nullish(),
});
/** A webhook (doc: api/project_webhooks); before 16 and 19.0 it says less of itself. */
export const hookSchema = z.object({
  id: z.int(),
  url: z.string(),
  signing_token_present: z.boolean().optional(),
  alert_status: z.string().optional(),
  disabled_until: z.string().nullish(),
  push_events: z.boolean().default(false),
  merge_requests_events: z.boolean().default(false),
  note_events: z.boolean().default(false),
  pipeline_events: z.boolean().default(false),
  deployment_events: z.boolean().default(false),
});

/** Reads an answer of the forge. Throws UpstreamError when it is not what is documented. */
export function read<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UpstreamError('gitlab', `${what}: unexpected answer\n${z.prettifyError(parsed.error)}`, {
    retryable: false,
  });
}

const states: Record<string, PipelineState> = {
  created: 'waiting',
  waiting_for_resource: 'waiting',
  waiting_for_callback: 'waiting',
  preparing: 'waiting',
  pending: 'waiting',
  scheduled: 'waiting',
  running: 'running',
  canceling: 'running',
  success: 'success',
  failed: 'failed',
  canceled: 'canceled',
  skipped: 'skipped',
  // A manual job that nobody started holds nothing up.
  manual: 'skipped',
};

/** GitLab's words for states (doc: api/pipelines, status) in ours. */
export function toState(status: string): PipelineState {
  return states[status] ?? 'waiting';
}

/** A user as the port has them. */
export function toPerson(user: z.infer<typeof personSchema>): Person {
  return { id: String(user.id), username: user.username, name: user.name };
}

/** A merge request as the port has it. */
export function toChange(mr: z.infer<typeof mergeRequestSchema>): Change {
  const merged = mr.state === 'merged';
  return {
    id: mr.iid,
    reference: `!${mr.iid}`,
    title: mr.title,
    draft: mr.draft,
    state: merged ? 'merged' : mr.state === 'opened' || mr.state === 'locked' ? 'open' : 'closed',
    author: toPerson(mr.author),
    sourceBranch: mr.source_branch,
    targetBranch: mr.target_branch,
    head: mr.sha ?? '',
    // A fast-forward merge makes no commit of its own.
    mergeCommit: merged ? (mr.merge_commit_sha ?? mr.squash_commit_sha ?? mr.sha) : null,
    fork: mr.source_project_id !== mr.target_project_id,
    url: mr.web_url,
  };
}

/** A pipeline as the port has it. */
export function toPipeline(pipeline: z.infer<typeof pipelineSchema>): Pipeline {
  const { ref, sha, source, status, web_url, created_at } = pipeline;
  return {
    id: String(pipeline.id),
    ref,
    sha,
    source,
    state: toState(status),
    url: web_url,
    createdAt: created_at,
  };
}

/** A job as the port has it. */
export function toJob(job: z.infer<typeof jobSchema>): Job {
  return {
    id: String(job.id),
    name: job.name,
    state: toState(job.status),
    optional: job.allow_failure,
    url: job.web_url,
    reason: job.failure_reason ?? null,
    seconds: job.duration ?? 0,
    endedAt: job.finished_at ?? null,
    tags: job.tag_list,
  };
}

/** A comment as the port has it; `thread` is its discussion. */
export function toComment(note: z.infer<typeof noteSchema>, thread: string): Comment {
  return {
    id: String(note.id),
    thread,
    author: toPerson(note.author),
    body: note.body,
    system: note.system,
    createdAt: note.created_at,
    updatedAt: note.updated_at,
  };
}
