import { type Html, html } from '../../report/html.ts';
import type { Job, Pipeline, Project, World } from '../state.ts';
import { linksOf } from './links.ts';
import { card, chip, dot, duration, empty, moment, person, ref, table } from './parts.ts';
import { sourceWords } from './project-pages.ts';

/** The jobs of a pipeline, stages as columns. */
export function pipelineGraph(
  world: World,
  project: Project,
  pipeline: Pipeline,
  current: Job | null = null,
): Html {
  const links = linksOf(world, project);
  const jobs = pipeline.jobIds.flatMap((id) => project.jobs.get(id) ?? []);
  if (jobs.length === 0) return empty('This pipeline has no jobs.');
  const stages = [...new Set([...pipeline.stages, ...jobs.map((job) => job.spec.stage)])];
  return html`<div class="scroll"><div class="stages">${stages.map((stage) => {
    const here = jobs.filter((job) => job.spec.stage === stage);
    if (here.length === 0) return null;
    return html`<div class="stage"><h3>${stage}</h3>${here.map(
      (job) =>
        html`<a class="job${job === current && ' now'}" href="${links.job(job.id)}">${dot(job.status)}<span>${job.spec.name}</span>${duration(job.startedAt, job.finishedAt)}</a>`,
    )}</div>`;
  })}</div></div>`;
}

/** A pipeline: why it ran, its jobs, what was wrong with its YAML. */
export function pipelinePage(world: World, project: Project, pipeline: Pipeline): Html {
  const links = linksOf(world, project);
  const jobs = pipeline.jobIds.flatMap((id) => project.jobs.get(id) ?? []);
  const inputs = Object.entries(pipeline.inputs);
  return html`<div class="head" data-part="head"><h1>${pipeline.name ?? 'Pipeline'} <span class="muted">#${pipeline.id}</span></h1>
<div class="line">${chip(pipeline.status)}<span class="meta">${sourceWords[pipeline.source]} by ${person(world, pipeline.userId)} on ${ref(pipeline.ref, links.tree(pipeline.ref))}
<a href="${links.commit(pipeline.sha)}"><code>${pipeline.sha.slice(0, 8)}</code></a>${pipeline.mergeRequestIid !== null && html` for <a href="${links.mergeRequest(pipeline.mergeRequestIid)}">!${pipeline.mergeRequestIid}</a>`}
· ${moment(pipeline.createdAt)}${pipeline.startedAt && html` · ${pipeline.finishedAt ? 'took' : 'for'} ${duration(pipeline.startedAt, pipeline.finishedAt)}`}</span></div></div>
${card('graph', 'Jobs', html`${pipeline.yamlErrors.map((problem) => html`<p class="warning">${problem}</p>`)}${pipelineGraph(world, project, pipeline)}`)}
${inputs.length > 0 && card('inputs', 'Inputs', html`<dl class="facts pad">${inputs.map(([name, value]) => html`<dt>${name}</dt><dd><code>${typeof value === 'string' ? value : JSON.stringify(value)}</code></dd>`)}</dl>`)}
${
  jobs.length > 0 &&
  card(
    'jobs',
    'Details',
    table(
      ['Job', 'State', 'Stage', 'Took', 'Finished'],
      jobs.map((job) => [
        html`<a href="${links.job(job.id)}">${job.spec.name}</a>${job.spec.environment && html` <span class="tag">${job.spec.environment.name}</span>`}${job.spec.allowFailure && html` <span class="tag">may fail</span>`}`,
        html`${chip(job.status)}${job.failureReason && html` <span class="meta">${job.failureReason}</span>`}`,
        job.spec.stage,
        duration(job.startedAt, job.finishedAt),
        moment(job.finishedAt),
      ]),
    ),
  )
}`;
}
