import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

interface KeptRun {
  id: string;
  experiment: string;
  status: string;
  tags: { key: string; value: string }[];
  params: { key: string; value: string }[];
  metrics: { key: string; value: number; step: number }[];
}

/** GitLab's MLflow API as far as it differs from MLflow (user/project/ml/experiment_tracking/mlflow_client). */
export interface GitlabMlflow {
  url: string;
  token: string;
  runs: KeptRun[];
  versions: { model: string; version: string }[];
  /** Paths that were asked for. */
  asked: string[];
  /** From now on so many requests are answered, and the connection of the next is cut. */
  cutAfter(requests: number): void;
  close(): Promise<void>;
}

/**
 * A server that deviates from MLflow where GitLab does: a bearer token is needed; errors name their code alone; a search for
 * runs knows no filter; there is no search for versions; a version's number is the tag `gitlab.version`, and is taken once.
 */
export async function startGitlabMlflow(): Promise<GitlabMlflow> {
  const token = 'glpat-stand-in-0123456789';
  const experiments: string[] = [];
  const models: string[] = [];
  const runs: KeptRun[] = [];
  const versions: GitlabMlflow['versions'] = [];
  const asked: string[] = [];
  let left = Number.POSITIVE_INFINITY;

  type Answer = [status: number, body: object];
  const absent: Answer = [404, { error_code: 'RESOURCE_DOES_NOT_EXIST' }];
  const there: Answer = [400, { error_code: 'RESOURCE_ALREADY_EXISTS' }];
  const runOf = (id: string) => runs.find((one) => one.id === id);
  const shown = (one: KeptRun) => ({
    info: { run_id: one.id, status: one.status },
    data: { tags: one.tags },
  });
  const tagOf = (given: KeptRun['tags'], key: string) => given.find((tag) => tag.key === key)?.value;

  // biome-ignore lint/suspicious/noExplicitAny: whatever a client sends
  const paths: Record<string, (given: any) => Answer> = {
    'GET experiments/get-by-name': ({ experiment_name: name }) =>
      experiments.includes(name)
        ? [200, { experiment: { experiment_id: String(experiments.indexOf(name) + 1), name } }]
        : absent,
    'POST experiments/create': ({ name }) => {
      if (experiments.includes(name)) return there;
      return [200, { experiment_id: String(experiments.push(name)) }];
    },
    'POST runs/search': ({ experiment_ids: [experiment] }) => [
      200,
      { runs: runs.filter((one) => one.experiment === experiment).map(shown) },
    ],
    'POST runs/create': ({ experiment_id: experiment, tags }) => {
      const run = {
        id: `run-${runs.length + 1}`,
        experiment,
        status: 'RUNNING',
        tags,
        params: [],
        metrics: [],
      };
      runs.push(run);
      return [200, { run: shown(run) }];
    },
    'POST runs/log-batch': ({ run_id: id, metrics, params, tags }) => {
      const run = runOf(id);
      if (!run) return absent;
      if (metrics.length + params.length + tags.length > 1000 || params.length > 100 || tags.length > 100)
        return [400, { error_code: 'INVALID_PARAMETER_VALUE' }];
      run.metrics.push(...metrics);
      run.params.push(...params);
      run.tags.push(...tags);
      return [200, {}];
    },
    'POST runs/update': ({ run_id: id, status }) => {
      const run = runOf(id);
      if (!run) return absent;
      run.status = status;
      return [200, { run_info: { run_id: id } }];
    },
    'POST registered-models/create': ({ name }) => {
      if (models.includes(name)) return there;
      models.push(name);
      return [200, { registered_model: { name } }];
    },
    'POST model-versions/create': ({ name, tags }) => {
      if (!models.includes(name)) return absent;
      const version = tagOf(tags, 'gitlab.version') ?? '';
      if (!/^\d+\.\d+\.\d+$/.test(version)) return [400, { error_code: 'INVALID_PARAMETER_VALUE' }];
      if (versions.some((one) => one.model === name && one.version === version)) return there;
      versions.push({ model: name, version });
      return [200, { model_version: { name, version } }];
    },
  };

  const server = createServer(async (request, response) => {
    const url = new URL(request.url!, 'http://127.0.0.1');
    const path = `${request.method} ${url.pathname.replace(/^.*\/ml\/mlflow\/api\/2\.0\/mlflow\//, '')}`;
    if (left-- <= 0) {
      request.socket.destroy();
      return;
    }
    asked.push(path);
    const given = request.method === 'GET' ? Object.fromEntries(url.searchParams) : await json(request);
    const known = Object.hasOwn(paths, path) ? paths[path] : undefined;
    const isKnown = request.headers.authorization === `Bearer ${token}`;
    const [status, body] = isKnown ? (known?.(given) ?? absent) : [401, { message: '401 Unauthorized' }];
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v4/projects/7/ml/mlflow`,
    token,
    runs,
    versions,
    asked,
    cutAfter(requests) {
      left = requests;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
