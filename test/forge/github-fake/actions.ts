import type { FakeRun, FakeState, Handler } from './state.ts';
import { absent, noContent, ok, paged, simpleUser } from './state.ts';

export function presentRun(state: FakeState, run: FakeRun): object {
  const repo = { id: 1000, name: state.name, full_name: `${state.owner}/${state.name}` };
  return {
    id: run.id,
    head_branch: run.branch,
    head_sha: run.sha,
    event: run.event,
    status: run.status,
    conclusion: run.conclusion,
    created_at: run.createdAt,
    display_title: run.title,
    html_url: `${state.web}/${state.owner}/${state.name}/actions/runs/${run.id}`,
    actor: simpleUser(run.actor),
    triggering_actor: simpleUser(run.actor),
    head_repository: repo,
    repository: repo,
    pull_requests: run.pulls.map((number) => ({ number })),
  };
}

const find = (state: FakeState, id: string | undefined): FakeRun | undefined =>
  state.runs.find((one) => one.id === Number(id));

const presentJob = (state: FakeState, job: FakeState['jobs'][number]): object => ({
  id: job.id,
  run_id: job.run,
  name: job.name,
  status: job.status,
  conclusion: job.conclusion,
  ...(job.startedAt && { started_at: job.startedAt }),
  ...(job.completedAt && { completed_at: job.completedAt }),
  ...(job.labels && { labels: job.labels }),
  html_url: `${state.web}/${state.owner}/${state.name}/actions/runs/${job.run}/job/${job.id}`,
});

/** Inputs of `workflow_dispatch` in the starter workflow; GitHub refuses others. */
const declared = [
  'cdl_task',
  'cdl_model',
  'cdl_environment',
  'cdl_candidate',
  'cdl_change',
  'cdl_question',
  'cdl_run',
];

export const actionRoutes: Record<string, Handler> = {
  'GET /repos/{owner}/{repo}/actions/workflows/{workflow_id}/runs': ({ state, values, query }) => {
    if (values.workflow_id !== 'cdl.yml') return absent;
    const found = state.runs
      .filter(
        (one) =>
          (!query.has('branch') || one.branch === query.get('branch')) &&
          (!query.has('event') || one.event === query.get('event')),
      )
      .reverse();
    const shown = paged(query, found).map((one) => presentRun(state, one));
    return ok({ total_count: found.length, workflow_runs: shown });
  },
  'POST /repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches': async (call) => {
    const { state, body, actor } = call;
    if (call.values.workflow_id !== 'cdl.yml') return absent;
    const inputs = (body.inputs ?? {}) as Record<string, string>;
    const unknown = Object.keys(inputs).filter((name) => !declared.includes(name));
    if (unknown.length > 0) {
      return { status: 422, body: { message: `Unexpected inputs provided: ${JSON.stringify(unknown)}` } };
    }
    if (state.runDetails === 'refused' && 'return_run_details' in body) {
      return { status: 422, body: { message: '"return_run_details" is not a permitted key.' } };
    }
    const run = await call.dispatch(String(body.ref), inputs, actor);
    if (state.runDetails !== 'named') return noContent;
    const page = `${state.web}/${state.owner}/${state.name}/actions/runs/${run.id}`;
    return ok({ workflow_run_id: run.id, run_url: page, html_url: page });
  },
  'GET /repos/{owner}/{repo}/actions/runs/{run_id}': ({ state, values }) => {
    const run = find(state, values.run_id);
    return run ? ok(presentRun(state, run)) : absent;
  },
  'POST /repos/{owner}/{repo}/actions/runs/{run_id}/cancel': ({ state, values }) => {
    const run = find(state, values.run_id);
    if (!run) return absent;
    if (run.status === 'completed') {
      return { status: 409, body: { message: 'Cannot cancel a workflow run that is completed.' } };
    }
    Object.assign(run, { status: 'completed', conclusion: 'cancelled' });
    return { status: 202, body: {} };
  },
  'GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs': ({ state, values, query }) => {
    const jobs = state.jobs.filter((one) => one.run === Number(values.run_id));
    return ok({ total_count: jobs.length, jobs: paged(query, jobs).map((one) => presentJob(state, one)) });
  },
  'GET /repos/{owner}/{repo}/actions/jobs/{job_id}': ({ state, values }) => {
    const job = state.jobs.find((one) => one.id === Number(values.job_id));
    return job ? ok(presentJob(state, job)) : absent;
  },
  'GET /repos/{owner}/{repo}/actions/runs/{run_id}/artifacts': ({ state, values, query }) => {
    const found = state.artifacts.filter(
      (one) => one.run === Number(values.run_id) && (!query.has('name') || one.name === query.get('name')),
    );
    const artifacts = paged(query, found).map((one) => ({
      id: one.id,
      name: one.name,
      size_in_bytes: one.zip.length,
      expired: false,
    }));
    return ok({ total_count: found.length, artifacts });
  },
  'GET /repos/{owner}/{repo}/actions/jobs/{job_id}/logs': ({ state, values }) => {
    const log = state.artifacts.find((one) => one.name === `log of ${values.job_id}`);
    if (!log) return { status: 404, body: { message: 'Not Found' } };
    return { status: 302, headers: { location: `${state.web}/storage/${log.id}?sig=signed` } };
  },
  'GET /repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}': ({ state, values }) => {
    const artifact = state.artifacts.find((one) => one.id === Number(values.artifact_id));
    if (!artifact) return { status: 410, body: { message: 'Gone' } };
    // Signed, and elsewhere: whoever sends a token there gives it away.
    return { status: 302, headers: { location: `${state.web}/storage/${artifact.id}?sig=signed` } };
  },
};
