import { z } from 'zod';
import { UserError } from '../core/error.ts';
import type { Identity } from './github-client.ts';
import { checkRunsSchema, read, statusSchema } from './github-schema.ts';
import { cut } from './marker.ts';
import type { Person, Status } from './types.ts';

/** Longest description of a commit status, and most annotations in one request (docs.github.com, REST). */
const longestDescription = 140;
const mostAnnotations = 50;

type Where = { owner: string; repo: string };

/** Check runs know running and canceled, commit statuses do not: there it is an error, which lets nothing be merged either. */
const commitStates = {
  pending: 'pending',
  running: 'pending',
  success: 'success',
  failed: 'failure',
  canceled: 'error',
} as const;
const checkStates = {
  pending: { status: 'queued' },
  running: { status: 'in_progress' },
  success: { status: 'completed', conclusion: 'success' },
  failed: { status: 'completed', conclusion: 'failure' },
  canceled: { status: 'completed', conclusion: 'cancelled' },
} as const;

async function setCommitStatus(
  identity: Identity,
  me: Person,
  where: Where,
  sha: string,
  status: Status,
): Promise<void> {
  const { repos } = identity.octokit.rest;
  const description = cut(status.description, longestDescription);
  const state = commitStates[status.state];
  // Newest first; ours is among the first hundred unless a commit has been told a hundred things since.
  const found = await repos.listCommitStatusesForRef({ ...where, ref: sha, per_page: 100 });
  const last = read(z.array(statusSchema), found.data, `statuses of ${sha}`).find(
    (one) => one.context === status.name && String(one.creator?.id) === me.id,
  );
  if (last?.state === state && last.description === description) return;
  await repos.createCommitStatus({
    ...where,
    sha,
    state,
    context: status.name,
    description,
    ...(status.url ? { target_url: status.url } : {}),
  });
}

/** The summary is markdown, which would show pictures and links of whoever named a job: inside code it is text. */
const inCode = (text: string): string =>
  `\`${text.replaceAll('`', 'ʼ').replace(/\s+/g, ' ').trim() || '–'}\``;

async function setCheckRun(
  identity: Identity,
  appId: number | null,
  where: Where,
  sha: string,
  status: Status,
): Promise<void> {
  const { checks } = identity.octokit.rest;
  const found = await checks.listForRef({
    ...where,
    ref: sha,
    check_name: status.name,
    filter: 'all',
    per_page: 100,
    ...(appId === null ? {} : { app_id: appId }),
  });
  const last = read(checkRunsSchema, found.data, `check runs of ${sha}`)
    .check_runs.sort((a, b) => a.id - b.id)
    .at(-1);
  const wanted = checkStates[status.state];
  const conclusion = 'conclusion' in wanted ? wanted.conclusion : null;
  const title = cut(status.description, 255);
  const problems = status.problems ?? [];
  const isSame =
    last?.status === wanted.status && last.conclusion === conclusion && last.output.title === title;
  if (isSame) return;
  const said = {
    ...where,
    name: status.name,
    ...wanted,
    ...(status.url ? { details_url: status.url } : {}),
    output: {
      title,
      summary: inCode(status.description),
      ...(problems.length > 0
        ? {
            annotations: problems.slice(0, mostAnnotations).map(({ path, line, message }) => ({
              path,
              start_line: line,
              end_line: line,
              annotation_level: 'failure' as const,
              message,
            })),
          }
        : {}),
    },
  };
  // A completed check run stays as it is: what comes after it is a new one, and the newest counts.
  if (last && last.status !== 'completed') {
    await checks.update({ ...said, check_run_id: last.id });
  } else {
    await checks.create({ ...said, head_sha: sha });
  }
}

/**
 * Says what is the case about a commit: as a check run, which only apps may write; as a commit status where the token is an
 * account's or the app lacks the permission `checks: write`.
 */
export function createStatusWriter(
  identity: Identity,
  self: () => Promise<Person>,
  where: Where,
): (sha: string, status: Status) => Promise<void> {
  let checks = identity.app !== null;
  return async (sha, status) => {
    if (checks) {
      try {
        await setCheckRun(identity, identity.app?.id ?? null, where, sha, status);
        return;
      } catch (error) {
        if (!(error instanceof UserError && error.code === 'forge-denied')) throw error;
        checks = false;
      }
    }
    await setCommitStatus(identity, await self(), where, sha, status);
  };
}
