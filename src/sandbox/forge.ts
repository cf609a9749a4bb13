import { matchesPattern } from './access.ts';
import { isAncestor, readCommit, resolveRef, updateRef, zeroSha } from './git.ts';
import type { RefCommand } from './git-http.ts';
import type { Forge } from './route.ts';
import {
  announce,
  type MergeRequest,
  type MergeRequestAction,
  type Note,
  type Project,
  type User,
} from './state.ts';

/** The moment, as the state writes it. */
export function now(): string {
  return new Date().toISOString();
}

/** The ref that keeps a merge request's head reachable. */
export function mergeRequestRef(iid: number): string {
  return `refs/merge-requests/${iid}/head`;
}

/** Tells the world about a change of a merge request. */
export function announceMergeRequest(
  forge: Forge,
  project: Project,
  mr: MergeRequest,
  action: MergeRequestAction,
  userId: number,
  more: { oldrev?: string; changes?: Record<string, unknown> } = {},
): void {
  announce(forge.world, {
    kind: 'merge_request',
    project,
    mr,
    action,
    userId,
    oldrev: more.oldrev ?? null,
    changes: more.changes ?? {},
  });
}

/** A note the forge writes by itself ("approved this merge request"); it fires no webhook. */
export function systemNote(forge: Forge, mr: MergeRequest, userId: number, body: string): void {
  mr.notes.push(newNote(forge, userId, body, true));
}

/** A note with a number and a thread of its own. */
export function newNote(forge: Forge, authorId: number, body: string, system = false): Note {
  const id = forge.world.nextId('note');
  const at = now();
  return {
    id,
    authorId,
    body,
    system,
    createdAt: at,
    updatedAt: at,
    discussionId: id.toString(16).padStart(40, '0'),
    emoji: [],
  };
}

/** Whether a commit asks for no pipeline (doc: ci/pipelines, "Skip a pipeline"). */
export function skipsCi(message: string): boolean {
  return /\[(ci skip|skip ci)\]/i.test(message);
}

/** Marks a merge request as merged by `userId` and says so. */
export function markMerged(
  forge: Forge,
  project: Project,
  mr: MergeRequest,
  userId: number,
  commits: { mergeCommitSha: string | null; squashCommitSha: string | null },
): void {
  mr.state = 'merged';
  mr.mergeCommitSha = commits.mergeCommitSha;
  mr.squashCommitSha = commits.squashCommitSha;
  mr.mergedBy = userId;
  mr.mergedAt = now();
  mr.updatedAt = mr.mergedAt;
  systemNote(forge, mr, userId, 'merged');
  announceMergeRequest(forge, project, mr, 'merge', userId);
}

/** Asks the engine for a merge request's own pipeline. */
export function mergeRequestPipeline(forge: Forge, project: Project, mr: MergeRequest, userId: number) {
  return forge.engine.createPipeline(project, {
    ref: mr.sourceBranch,
    sha: mr.sha,
    tag: false,
    source: 'merge_request_event',
    userId,
    inputs: {},
    variables: [],
    mergeRequestIid: mr.iid,
    before: null,
  });
}

/** Everything that follows from refs having moved, whoever moved them: events, merge request heads, pipelines. */
export async function refsMoved(
  forge: Forge,
  project: Project,
  user: User,
  commands: readonly RefCommand[],
  options: { skipCi?: boolean } = {},
): Promise<void> {
  for (const command of commands) {
    const branch = /^refs\/heads\/(.+)$/.exec(command.ref)?.[1];
    const tag = /^refs\/tags\/(.+)$/.exec(command.ref)?.[1];
    if (branch === undefined && tag === undefined) continue;
    // GitLab sends no push events and makes no pipelines for more than three refs in one push.
    const quiet = commands.length > 3;
    if (!quiet)
      announce(forge.world, {
        kind: 'push',
        project,
        ref: command.ref,
        before: command.old,
        after: command.new,
        userId: user.id,
      });
    const touched = branch === undefined ? [] : await updateHeads(forge, project, user, branch, command);
    if (branch !== undefined) await noticeMerged(forge, project, user, branch, command);
    if (command.new === zeroSha || quiet) continue;
    const sha = (await resolveRef(project.repository, command.ref)) === null ? null : command.new;
    const commit = sha === null ? null : await readCommit(project.repository, sha);
    if (!commit || options.skipCi === true || skipsCi(commit.message)) continue;
    forge.later(project, async () => {
      await forge.engine.createPipeline(project, {
        ref: branch ?? tag ?? '',
        sha: commit.id,
        tag: tag !== undefined,
        source: 'push',
        userId: user.id,
        inputs: {},
        variables: [],
        mergeRequestIid: null,
        before: command.old,
      });
      for (const mr of touched) await mergeRequestPipeline(forge, project, mr, user.id);
    });
  }
}

/** Moves the heads of the open merge requests of a pushed branch; approvals stay. */
async function updateHeads(
  forge: Forge,
  project: Project,
  user: User,
  branch: string,
  command: RefCommand,
): Promise<MergeRequest[]> {
  const touched: MergeRequest[] = [];
  if (command.new === zeroSha) return touched;
  for (const mr of project.mergeRequests.values()) {
    if (mr.state !== 'opened' || mr.sourceBranch !== branch || mr.sourceProjectId !== project.id) continue;
    if (mr.sha === command.new) continue;
    const oldrev = mr.sha;
    mr.sha = command.new;
    mr.updatedAt = now();
    await updateRef(project.repository, mergeRequestRef(mr.iid), command.new, oldrev);
    systemNote(forge, mr, user.id, 'added 1 commit');
    announceMergeRequest(forge, project, mr, 'update', user.id, { oldrev });
    touched.push(mr);
  }
  return touched;
}

/** A push that contains a merge request's head merges it, as GitLab does. */
async function noticeMerged(
  forge: Forge,
  project: Project,
  user: User,
  branch: string,
  command: RefCommand,
): Promise<void> {
  if (command.new === zeroSha || command.old === zeroSha) return;
  for (const mr of project.mergeRequests.values()) {
    if (mr.state !== 'opened' || mr.targetBranch !== branch) continue;
    if (!(await isAncestor(project.repository, mr.sha, command.new))) continue;
    // A merge request without commits of its own was there before this push; it stays open.
    if (await isAncestor(project.repository, mr.sha, command.old)) continue;
    markMerged(forge, project, mr, user.id, { mergeCommitSha: command.new, squashCommitSha: null });
  }
}

/** Whether a ref is protected, for `ref_protected` and protected variables. */
export function isProtectedBranch(project: Project, branch: string): boolean {
  return project.protectedBranches.some((rule) => matchesPattern(rule.name, branch));
}
