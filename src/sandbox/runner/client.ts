import { UpstreamError } from '../../core/error.ts';
import type { PayloadVariable } from '../ci/payload.ts';

/** The parts of a job that this runner uses (gitlab-runner: common/network.go, type JobResponse). */
export interface JobPayload {
  id: number;
  token: string;
  job_info: { name: string; stage: string };
  git_info: { repo_url: string; ref: string; sha: string; refspecs: string[]; depth: number };
  runner_info: { timeout: number };
  variables: PayloadVariable[];
  steps: { name: string; script: string[]; timeout: number }[];
  artifacts: {
    name: string;
    paths: string[];
    exclude: string[];
    when: 'on_success' | 'on_failure' | 'always';
    artifact_type: string;
    artifact_format: 'zip' | 'gzip';
  }[];
  dependencies: { id: number; name: string; token: string }[];
}

/** How the forge answered a trace patch or an update: `canceled` asks to stop. */
export interface Heard {
  canceled: boolean;
  /** Bytes of log the forge has; null when it did not say. */
  received: number | null;
}

/** A job's end as the forge is told. */
export interface Outcome {
  state: 'success' | 'failed';
  failureReason: string | null;
  exitCode: number | null;
}

/** The five calls of a runner (doc: GitLab Runner, coordinator API). Throws UpstreamError. */
export interface CoordinatorClient {
  /** The next job, null when there was none for a while. */
  requestJob(signal: AbortSignal): Promise<JobPayload | null>;
  appendTrace(job: JobPayload, offset: number, bytes: Buffer): Promise<Heard>;
  /** With null only says that the job still runs. */
  update(job: JobPayload, outcome: Outcome | null): Promise<Heard>;
  uploadArtifact(job: JobPayload, type: string, format: string, name: string, bytes: Buffer): Promise<void>;
  downloadArtifacts(id: number, token: string): Promise<Buffer>;
}

/** Opens the client of a forge at `url` (without `/api/v4`). */
export function openCoordinator(url: string, token: string): CoordinatorClient {
  const base = `${url.replace(/\/+$/, '')}/api/v4`;
  const call = async (path: string, init: RequestInit): Promise<Response> => {
    try {
      return await fetch(`${base}${path}`, init);
    } catch (error) {
      throw new UpstreamError('forge', `${init.method ?? 'GET'} ${path}: no answer`, {
        retryable: true,
        cause: error,
      });
    }
  };
  const refuse = async (what: string, response: Response): Promise<never> => {
    const text = (await response.text()).slice(0, 500);
    const retryable = response.status >= 500;
    throw new UpstreamError('forge', `${what}: ${response.status} ${text}`, {
      retryable,
      status: response.status,
    });
  };
  const json = (body: object): RequestInit => ({
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const heard = async (response: Response): Promise<Heard> => {
    await response.arrayBuffer();
    const status = response.headers.get('job-status');
    const range = /^0-(\d+)$/.exec(response.headers.get('range') ?? '');
    return {
      canceled: status === 'canceled' || status === 'failed' || response.status === 403,
      received: range === null ? null : Number(range[1]),
    };
  };
  const info = {
    name: 'cdl-runner',
    version: '17.8.0',
    revision: 'sandbox',
    platform: process.platform,
    architecture: process.arch,
    executor: 'shell',
    features: {
      variables: true,
      artifacts: true,
      upload_multiple_artifacts: true,
      raw_variables: true,
      cancelable: true,
    },
  };
  return {
    async requestJob(signal) {
      const response = await call('/jobs/request', { method: 'POST', signal, ...json({ token, info }) });
      if (response.status === 201) return (await response.json()) as JobPayload;
      if (response.status !== 204) return refuse('requesting a job', response);
      await response.arrayBuffer();
      return null;
    },
    async appendTrace(job, offset, bytes) {
      const response = await call(`/jobs/${job.id}/trace`, {
        method: 'PATCH',
        headers: {
          'job-token': job.token,
          'content-type': 'text/plain',
          'content-range': `${offset}-${offset + Math.max(bytes.length - 1, 0)}`,
        },
        body: new Uint8Array(bytes),
      });
      if (response.status >= 500) return refuse('sending the log', response);
      return heard(response);
    },
    async update(job, outcome) {
      const body =
        outcome === null
          ? { state: 'running' }
          : {
              state: outcome.state,
              ...(outcome.failureReason === null ? {} : { failure_reason: outcome.failureReason }),
              ...(outcome.exitCode === null ? {} : { exit_code: outcome.exitCode }),
            };
      const response = await call(`/jobs/${job.id}`, {
        method: 'PUT',
        ...json({ token: job.token, ...body }),
      });
      if (response.status >= 500) return refuse('updating the job', response);
      return heard(response);
    },
    async uploadArtifact(job, type, format, name, bytes) {
      const form = new FormData();
      form.set('artifact_type', type);
      form.set('artifact_format', format);
      form.set('file', new Blob([new Uint8Array(bytes)]), name);
      const response = await call(`/jobs/${job.id}/artifacts`, {
        method: 'POST',
        headers: { 'job-token': job.token },
        body: form,
      });
      if (response.status !== 201) return refuse(`uploading ${type}`, response);
      await response.arrayBuffer();
    },
    async downloadArtifacts(id, jobToken) {
      const response = await call(`/jobs/${id}/artifacts`, { headers: { 'job-token': jobToken } });
      if (response.status !== 200) return refuse(`artifacts of job ${id}`, response);
      return Buffer.from(await response.arrayBuffer());
    },
  };
}
