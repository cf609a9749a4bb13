import type { Readable } from 'node:stream';
import { z } from 'zod';
import { UpstreamError, UserError } from '../core/error.ts';
import { orNull } from './absent.ts';
import { createHooks } from './gitlab-hooks.ts';
import { createNotes } from './gitlab-notes.ts';
import { createPeople, createReleases } from './gitlab-people.ts';
import { createRequester } from './gitlab-requester.ts';
import * as schema from './gitlab-schema.ts';
import { read, toChange, toJob, toPerson, toPipeline } from './gitlab-schema.ts';
import { createLineThreads } from './gitlab-threads.ts';
import { readBody, send } from './http.ts';
import { branchFor, lately } from './lately.ts';
import { createLimits } from './limits.ts';
import { cut, hasMarker, withMarker } from './marker.ts';
import type { Network } from './network.ts';
import type { Change, Forge, Person } from './types.ts';

/** How to reach a project on GitLab. `url` may have a sub-path (a relative URL root). */
export interface GitlabOptions extends Network {
  url: string;
  /** Full path, `group/project`. */
  project: string;
  token: string;
  /** Starts evaluation pipelines; of another identity than `token`, so that the bot's pushes cannot start them. */
  evaluationToken?: string | undefined;
}

/** Bytes of a log that are read. GitLab's own limit is 100 MB (doc: administration/instance_limits), the runner's 4 MB. */
const largestLog = 64 * 2 ** 20;
const defaultArtifactLimit = 1024 * 1024;

/** Whether GitLab's state machine of statuses said no. */
function cannotTransition(error: unknown): boolean {
  return error instanceof UpstreamError && error.status === 400 && /cannot transition/i.test(error.message);
}

/**
 * A project on GitLab (REST API v4, GitLab 17.8 and newer). Throws UserError config-invalid for a URL that is none;
 * what the calls throw: {@link Forge}.
 */
export async function openGitlab(options: GitlabOptions): Promise<Forge> {
  const { project } = options;
  if (!/^https?:\/\/[^/]/.test(options.url)) {
    throw new UserError('config-invalid', `${options.url} is not the URL of a GitLab (http or https)`);
  }
  const host = options.url.replace(/\/+$/, '');
  const { Gitlab } = await import('@gitbeaker/rest');
  const network: Network = { ca: options.ca, proxy: options.proxy, limits: createLimits() };
  const requesterFn = createRequester(network);
  const api = new Gitlab({ host, token: options.token, requesterFn });
  const evaluator = new Gitlab({ host, token: options.evaluationToken ?? options.token, requesterFn });

  const once = <T>(make: () => Promise<T>): (() => Promise<T>) => {
    let made: Promise<T> | null = null;
    return () => {
      made ??= make().catch((error: unknown) => {
        made = null;
        throw error;
      });
      return made;
    };
  };
  const self = once<Person>(async () =>
    toPerson(read(schema.userSchema, await api.Users.showCurrentUser(), 'the token’s user')),
  );

  async function getChange(id: number): Promise<Change | null> {
    const found: unknown = await orNull(() => api.MergeRequests.show(project, id));
    return found === null ? null : toChange(read(schema.mergeRequestSchema, found, `!${id}`));
  }

  async function findChange(source: string, target: string): Promise<Change | null> {
    const found: unknown = await api.MergeRequests.all({
      projectId: project,
      state: 'opened',
      scope: 'all',
      sourceBranch: source,
      targetBranch: target,
      perPage: 20,
    });
    const [first] = read(z.array(schema.mergeRequestSchema), found, 'merge requests');
    return first ? toChange(first) : null;
  }

  async function findIssue(key: string): Promise<z.infer<typeof schema.issueSchema> | null> {
    const me = await self();
    const found: unknown = await api.Issues.all({
      projectId: project,
      state: 'opened',
      scope: 'all',
      authorId: Number(me.id),
      perPage: 100,
    });
    const issues = read(z.array(schema.issueSchema), found, 'issues');
    return issues.find((one) => hasMarker(key, one.description ?? '')) ?? null;
  }

  const notes = createNotes(api, project, self, async (change) => {
    return `${host}/${project}/-/merge_requests/${change}`;
  });

  return {
    kind: 'gitlab',
    project,
    self,
    getChange,
    ...notes,
    ...createLineThreads(api, { project, host, token: options.token, network, self }),
    ...createHooks(api, { project, host, token: options.token, network }),
    ...createPeople(api, project),
    ...createReleases(api, project, `${host}/${project}`),
    defaultBranch: lately(branchFor, async () => {
      const found = read(schema.projectSchema, await api.Projects.show(project), 'the project');
      if (found.default_branch) return found.default_branch;
      throw new UserError('file-missing', `${project} has no default branch yet: push a first commit`);
    }),
    git() {
      // doc: user/project/settings/project_access_tokens: any non-empty user name.
      const basic = Buffer.from(`oauth2:${options.token}`).toString('base64');
      return { url: `${host}/${project}.git`, header: `Authorization: Basic ${basic}`, network };
    },
    async listChanges(filter) {
      const narrowed =
        'state' in filter
          ? ({ state: 'opened' } as const)
          : ({ updatedAfter: filter.updatedSince, orderBy: 'updated_at' } as const);
      const found: unknown = await api.MergeRequests.all({
        projectId: project,
        scope: 'all',
        perPage: 100,
        ...narrowed,
      });
      return read(z.array(schema.mergeRequestSchema), found, 'merge requests').map(toChange);
    },
    async changedFiles(id) {
      const found: unknown = await api.MergeRequests.allDiffs(project, id, { perPage: 100 });
      const paths = read(z.array(schema.diffSchema), found, `diffs of !${id}`);
      return [...new Set(paths.flatMap((diff) => [diff.old_path, diff.new_path]))].sort();
    },
    async commitAuthors(id) {
      const found: unknown = await api.MergeRequests.allCommits(project, id, { perPage: 100 });
      const commits = read(z.array(schema.commitSchema), found, `commits of !${id}`);
      const people = commits.flatMap((one) => [
        { name: one.author_name, email: one.author_email },
        { name: one.committer_name ?? '', email: one.committer_email ?? '' },
      ]);
      const named = people.filter(({ name, email }) => name !== '' || email !== '');
      return [...new Map(named.map((one) => [`${one.name}\n${one.email}`, one])).values()];
    },
    async readFile(path, ref) {
      const found: unknown = await orNull(() => api.RepositoryFiles.show(project, path, ref));
      if (found === null) return null;
      return Buffer.from(read(schema.fileSchema, found, path).content, 'base64').toString('utf8');
    },
    async member(userId) {
      if (!/^\d+$/.test(userId)) return null;
      const found: unknown = await orNull(() =>
        api.ProjectMembers.show(project, Number(userId), { includeInherited: true }),
      );
      if (found === null) return null;
      const member = read(schema.memberSchema, found, `member ${userId}`);
      if (member.state !== undefined && member.state !== 'active') return null;
      return { person: toPerson(member), level: member.access_level };
    },
    async setStatus(sha, status) {
      const description = cut(status.description, 255);
      const me = await self();
      const found: unknown = await api.Commits.allStatuses(project, sha, { name: status.name });
      const mine = read(z.array(schema.statusSchema), found, `statuses of ${sha}`).filter(
        (one) =>
          String(one.author?.id) === me.id &&
          (status.pipeline === null || String(one.pipeline_id) === status.pipeline),
      );
      const last = mine.sort((one, other) => one.id - other.id).at(-1);
      if (last?.status === status.state && last.description === description) return;
      const set = (state: typeof status.state) =>
        api.Commits.editStatus(project, sha, state, {
          name: status.name,
          description,
          ...(status.url ? { targetUrl: status.url } : {}),
          // Without it GitLab makes a pipeline of its own for the status.
          ...(status.pipeline ? { pipelineId: Number(status.pipeline) } : {}),
        });
      try {
        await set(status.state);
      } catch (error) {
        if (!cannotTransition(error)) throw error;
        // Pending neither follows itself nor running (doc: api/commits): end that one, then say the new thing.
        if (last) await set('canceled');
        await set(status.state).catch((again: unknown) => {
          if (!cannotTransition(again)) throw again;
        });
      }
    },
    async upload(name, bytes, width) {
      const content = new Blob([new Uint8Array(bytes)], { type: 'image/png' });
      const made: unknown = await api.ProjectMarkdownUploads.create(project, { content, filename: name });
      const { markdown } = read(schema.uploadSchema, made, 'upload');
      // doc: user/markdown, "Change image or video dimensions"
      return width === undefined ? markdown : `${markdown}{width=${Math.round(width)}}`;
    },
    async runPipeline(ref, inputs, as = 'evaluator') {
      // The library's types do not know pipeline inputs yet (doc: ci/inputs).
      const request: object = { inputs };
      const who = as === 'self' ? api : evaluator;
      return toPipeline(
        read(schema.pipelineSchema, await who.Pipelines.create(project, ref, request), 'new pipeline'),
      );
    },
    async getPipeline(id) {
      const found: unknown = await orNull(() => api.Pipelines.show(project, Number(id)));
      return found === null ? null : toPipeline(read(schema.pipelineSchema, found, `pipeline ${id}`));
    },
    async cancelPipeline(id) {
      // Pipelines of a protected branch are the evaluating identity's to stop.
      await evaluator.Pipelines.cancel(project, Number(id));
    },
    async changePipelines(change) {
      const found: unknown = await api.MergeRequests.allPipelines(project, change);
      const all = read(z.array(schema.pipelineSchema), found, `pipelines of !${change}`);
      return all.sort((a, b) => b.id - a.id).map(toPipeline);
    },
    async branchPipelines(branch) {
      const found: unknown = await api.Pipelines.all(project, {
        ref: branch,
        orderBy: 'id',
        sort: 'desc',
        perPage: 50,
        page: 1,
      });
      return read(z.array(schema.pipelineSchema), found, `pipelines of ${branch}`).map(toPipeline);
    },
    async jobs(pipeline) {
      const found: unknown = await api.Jobs.all(project, { pipelineId: Number(pipeline), perPage: 100 });
      return read(z.array(schema.jobSchema), found, `jobs of pipeline ${pipeline}`).map(toJob);
    },
    async jobLog(job, from) {
      // Not by the library, which makes text of it: how far one has read is counted in bytes.
      const url = new URL(`${host}/api/v4/projects/${encodeURIComponent(project)}/jobs/${Number(job)}/trace`);
      const headers = { 'private-token': options.token };
      const answer = await orNull(() => send({ method: 'GET', url, headers, body: null, network }));
      if (answer === null) return null;
      const bytes = await readBody(answer.body, largestLog);
      if (bytes) return bytes.subarray(from);
      const why = `the log of job ${job} is longer than ${largestLog / 2 ** 20} MiB`;
      throw new UpstreamError(url.host, why, { retryable: false });
    },
    async artifact(job, path, limit = defaultArtifactLimit) {
      const artifactPath = path.split('/').map(encodeURIComponent).join('/');
      const found: unknown = await orNull(() =>
        api.JobArtifacts.downloadArchive(project, {
          jobId: Number(job),
          artifactPath,
          asStream: true,
        } as never),
      );
      if (found === null) return null;
      const { Readable: streams } = await import('node:stream');
      const body: Readable = streams.fromWeb(found as Parameters<typeof streams.fromWeb>[0]);
      const bytes = await readBody(body, limit);
      if (bytes) return bytes;
      throw new UserError('artifact-corrupt', `${path} of job ${job} is longer than ${limit} bytes`);
    },
    async ensureChange(change) {
      const found = await findChange(change.source, change.target);
      if (found) return found;
      try {
        const made: unknown = await api.MergeRequests.create(
          project,
          change.source,
          change.target,
          change.title,
          { description: change.description, removeSourceBranch: true },
        );
        return toChange(read(schema.mergeRequestSchema, made, 'new merge request'));
      } catch (error) {
        // 409: somebody (or a repeated call) was faster.
        const again =
          error instanceof UpstreamError && error.status === 409
            ? await findChange(change.source, change.target)
            : null;
        if (again) return again;
        throw error;
      }
    },
    async ensureIssue(key, issue) {
      const found = await findIssue(key);
      const description = withMarker(key, issue.description);
      if (found) {
        if (found.title !== issue.title || found.description?.trimEnd() !== description) {
          await api.Issues.edit(project, found.iid, { title: issue.title, description });
        }
        return { url: found.web_url };
      }
      const made: unknown = await api.Issues.create(project, issue.title, {
        description,
        labels: issue.labels.join(','),
      });
      return { url: read(schema.issueSchema, made, 'new issue').web_url };
    },
    async closeIssue(key) {
      const found = await findIssue(key);
      if (found) await api.Issues.edit(project, found.iid, { stateEvent: 'close' });
    },
  };
}
