import { EventEmitter } from 'node:events';

/** Access levels as GitLab numbers them (doc: user/permissions). */
export type AccessLevel = 10 | 20 | 30 | 40 | 50;

/** A person or a bot. */
export interface User {
  id: number;
  username: string;
  name: string;
  bot: boolean;
  /** Shut out by an administrator; still listed as a member. */
  blocked?: boolean;
}

/** A personal or project access token; `projectId` limits it to one project. `token` is the secret itself. */
export interface Token {
  token: string;
  userId: number;
  scopes: string[];
  projectId: number | null;
}

/** A CI/CD variable of a project. `protected` reaches only jobs on protected refs. */
export interface Variable {
  key: string;
  value: string;
  protected: boolean;
  masked: boolean;
  environmentScope: string;
}

/** Pipeline and job states, in GitLab's words. */
export type PipelineStatus =
  | 'created'
  | 'pending'
  | 'running'
  | 'success'
  | 'failed'
  | 'canceled'
  | 'skipped'
  | 'manual';
/** Jobs have the states of pipelines. */
export type JobStatus = PipelineStatus;

/** One entry of a compiled job: already interpolated, rules evaluated, parallel expanded. */
export interface JobSpec {
  name: string;
  stage: string;
  /** Variables of the job (global and job level), unexpanded where `expand: false` was asked for. */
  variables: { key: string; value: string; expand: boolean }[];
  beforeScript: string[];
  script: string[];
  afterScript: string[];
  /** null = every job of the earlier stages. */
  needs: { job: string; artifacts: boolean; optional: boolean }[] | null;
  when: 'on_success' | 'on_failure' | 'always' | 'manual';
  allowFailure: boolean;
  /** Seconds. */
  timeout: number;
  retry: number;
  /** Failure reasons that retry applies to (`always` = all), and exit codes that count as well. */
  retryWhen: string[];
  retryExitCodes: number[];
  /** Exit codes that are allowed to fail though `allowFailure` is false. */
  allowFailureExitCodes: number[];
  /** null = artifacts of everything needed. */
  dependencies: string[] | null;
  /** Only told to the runner; the sandbox's own runs everything in a shell. */
  image: string | null;
  /** Tag to be made when the job succeeds. */
  release: { tagName: string; ref: string | null; name: string | null; description: string } | null;
  tags: string[];
  resourceGroup: string | null;
  environment: {
    name: string;
    url: string | null;
    action: 'start' | 'stop' | 'prepare' | 'verify' | 'access';
    tier: string | null;
    onStop: string | null;
  } | null;
  artifacts: {
    paths: string[];
    exclude: string[];
    when: 'on_success' | 'on_failure' | 'always';
    /** Paths of the dotenv, junit and metrics reports. */
    reports: { dotenv: string[]; junit: string[]; metrics: string[] };
    exposeAs: string | null;
    name: string;
  } | null;
  interruptible: boolean;
}

/** A job and its life. Times are ISO 8601 or null. */
export interface Job {
  id: number;
  pipelineId: number;
  projectId: number;
  spec: JobSpec;
  status: JobStatus;
  createdAt: string;
  startedAt: string | null;
  finishedAt: string | null;
  failureReason: string | null;
  /** The job's own token, as in CI_JOB_TOKEN; valid while it runs. */
  token: string;
  /** Folder holding `trace.log`, `artifacts.zip` (see Artifacts) for this job. */
  folder: string;
  hasArtifacts: boolean;
  /** Variables from the dotenv report, for the jobs that need this one. */
  dotenv: Record<string, string>;
  /** Asked to stop; the runner sees it as Job-Status: canceled. */
  cancelRequested: boolean;
}

/** A pipeline. `source` as in CI_PIPELINE_SOURCE. */
export interface Pipeline {
  id: number;
  iid: number;
  projectId: number;
  ref: string;
  sha: string;
  tag: boolean;
  source: 'push' | 'merge_request_event' | 'api' | 'web' | 'trigger' | 'schedule' | 'parent_pipeline';
  status: PipelineStatus;
  /** `workflow:name`. */
  name: string | null;
  userId: number;
  mergeRequestIid: number | null;
  inputs: Record<string, unknown>;
  variables: { key: string; value: string }[];
  /** Problems in the YAML: the pipeline then has no jobs and status failed. */
  yamlErrors: string[];
  createdAt: string;
  startedAt: string | null;
  finishedAt: string | null;
  jobIds: number[];
  stages: string[];
}

/** A note on a merge request. `system` notes are written by the forge itself. */
export interface Note {
  id: number;
  authorId: number;
  body: string;
  system: boolean;
  createdAt: string;
  updatedAt: string;
  /** Notes of one thread share it. */
  discussionId: string;
  /** Where a thread on a line of a diff stands, as it was sent. */
  position?: { new_path: string; new_line: number | null; old_line: number | null; [more: string]: unknown };
  /** Whether such a thread is resolved. */
  resolved?: boolean;
  emoji: { id: number; name: string; userId: number }[];
}

/** A merge request. */
export interface MergeRequest {
  id: number;
  iid: number;
  projectId: number;
  sourceProjectId: number;
  sourceBranch: string;
  targetBranch: string;
  title: string;
  description: string;
  authorId: number;
  state: 'opened' | 'merged' | 'closed';
  draft: boolean;
  /** Head of the source branch; fixed once merged. */
  sha: string;
  mergeCommitSha: string | null;
  squashCommitSha: string | null;
  squash: boolean;
  removeSourceBranch: boolean;
  mergedBy: number | null;
  approvedBy: number[];
  labels: string[];
  reviewerIds: number[];
  notes: Note[];
  createdAt: string;
  updatedAt: string;
  mergedAt: string | null;
}

/** A commit status set from outside (POST /statuses/:sha). */
export interface CommitStatus {
  id: number;
  sha: string;
  ref: string | null;
  name: string;
  status: 'pending' | 'running' | 'success' | 'failed' | 'canceled' | 'skipped';
  description: string | null;
  targetUrl: string | null;
  pipelineId: number | null;
  authorId: number;
  createdAt: string;
}

/** An environment and its deployments, newest last. */
export interface Environment {
  id: number;
  name: string;
  externalUrl: string | null;
  state: 'available' | 'stopped';
}
/** One deployment to an environment, as a job with `environment:` makes it. */
export interface Deployment {
  id: number;
  iid: number;
  environmentId: number;
  ref: string;
  sha: string;
  status: 'created' | 'running' | 'success' | 'failed' | 'canceled';
  jobId: number | null;
  userId: number;
  createdAt: string;
  finishedAt: string | null;
}

/** A webhook. Events as in the hooks API (`merge_requests_events` …). */
export interface Hook {
  id: number;
  url: string;
  token: string | null;
  /** `whsec_…` (Standard Webhooks). */
  signingToken: string | null;
  events: Record<string, boolean>;
  failures: number;
  disabledUntil: string | null;
}

/** An issue. */
export interface Issue {
  id: number;
  iid: number;
  title: string;
  description: string;
  authorId: number;
  state: 'opened' | 'closed';
  labels: string[];
  assigneeIds: number[];
  createdAt: string;
  notes: Note[];
}

/** What a project's owner can set, as far as the sandbox acts on it. */
export interface ProjectSettings {
  description: string;
  mergeMethod: 'merge' | 'rebase_merge' | 'ff';
  onlyAllowMergeIfPipelineSucceeds: boolean;
  /** null = `.gitlab-ci.yml`. */
  ciConfigPath: string | null;
}

/** A project with everything that belongs to it. The repository is the bare git folder `repository`. */
export interface Project {
  id: number;
  path: string;
  namespace: string;
  name: string;
  defaultBranch: string;
  repository: string;
  settings: ProjectSettings;
  members: Map<number, AccessLevel>;
  protectedBranches: { name: string; pushLevel: AccessLevel | 0; mergeLevel: AccessLevel | 0 }[];
  variables: Variable[];
  mergeRequests: Map<number, MergeRequest>;
  pipelines: Map<number, Pipeline>;
  jobs: Map<number, Job>;
  statuses: CommitStatus[];
  environments: Environment[];
  deployments: Deployment[];
  hooks: Hook[];
  issues: Map<number, Issue>;
  uploads: Map<string, { file: string; name: string; contentType: string }>;
  triggerTokens: { id: number; token: string; userId: number; description: string }[];
  /** By tag. */
  releases: Map<string, Release>;
}

/** A release of a tag. */
export interface Release {
  tag: string;
  name: string;
  description: string;
  authorId: number;
  createdAt: string;
}

/** Something that happened; webhooks, the web page and waiting tests listen to these. */
export type WorldEvent =
  | { kind: 'push'; project: Project; ref: string; before: string; after: string; userId: number }
  | {
      kind: 'merge_request';
      project: Project;
      mr: MergeRequest;
      action: MergeRequestAction;
      userId: number;
      oldrev: string | null;
      changes: Record<string, unknown>;
    }
  | { kind: 'note'; project: Project; mr: MergeRequest; note: Note; action: 'create' | 'update' }
  | { kind: 'pipeline'; project: Project; pipeline: Pipeline }
  | { kind: 'job'; project: Project; job: Job }
  | { kind: 'trace'; project: Project; job: Job }
  | { kind: 'deployment'; project: Project; deployment: Deployment }
  | { kind: 'emoji'; project: Project; mr: MergeRequest; note: Note };

/** `object_attributes.action` of the merge request hook. */
export type MergeRequestAction =
  | 'open'
  | 'close'
  | 'reopen'
  | 'update'
  | 'merge'
  | 'approved'
  | 'unapproved'
  | 'approval'
  | 'unapproval';

/** Everything the sandbox knows, in memory; repositories, logs and artifacts are files below `folder`. */
export interface World {
  folder: string;
  /** `http://127.0.0.1:PORT`, set once the server listens. */
  url: string;
  users: Map<number, User>;
  tokens: Token[];
  projects: Map<number, Project>;
  /** Ids of users by full path of a group; groups have no other use here. */
  groups: Map<string, Set<number>>;
  events: EventEmitter<{ event: [WorldEvent] }>;
  /** The next number of a sequence: ids are unique across projects, iids within one. */
  nextId(sequence: string): number;
}

/** An empty world below an existing folder. */
export function createWorld(folder: string): World {
  const sequences = new Map<string, number>();
  const events: World['events'] = new EventEmitter();
  events.setMaxListeners(0);
  return {
    folder,
    url: '',
    users: new Map(),
    tokens: [],
    projects: new Map(),
    groups: new Map(),
    events,
    nextId(sequence) {
      const id = (sequences.get(sequence) ?? 0) + 1;
      sequences.set(sequence, id);
      return id;
    },
  };
}

/** Tells everybody who listens. */
export function announce(world: World, event: WorldEvent): void {
  world.events.emit('event', event);
}
