import { z } from 'zod';
import { UpstreamError, UserError } from '../core/error.ts';
import { readBody, send } from '../forge/http.ts';
import type { Network } from '../forge/network.ts';

/** An MLflow tracking server, or a GitLab project's (`…/api/v4/projects/<id>/ml/mlflow`). */
export interface MlflowAccess {
  url: string;
  /** Sent as a bearer token; null where the server asks for none. */
  token: string | null;
  network?: Network | undefined;
}

/** A value at a step; time in milliseconds since 1970. */
export interface LoggedMetric {
  key: string;
  value: number;
  timestamp: number;
  step: number;
}

/** What MLflow calls params and tags. */
export interface Pair {
  key: string;
  value: string;
}

/** As much of an MLflow server as is used here. Errors are UserError forge-denied (401, 403) and UpstreamError. */
export interface Mlflow {
  readonly url: string;
  /** The id of the experiment of this name, made where there is none. */
  ensureExperiment(name: string): Promise<string>;
  /** The run of an experiment that has this very tag; null when there is none. */
  findRun(experiment: string, tag: Pair): Promise<string | null>;
  createRun(experiment: string, run: { name: string; startedAt: number; tags: Pair[] }): Promise<string>;
  /** Logs any number of values, in as few requests as the server takes. */
  log(run: string, values: { metrics: LoggedMetric[]; params: Pair[]; tags: Pair[] }): Promise<void>;
  endRun(run: string, end: { status: 'FINISHED' | 'FAILED'; endedAt: number }): Promise<void>;
  ensureModel(name: string): Promise<void>;
  /** The number of the version of a model that has this very tag; null when there is none, or the server cannot say. */
  findVersion(model: string, tag: Pair): Promise<string | null>;
  /** Registers a version and returns its number; null when the server says that it is there. */
  createVersion(
    model: string,
    version: { source: string; run: string; tags: Pair[]; description: string },
  ): Promise<string | null>;
}

/** Most values in one request (mlflow.org, REST API, Request Limits); all kinds together 1000 too. */
const limits = { metrics: 1000, params: 100, tags: 100, all: 1000 };
const largestAnswer = 16 * 1024 * 1024;

const pairs = z.array(z.object({ key: z.string(), value: z.string() })).nullish();
const experimentSchema = z.object({ experiment: z.object({ experiment_id: z.string() }) });
const createdSchema = z.object({ experiment_id: z.string() });
const runSchema = z.object({
  info: z.object({ run_id: z.string() }),
  data: z.object({ tags: pairs }).nullish(),
});
const versionSchema = z.object({ version: z.union([z.string(), z.number()]).transform(String), tags: pairs });

/** GitLab names the code alone (RESOURCE_ALREADY_EXISTS), MLflow says it in a sentence. */
const isThere = (error: unknown): boolean =>
  error instanceof UpstreamError && error.status === 400 && /already.exists/i.test(error.message);
const isAbsent = (error: unknown): boolean => error instanceof UpstreamError && error.status === 404;

const has = (found: z.output<typeof pairs>, tag: Pair): boolean =>
  (found ?? []).some(({ key, value }) => key === tag.key && value === tag.value);

/** Takes from the front as much as one request holds. */
function takeBatch(rest: { metrics: LoggedMetric[]; params: Pair[]; tags: Pair[] }) {
  const tags = rest.tags.splice(0, limits.tags);
  const params = rest.params.splice(0, limits.params);
  const metrics = rest.metrics.splice(0, Math.min(limits.metrics, limits.all - tags.length - params.length));
  return { metrics, params, tags };
}

/** Opens a server by its REST API, 2.0 (mlflow.org/docs/latest/api_reference/rest-api.html). Nothing is sent yet. */
export function openMlflow({ url, token, network }: MlflowAccess): Mlflow {
  const base = `${url.replace(/\/+$/, '')}/api/2.0/mlflow/`;

  async function ask<T>(
    method: 'GET' | 'POST',
    path: string,
    given: object,
    schema: z.ZodType<T>,
  ): Promise<T> {
    const target = new URL(base + path);
    if (method === 'GET')
      for (const [name, value] of Object.entries(given)) target.searchParams.set(name, value);
    const body = method === 'POST' ? Buffer.from(JSON.stringify(given)) : null;
    const headers = {
      accept: 'application/json',
      ...(body && { 'content-type': 'application/json' }),
      ...(token && { authorization: `Bearer ${token}` }),
    };
    const answer = await send({ method, url: target, headers, body, network }).catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
      throw new UserError('forge-denied', error.message, 'check CDL_MLFLOW_TOKEN and what it may do', {
        cause: error,
      });
    });
    const text = (await readBody(answer.body, largestAnswer))?.toString('utf8') ?? '';
    try {
      return schema.parse(text.trim() === '' ? {} : JSON.parse(text));
    } catch (cause) {
      throw new UpstreamError(target.host, `${method} ${target.pathname} answered what MLflow does not`, {
        retryable: false,
        cause,
      });
    }
  }

  const nothing = z.unknown();
  const byName = async (name: string) =>
    (await ask('GET', 'experiments/get-by-name', { experiment_name: name }, experimentSchema)).experiment
      .experiment_id;

  return {
    url,
    async ensureExperiment(name) {
      try {
        return await byName(name);
      } catch (error) {
        if (!isAbsent(error)) throw error;
      }
      try {
        return (await ask('POST', 'experiments/create', { name }, createdSchema)).experiment_id;
      } catch (error) {
        // Somebody else made it meanwhile.
        if (isThere(error)) return byName(name);
        throw error;
      }
    },
    async findRun(experiment, tag) {
      const schema = z.object({ runs: z.array(runSchema).nullish(), next_page_token: z.string().nullish() });
      const filter = `tags.\`${tag.key}\` = '${tag.value}'`;
      let page = '';
      do {
        const asked = {
          experiment_ids: [experiment],
          filter,
          max_results: 1000,
          ...(page && { page_token: page }),
        };
        const found = await ask('POST', 'runs/search', asked, schema);
        // GitLab does not filter.
        const run = (found.runs ?? []).find((one) => has(one.data?.tags, tag));
        if (run) return run.info.run_id;
        page = found.next_page_token ?? '';
      } while (page !== '');
      return null;
    },
    async createRun(experiment, { name, startedAt, tags }) {
      const schema = z.object({ run: runSchema });
      const asked = { experiment_id: experiment, run_name: name, start_time: startedAt, tags };
      return (await ask('POST', 'runs/create', asked, schema)).run.info.run_id;
    },
    async log(run, { metrics, params, tags }) {
      const rest = { metrics: [...metrics], params: [...params], tags: [...tags] };
      while (rest.metrics.length + rest.params.length + rest.tags.length > 0) {
        await ask('POST', 'runs/log-batch', { run_id: run, ...takeBatch(rest) }, nothing);
      }
    },
    async endRun(run, { status, endedAt }) {
      await ask('POST', 'runs/update', { run_id: run, status, end_time: endedAt }, nothing);
    },
    async ensureModel(name) {
      await ask('POST', 'registered-models/create', { name }, nothing).catch((error: unknown) => {
        if (!isThere(error)) throw error;
      });
    },
    async findVersion(model, tag) {
      const schema = z.object({ model_versions: z.array(versionSchema).nullish() });
      const asked = { filter: `name = '${model}'`, max_results: '1000' };
      try {
        const found = await ask('GET', 'model-versions/search', asked, schema);
        return (found.model_versions ?? []).find((one) => has(one.tags, tag))?.version ?? null;
      } catch (error) {
        // GitLab has no such call; it refuses a second version of one number instead.
        if (isAbsent(error)) return null;
        throw error;
      }
    },
    async createVersion(model, { source, run, tags, description }) {
      const asked = { name: model, source, run_id: run, tags, description };
      const schema = z.object({ model_version: versionSchema });
      try {
        return (await ask('POST', 'model-versions/create', asked, schema)).model_version.version;
      } catch (error) {
        if (isThere(error)) return null;
        throw error;
      }
    },
  };
}
