import { type Html, html } from '../../report/html.ts';
import { fullPath } from '../access.ts';
import { headPipeline } from '../present-merge-request.ts';
import type { Deployment, Environment, MergeRequest, Pipeline, Project, World } from '../state.ts';
import { basePath, linksOf, safeAddress } from './links.ts';
import { avatar, card, chip, dot, duration, empty, moment, person, ref, statusesOf } from './parts.ts';
import { registryCard } from './registry.ts';

/** Newest first. */
export function newest<T extends { id: number }>(entries: Iterable<T>): T[] {
  return [...entries].sort((a, b) => b.id - a.id);
}

const roleNames: Record<number, string> = {
  10: 'Guest',
  20: 'Reporter',
  30: 'Developer',
  40: 'Maintainer',
  50: 'Owner',
};

/** What a merge request is, drafts apart. */
export function stateOf(mr: MergeRequest) {
  return mr.state === 'opened' && mr.draft ? 'draft' : mr.state;
}

/** One merge request in a list. */
export function mergeRequestItem(world: World, project: Project, mr: MergeRequest): Html {
  const links = linksOf(world, project);
  const pipeline = headPipeline(project, mr);
  return html`<li class="row wide">${chip(stateOf(mr))}<div class="grow"><a class="title" href="${links.mergeRequest(mr.iid)}">${mr.title}</a>
<div class="meta">!${mr.iid} · ${person(world, mr.authorId)} · ${ref(mr.sourceBranch)} → ${ref(mr.targetBranch)} · ${moment(mr.updatedAt)}</div>
${statusesOf(project, mr.sha).map((status) => html`<div class="meta status">${dot(status.status)}<span>${status.name}${status.description && html` – ${status.description}`}</span></div>`)}</div>
${pipeline && html`<a class="right" href="${links.pipeline(pipeline.id)}">${chip(pipeline.status)}</a>`}</li>`;
}

/** One pipeline in a list. */
export function pipelineItem(world: World, project: Project, pipeline: Pipeline): Html {
  const links = linksOf(world, project);
  const jobs = pipeline.jobIds.flatMap((id) => project.jobs.get(id) ?? []);
  return html`<li class="row wide"><a href="${links.pipeline(pipeline.id)}">${chip(pipeline.status)}</a><div class="grow">
<div><a class="title" href="${links.pipeline(pipeline.id)}">#${pipeline.id}${pipeline.name && html` ${pipeline.name}`}</a> ${ref(pipeline.ref)}</div>
<div class="meta">${sourceWords[pipeline.source]} ${pipeline.mergeRequestIid !== null && html`for <a href="${links.mergeRequest(pipeline.mergeRequestIid)}">!${pipeline.mergeRequestIid}</a> `}· <code>${pipeline.sha.slice(0, 8)}</code> · ${moment(pipeline.createdAt)}</div></div>
<div class="right"><div class="bar">${jobs.map((job) => html`<a href="${links.job(job.id)}" title="${job.spec.name}">${dot(job.status)}</a>`)}</div><span class="meta">${duration(pipeline.startedAt, pipeline.finishedAt)}</span></div></li>`;
}

/** Why a pipeline ran. */
export const sourceWords: Record<Pipeline['source'], string> = {
  push: 'push',
  merge_request_event: 'merge request',
  api: 'started through the API',
  web: 'started by hand',
  trigger: 'trigger token',
  schedule: 'schedule',
  parent_pipeline: 'parent pipeline',
};

/** The deployment an environment runs now (the newest that succeeded), and the one under way, if any. */
export function liveDeployment(project: Project, environment: Environment) {
  const all = newest(project.deployments.filter((entry) => entry.environmentId === environment.id));
  return {
    live: all.find((entry) => entry.status === 'success') ?? null,
    latest: all[0] ?? null,
    all,
  };
}

/** One deployment in words: commit, branch, who and when. */
export function deploymentLine(world: World, project: Project, deployment: Deployment): Html {
  const links = linksOf(world, project);
  return html`<a href="${links.commit(deployment.sha)}"><code>${deployment.sha.slice(0, 8)}</code></a> from ${ref(deployment.ref)} by ${person(world, deployment.userId)}${
    deployment.jobId !== null &&
    html` in <a href="${links.job(deployment.jobId)}">job ${deployment.jobId}</a>`
  } · ${moment(deployment.finishedAt ?? deployment.createdAt)}`;
}

/** What is live where. */
export function environmentItem(world: World, project: Project, environment: Environment): Html {
  const { live, latest } = liveDeployment(project, environment);
  const address = safeAddress(environment.externalUrl);
  return html`<li><div class="line"><b>${environment.name}</b>${chip(environment.state)}${latest && latest !== live && chip(latest.status, `deployment ${latest.status}`)}</div>
<div class="meta">${live ? deploymentLine(world, project, live) : 'nothing was deployed yet'}</div>
${address && html`<div class="small"><a href="${address}" rel="noreferrer noopener">${address}</a></div>`}</li>`;
}

/** A list, or words when it is empty. */
export function listOf(items: readonly Html[], none: string): Html {
  return items.length === 0 ? empty(none) : html`<ul class="list">${items}</ul>`;
}

/** Everything of a project at a glance. */
export async function projectOverview(world: World, project: Project): Promise<Html> {
  const links = linksOf(world, project);
  const requests = newest(project.mergeRequests.values());
  const open = requests.filter((mr) => mr.state === 'opened');
  const pipelines = newest(project.pipelines.values());
  return html`<div class="head" data-part="head"><h1>${project.name}</h1>
<p class="meta">${fullPath(project)} · default branch ${ref(project.defaultBranch, links.tree(project.defaultBranch))} · <a href="${links.commits(project.defaultBranch)}">commits</a></p>
${project.settings.description !== '' && html`<p>${project.settings.description}</p>`}</div>
<div class="cols"><div>
${card(
  'merge-requests',
  'Merge requests',
  listOf(
    [...open, ...requests.filter((mr) => mr.state !== 'opened')]
      .slice(0, 8)
      .map((mr) => mergeRequestItem(world, project, mr)),
    'No merge request yet.',
  ),
  html`<a class="small" href="${links.mergeRequests}">all ${requests.length}</a>`,
)}
${card(
  'pipelines',
  'Pipelines',
  listOf(
    pipelines.slice(0, 8).map((pipeline) => pipelineItem(world, project, pipeline)),
    'No pipeline yet: push a commit.',
  ),
  html`<a class="small" href="${links.pipelines}">all ${pipelines.length}</a>`,
)}
</div><div>
${card(
  'environments',
  'What is live',
  listOf(
    project.environments.map((entry) => environmentItem(world, project, entry)),
    'Nothing was deployed yet.',
  ),
  html`<a class="small" href="${links.environments}">deployments</a>`,
)}
${await registryCard(world, project)}
${card('members', 'Members', members(world, project))}
</div></div>`;
}

function members(world: World, project: Project): Html {
  const all = [...project.members].sort((a, b) => b[1] - a[1]);
  return listOf(
    all.map(
      ([id, role]) =>
        html`<li class="row">${avatar(world.users.get(id))}<div class="grow">${person(world, id)}<div class="meta">@${world.users.get(id)?.username ?? '?'}</div></div><span class="meta">${roleNames[role] ?? String(role)}</span></li>`,
    ),
    'No members.',
  );
}

/** The front page: every project, or those of a namespace; those where something happens first. */
export function projectList(world: World, title: string, projects: readonly Project[]): Html {
  const head = html`<div class="head" data-part="head"><h1>${title}</h1></div>`;
  if (projects.length === 0) return html`${head}${card('projects', 'Projects', empty('No project yet.'))}`;
  const weight = (project: Project) => project.mergeRequests.size + project.pipelines.size;
  const sorted = [...projects].sort((a, b) => weight(b) - weight(a) || a.id - b.id);
  return html`${head}${sorted.map((project) => projectSummary(world, project))}`;
}

function projectSummary(world: World, project: Project): Html {
  const links = linksOf(world, project);
  const open = newest(project.mergeRequests.values()).filter((mr) => mr.state === 'opened');
  const part = (name: string, items: readonly Html[]) =>
    items.length > 0 && [html`<li class="sub">${name}</li>`, items];
  const parts = [
    part(
      'Open merge requests',
      open.slice(0, 5).map((mr) => mergeRequestItem(world, project, mr)),
    ),
    part(
      'Newest pipelines',
      newest(project.pipelines.values())
        .slice(0, 3)
        .map((pipeline) => pipelineItem(world, project, pipeline)),
    ),
    part(
      'What is live',
      project.environments.map((entry) => environmentItem(world, project, entry)),
    ),
  ].filter((entry) => entry !== false);
  return card(
    `project-${project.id}`,
    html`<a href="${links.root}"><span class="muted">${project.namespace} /</span> ${project.name}</a>`,
    parts.length === 0
      ? empty(project.settings.description || 'Nothing has happened here yet.')
      : html`<ul class="list">${parts}</ul>`,
  );
}

/** A person: name, roles. */
export function userPage(world: World, userId: number): Html {
  const user = world.users.get(userId);
  const of = [...world.projects.values()].filter((project) => project.members.has(userId));
  return html`<div class="head" data-part="head"><div class="line">${avatar(user)}<h1>${user?.name ?? ''}</h1>${user?.bot && html`<span class="tag">bot</span>`}</div><p class="meta">@${user?.username ?? ''}</p></div>
${card(
  'roles',
  'Projects',
  listOf(
    of.map(
      (project) =>
        html`<li class="row"><a class="grow" href="${basePath(world)}/${fullPath(project)}">${fullPath(project)}</a><span class="meta">${roleNames[project.members.get(userId) ?? 0] ?? ''}</span></li>`,
    ),
    'Member of no project.',
  ),
)}`;
}
