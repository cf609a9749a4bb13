import type { Deployment, Environment, Job, MergeRequest, Pipeline, Project, WorldEvent } from './state.ts';

/** An event with copies of what changes later, taken when it happened. */
export type Snapshot =
  | Extract<WorldEvent, { kind: 'push' | 'merge_request' | 'note' | 'emoji' }>
  | { kind: 'pipeline'; project: Project; pipeline: Pipeline; jobs: Job[]; mr: MergeRequest | null }
  | { kind: 'job'; project: Project; job: Job; pipeline: Pipeline }
  | { kind: 'deployment'; project: Project; deployment: Deployment; environment: Environment };

/** Copies an event's changing parts; null for events that no webhook tells of. */
export function takeSnapshot(event: WorldEvent): Snapshot | null {
  const { project } = event;
  switch (event.kind) {
    case 'push':
      return event;
    case 'merge_request':
      return { ...event, mr: structuredClone(event.mr), changes: structuredClone(event.changes) };
    case 'note':
    case 'emoji':
      return { ...event, mr: structuredClone(event.mr), note: structuredClone(event.note) };
    case 'pipeline': {
      const { pipeline } = event;
      const jobs = [...project.jobs.values()].filter((job) => job.pipelineId === pipeline.id);
      const mr =
        pipeline.mergeRequestIid === null ? null : project.mergeRequests.get(pipeline.mergeRequestIid);
      return {
        kind: 'pipeline',
        project,
        pipeline: structuredClone(pipeline),
        jobs: structuredClone(jobs),
        mr: structuredClone(mr ?? null),
      };
    }
    case 'job': {
      const pipeline = project.pipelines.get(event.job.pipelineId);
      if (!pipeline) return null;
      return { kind: 'job', project, job: structuredClone(event.job), pipeline: structuredClone(pipeline) };
    }
    case 'deployment': {
      const environment = project.environments.find((entry) => entry.id === event.deployment.environmentId);
      if (!environment) return null;
      return {
        kind: 'deployment',
        project,
        deployment: structuredClone(event.deployment),
        environment: structuredClone(environment),
      };
    }
    case 'trace':
      return null;
  }
}
