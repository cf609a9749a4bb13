import { type Html, html, type Part } from '../../report/html.ts';
import type { Issue, Project, World } from '../state.ts';
import { linksOf, safeAddress } from './links.ts';
import { openMarkdown } from './markdown.ts';
import { discussion } from './merge-request-page.ts';
import { card, chip, empty, moment, person, ref, table } from './parts.ts';
import {
  deploymentLine,
  listOf,
  liveDeployment,
  mergeRequestItem,
  newest,
  pipelineItem,
} from './project-pages.ts';

const most = 100;

function heading(title: Part): Html {
  return html`<div class="head" data-part="head"><h1>${title}</h1></div>`;
}

/** All merge requests, newest first. */
export function mergeRequestsPage(world: World, project: Project): Html {
  const all = newest(project.mergeRequests.values()).slice(0, most);
  return html`${heading('Merge requests')}${card(
    'list',
    `${project.mergeRequests.size} merge requests`,
    listOf(
      all.map((mr) => mergeRequestItem(world, project, mr)),
      'No merge request yet.',
    ),
  )}`;
}

/** All pipelines, newest first. */
export function pipelinesPage(world: World, project: Project): Html {
  const all = newest(project.pipelines.values()).slice(0, most);
  return html`${heading('Pipelines')}${card(
    'list',
    `${project.pipelines.size} pipelines`,
    listOf(
      all.map((pipeline) => pipelineItem(world, project, pipeline)),
      'No pipeline yet: push a commit.',
    ),
  )}`;
}

/** Environments: what is live in each, where it answers, and what was deployed before. */
export function environmentsPage(world: World, project: Project): Html {
  const links = linksOf(world, project);
  return html`${heading('Environments')}${project.environments.length === 0 && html`<div data-part="none">${empty('Nothing was deployed yet.')}</div>`}${project.environments.map(
    (environment) => {
      const { live, all } = liveDeployment(project, environment);
      const address = safeAddress(environment.externalUrl);
      return card(
        `environment-${environment.id}`,
        environment.name,
        html`<div class="pad">${live ? html`Live: ${deploymentLine(world, project, live)}` : 'Nothing is live.'}${address && html`<div><a href="${address}" rel="noreferrer noopener">${address}</a></div>`}</div>
${
  all.length > 0 &&
  table(
    ['Deployment', 'State', 'Commit', 'By', 'When', 'Job'],
    all
      .slice(0, most)
      .map((entry) => [
        `#${entry.iid}`,
        html`${chip(entry.status)}${entry === live && html` <span class="tag">live</span>`}`,
        html`<a href="${links.commit(entry.sha)}"><code>${entry.sha.slice(0, 8)}</code></a> ${ref(entry.ref)}`,
        person(world, entry.userId),
        moment(entry.finishedAt ?? entry.createdAt),
        entry.jobId === null ? '–' : html`<a href="${links.job(entry.jobId)}">${entry.jobId}</a>`,
      ]),
  )
}`,
        chip(environment.state),
      );
    },
  )}`;
}

/** All issues, newest first. */
export function issuesPage(world: World, project: Project): Html {
  const links = linksOf(world, project);
  return html`${heading('Issues')}${card(
    'list',
    `${project.issues.size} issues`,
    listOf(
      newest(project.issues.values()).map(
        (issue) =>
          html`<li class="row">${chip(issue.state)}<div class="grow"><a class="title" href="${links.issue(issue.iid)}">${issue.title}</a><div class="meta">#${issue.iid} · ${person(world, issue.authorId)} · ${moment(issue.createdAt)}</div></div></li>`,
      ),
      'No issue yet.',
    ),
  )}`;
}

/** An issue and its comments. */
export async function issuePage(world: World, project: Project, issue: Issue): Promise<Html> {
  const markdown = await openMarkdown(world, project);
  return html`<div class="head" data-part="head"><h1>${issue.title} <span class="muted">#${issue.iid}</span></h1><div class="line">${chip(issue.state)}<span class="meta">${person(world, issue.authorId)} · ${moment(issue.createdAt)}</span>${issue.labels.map((label) => html`<span class="tag">${label}</span>`)}</div></div>
${issue.description.trim() !== '' && html`<section class="card" data-part="description"><div class="pad">${markdown(issue.description)}</div></section>`}${discussion(world, issue.notes, markdown)}`;
}

/** All releases with their notes, newest first. */
export async function releasesPage(world: World, project: Project): Promise<Html> {
  const links = linksOf(world, project);
  const markdown = await openMarkdown(world, project);
  const all = [...project.releases.values()].reverse().slice(0, most);
  return html`${heading('Releases')}${all.length === 0 && html`<div data-part="none">${empty('No release yet: a version that is promoted becomes one.')}</div>`}${all.map(
    (release) =>
      card(
        `release-${release.tag}`,
        release.name,
        html`<div class="pad"><div class="meta"><a href="${links.tree(release.tag)}"><code>${release.tag}</code></a> · ${person(world, release.authorId)} · ${moment(release.createdAt)}</div>${markdown(release.description)}</div>`,
      ),
  )}`;
}
