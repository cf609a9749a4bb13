import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Octokit } from '@octokit/rest';
import { UpstreamError, UserError } from '../core/error.ts';
import { orNull } from './absent.ts';
import { readArchive } from './github-archive.ts';
import { perPage, readPages } from './github-pages.ts';
import * as schema from './github-schema.ts';
import { read, toJob, toPipeline } from './github-schema.ts';
import { readBody, send } from './http.ts';
import type { Network } from './network.ts';
import type { Forge, Pipeline } from './types.ts';

/** The part of {@link Forge} that is about workflow runs. */
export type Runs = Pick<
  Forge,
  | 'runPipeline'
  | 'getPipeline'
  | 'cancelPipeline'
  | 'changePipelines'
  | 'branchPipelines'
  | 'jobs'
  | 'jobLog'
  | 'jobLog'
  | 'artifact'
  | 'pipelineStarter'
>;

/** What the runs of one workflow of a repository need. */
export interface RunsOptions {
  octokit: Octokit;
  /** Starts runs; of another identity where one is configured. */
  starter: Octokit;
  where: { owner: string; repo: string };
  /** File name below .github/workflows. */
  workflow: string;
  /** Base of the API and the token, for the archive that Octokit would hold twice. */
  url: string;
  token(): Promise<string>;
  network: Network;
  /** Branch and head of a change; null when there is none. */
  changeOf(change: number): Promise<{ sourceBranch: string; fork: boolean } | null>;
}

const defaultArtifactLimit = 1024 * 1024;
/** Handed-over folders are some megabytes; more than this is not fetched to read one small file. */
const largestArchive = 64 * 1024 * 1024;
/** A server that does not name the run it made shows it in its list after some seconds. */
const lookups = 10;

/** The artifact of a job has the job's name, without what artifact names may not hold (actions/upload-artifact). */
export function artifactName(job: string): string {
  return job.replace(/[":<>|*?\r\n\\/]/g, '-');
}

function saysUnknown(error: unknown): boolean {
  return error instanceof UpstreamError && error.status === 422 && /return_run_details/.test(error.message);
}

/** Runs of one workflow; other workflows of the repository are none of our business. */
export function createRuns(options: RunsOptions): Runs {
  const { octokit, where, workflow } = options;
  const { actions } = octokit.rest;

  const listRuns = async (filter: { branch?: string; event?: string; created?: string }) => {
    // The newest hundred: nobody asks for older ones.
    const found = await actions.listWorkflowRuns({
      ...where,
      workflow_id: workflow,
      per_page: perPage,
      ...filter,
    });
    const runs = read(schema.runsSchema, found.data, `runs of ${workflow}`).workflow_runs;
    return runs.sort((a, b) => b.id - a.id);
  };

  async function getRun(id: number) {
    const found = await orNull(() => actions.getWorkflowRun({ ...where, run_id: id }));
    return found === null ? null : read(schema.runSchema, found.data, `run ${id}`);
  }

  /** The run that carries our mark in its title (`run-name` of the workflow). */
  async function findRun(ref: string, mark: string): Promise<Pipeline> {
    for (let attempt = 1; attempt <= lookups; attempt++) {
      const runs = await listRuns({ branch: ref, event: 'workflow_dispatch' });
      const run = runs.find((one) => one.display_title.includes(mark));
      if (run) return toPipeline(run);
      await sleep(250 * attempt);
    }
    throw new UpstreamError('github', `the run of ${workflow} that was started is not listed: ${mark}`, {
      retryable: true,
    });
  }

  async function dispatch(
    ref: string,
    inputs: Record<string, string>,
    as: 'evaluator' | 'self',
  ): Promise<Pipeline> {
    const starter = as === 'self' ? actions : options.starter.rest.actions;
    // Servers that do not name the run they start show the mark in its title.
    const mark = randomUUID();
    const request = { ...where, workflow_id: workflow, ref, inputs: { ...inputs, cdl_run: mark } };
    let made: { data: unknown; status: number };
    try {
      // The library's types do not know the parameter yet (docs.github.com, REST, create a workflow dispatch event).
      const named = { ...request, return_run_details: true };
      made = await starter.createWorkflowDispatch(named);
    } catch (error) {
      if (!saysUnknown(error)) throw error;
      made = await starter.createWorkflowDispatch(request);
    }
    if (made.status === 204) return findRun(ref, mark);
    const { workflow_run_id, html_url } = read(schema.dispatchSchema, made.data, 'new run');
    const run = await getRun(workflow_run_id);
    if (run) return toPipeline(run);
    const id = String(workflow_run_id);
    const createdAt = new Date().toISOString();
    return { id, ref, sha: '', source: 'workflow_dispatch', state: 'waiting', url: html_url, createdAt };
  }

  /** What GitHub keeps elsewhere, at most `limit` bytes. */
  async function download(path: string, limit: number): Promise<Buffer | null> {
    const { owner, repo } = where;
    const base = options.url.replace(/\/+$/, '');
    const url = new URL(`${base}/repos/${owner}/${repo}/actions/${path}`);
    const headers = {
      authorization: `Bearer ${await options.token()}`,
      'user-agent': 'cdl',
      accept: 'application/vnd.github+json',
    };
    const { network } = options;
    let received = await send({ method: 'GET', url, headers, body: null, network, redirects: true });
    const { location } = received.headers;
    if (received.status >= 300 && location) {
      received.body.resume();
      // The address is signed and lives for a minute; our token is not for the storage behind it.
      const signed = new URL(location, url);
      received = await send({
        method: 'GET',
        url: signed,
        headers: { 'user-agent': 'cdl' },
        body: null,
        network,
      });
    }
    return readBody(received.body, limit);
  }

  return {
    runPipeline: (ref, inputs, as = 'evaluator') => dispatch(ref, inputs, as),
    async getPipeline(id) {
      const run = await getRun(Number(id));
      return run ? toPipeline(run) : null;
    },
    async pipelineStarter(id) {
      const run = await getRun(Number(id));
      const user = run?.triggering_actor ?? run?.actor;
      return user ? String(user.id) : null;
    },
    async cancelPipeline(id) {
      try {
        await actions.cancelWorkflowRun({ ...where, run_id: Number(id) });
      } catch (error) {
        // 409: it is over already.
        if (!(error instanceof UpstreamError && error.status === 409)) throw error;
      }
    },
    async changePipelines(change) {
      const found = await options.changeOf(change);
      if (!found || found.fork) return [];
      const runs = await listRuns({ branch: found.sourceBranch, event: 'pull_request' });
      return runs
        .filter((run) => run.head_repository?.id === run.repository.id)
        .filter((run) => {
          // Emptied when the change is closed; while it is open it tells two changes of one branch apart.
          const numbers = (run.pull_requests ?? []).map((one) => one.number);
          return numbers.length === 0 || numbers.includes(change);
        })
        .map(toPipeline);
    },
    async branchPipelines(branch) {
      const runs = await listRuns({ branch });
      return runs.filter((run) => !run.event.startsWith('pull_request')).map(toPipeline);
    },
    async jobs(pipeline) {
      const run_id = Number(pipeline);
      const jobs = await readPages(async (page) => {
        const found = await actions.listJobsForWorkflowRun({
          ...where,
          run_id,
          filter: 'latest',
          per_page: perPage,
          page,
        });
        return read(schema.jobsSchema, found.data, `jobs of run ${pipeline}`).jobs;
      });
      const failed = jobs.some((job) => job.conclusion === 'failure');
      const tolerated = failed && (await getRun(run_id))?.conclusion === 'success';
      return jobs.map((job) => toJob(job, tolerated));
    },
    async jobLog(job, from) {
      if (!/^\d+$/.test(job)) return null;
      // 404 until the job has ended (docs.github.com, download job logs for a workflow run).
      return orNull(async () => (await download(`jobs/${job}/logs`, largestArchive))?.subarray(from) ?? null);
    },
    async artifact(job, path, limit = defaultArtifactLimit) {
      if (!/^\d+$/.test(job)) return null;
      const found = await orNull(() => actions.getJobForWorkflowRun({ ...where, job_id: Number(job) }));
      if (!found) return null;
      const { run_id, name } = read(schema.jobSchema, found.data, `job ${job}`);
      const wanted = artifactName(name);
      const listed = await actions.listWorkflowRunArtifacts({
        ...where,
        run_id,
        name: wanted,
        per_page: perPage,
      });
      const [newest] = read(schema.artifactsSchema, listed.data, `artifacts of run ${run_id}`)
        .artifacts.filter((one) => one.name === wanted && !one.expired)
        .sort((a, b) => b.id - a.id);
      if (!newest) return null;
      const archive =
        newest.size_in_bytes > largestArchive
          ? null
          : await download(`artifacts/${newest.id}/zip`, largestArchive);
      if (archive) return readArchive(archive, path, limit, `artifact ${wanted} of run ${run_id}`);
      throw new UserError(
        'artifact-corrupt',
        `artifact ${wanted} of run ${run_id} is larger than ${largestArchive} bytes`,
      );
    },
  };
}
