import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Html } from '../../report/html.ts';
import type { Job, Project, World } from '../state.ts';
import { sendBytes, sendPlain } from './files.ts';
import { jobPage, logPiece, traceFile } from './job-page.ts';
import {
  environmentsPage,
  issuePage,
  issuesPage,
  mergeRequestsPage,
  pipelinesPage,
  releasesPage,
} from './list-pages.ts';
import { mergeRequestPage } from './merge-request-page.ts';
import { pipelinePage } from './pipeline-pages.ts';
import {
  blobPage,
  commitPage,
  commitsPage,
  comparePage,
  rawFile,
  splitRevision,
  treePage,
} from './repository-pages.ts';

/** What an address below `/-/` leads to: a page, something already sent, or nothing. */
export type Found = { title: string; body: Html } | 'sent' | null;

/** The part of the project's menu a page belongs to. */
export type Section =
  | 'overview'
  | 'merge_requests'
  | 'pipelines'
  | 'environments'
  | 'releases'
  | 'issues'
  | 'repository';

const sections: Record<string, Section> = {
  merge_requests: 'merge_requests',
  pipelines: 'pipelines',
  jobs: 'pipelines',
  environments: 'environments',
  releases: 'releases',
  issues: 'issues',
};

/** The section of `/-/KIND/…`. */
export function sectionOf(kind: string | undefined): Section {
  return (kind !== undefined && Object.hasOwn(sections, kind) && sections[kind]) || 'repository';
}

interface Asked {
  world: World;
  project: Project;
  /** What follows `/-/`, decoded. */
  segments: readonly string[];
  query: URLSearchParams;
  response: ServerResponse;
}

const page = (title: string, body: Html | null): Found => (body === null ? null : { title, body });

/** A number of an address as GitLab writes it; anything else names nothing. */
const number = (text: string | undefined) => (/^[1-9]\d{0,14}$/.test(text ?? '') ? Number(text) : -1);

/** Answers the addresses below `/NAMESPACE/PROJECT/-/`. */
export async function findPage(asked: Asked): Promise<Found> {
  const { world, project, segments } = asked;
  const [kind, id, ...more] = segments;
  if (id === undefined) {
    if (kind === 'merge_requests') return page('Merge requests', mergeRequestsPage(world, project));
    if (kind === 'pipelines') return page('Pipelines', pipelinesPage(world, project));
    if (kind === 'environments') return page('Environments', environmentsPage(world, project));
    if (kind === 'releases') return page('Releases', await releasesPage(world, project));
    if (kind === 'issues') return page('Issues', issuesPage(world, project));
    return null;
  }
  if (kind === 'jobs') {
    const job = project.jobs.get(number(id));
    return job ? jobAddress(asked, job, more.join('/')) : null;
  }
  if (kind === 'tree' || kind === 'blob' || kind === 'raw' || kind === 'commits') {
    return repositoryAddress(asked, kind, segments.slice(1));
  }
  if (more.length > 0 && kind !== 'compare') return null;
  if (kind === 'merge_requests') {
    const mr = project.mergeRequests.get(number(id));
    return mr ? page(`${mr.title} !${mr.iid}`, await mergeRequestPage(world, project, mr)) : null;
  }
  if (kind === 'pipelines') {
    const pipeline = project.pipelines.get(number(id));
    return pipeline ? page(`Pipeline #${pipeline.id}`, pipelinePage(world, project, pipeline)) : null;
  }
  if (kind === 'issues') {
    const issue = project.issues.get(number(id));
    return issue ? page(`${issue.title} #${issue.iid}`, await issuePage(world, project, issue)) : null;
  }
  if (kind === 'commit') return page(`Commit ${id.slice(0, 8)}`, await commitPage(world, project, id));
  if (kind === 'compare') {
    const [from, to] = segments.slice(1).join('/').split('...');
    return from && to ? page(`${from}...${to}`, await comparePage(project, from, to)) : null;
  }
  return null;
}

async function jobAddress(asked: Asked, job: Job, what: string): Promise<Found> {
  const { world, project, query, response } = asked;
  switch (what) {
    case '':
      return page(`${job.spec.name} (job ${job.id})`, await jobPage(world, project, job));
    case 'raw': {
      if (!(await sendPlain(response, traceFile(job), `job-${job.id}.log`, 'text/plain; charset=utf-8'))) {
        sendBytes(response, `job-${job.id}.log`, Buffer.alloc(0));
      }
      return 'sent';
    }
    case 'log': {
      const piece = await logPiece(job, Number(query.get('from') ?? 0), query.get('style') ?? '');
      response.writeHead(200, {
        'content-type': 'application/json',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      });
      response.end(JSON.stringify(piece));
      return 'sent';
    }
    case 'artifacts/download':
      return job.hasArtifacts &&
        (await sendPlain(response, join(job.folder, 'artifacts.zip'), 'artifacts.zip', null))
        ? 'sent'
        : null;
    default:
      return null;
  }
}

async function repositoryAddress(
  { world, project, response }: Asked,
  kind: 'tree' | 'blob' | 'raw' | 'commits',
  segments: readonly string[],
): Promise<Found> {
  const at = await splitRevision(project, segments);
  if (!at) return null;
  const title = at.path === '' ? at.revision : at.path;
  switch (kind) {
    case 'tree':
      return page(title, await treePage(world, project, at));
    case 'blob':
      return page(title, await blobPage(world, project, at));
    case 'commits':
      return at.path === ''
        ? page(`Commits of ${title}`, await commitsPage(world, project, at.revision, at.commit))
        : null;
    case 'raw': {
      const content = await rawFile(project, at);
      if (!content) return null;
      sendBytes(response, at.path.split('/').at(-1) ?? 'file', content);
      return 'sent';
    }
  }
}
