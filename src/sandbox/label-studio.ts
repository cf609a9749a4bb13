import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import Fastify, { type FastifyReply } from 'fastify';

interface StoredAnnotation {
  id: number;
  task: number;
  completed_by: number | null;
  result: unknown[];
  was_cancelled: boolean;
  created_at: string;
  updated_at: string;
  last_action: null;
  import_id: null;
}
interface StoredProject {
  id: number;
  title: string;
  label_config: string;
}
interface StoredWebhook {
  id: number;
  project: number | null;
  url: string;
  headers: Record<string, string>;
  actions: string[];
  is_active: boolean;
}
interface StoredTask {
  id: number;
  project: number;
  data: Record<string, unknown>;
}

/** A running stand-in. `users` are those who may label, each with a token; a token's user is who annotates. */
export interface LabelStudioStandIn {
  url: string;
  close(): Promise<void>;
}

type Body = Record<string, unknown>;

const refuse = (reply: FastifyReply, status: number, detail: string) =>
  reply.code(status).send({ status_code: status, detail });

/**
 * Starts as much of Label Studio as this program calls, in memory, on the loopback: the same paths, answers and refusals,
 * held to the real server by one contract suite. `tokens` says whose token is whose (user number; null for one the server does not name). What is not here answers
 * 501 and names itself.
 */
export async function startLabelStudio(options: {
  tokens: ReadonlyMap<string, number | null>;
  port?: number;
}): Promise<LabelStudioStandIn> {
  const app = Fastify({ bodyLimit: 64 * 1024 * 1024, routerOptions: { ignoreTrailingSlash: true } });
  const projects: StoredProject[] = [];
  const tasks: StoredTask[] = [];
  const annotations: StoredAnnotation[] = [];
  const webhooks: StoredWebhook[] = [];
  const deliveries = new Set<Promise<void>>();
  let counter = 0;
  const next = () => {
    counter += 1;
    return counter;
  };
  let clock = 0;
  /** Strictly later each time, as the real server's microseconds are. */
  const now = () => {
    clock = Math.max(Date.now(), clock + 1);
    return new Date(clock).toISOString();
  };
  const caller = (header: string | undefined) =>
    options.tokens.get(/^(?:Token|Bearer) (.+)$/.exec(header ?? '')?.[1] ?? '');

  async function deliver(hook: StoredWebhook, action: string): Promise<void> {
    for (let attempt = 1; attempt <= 3; attempt++) {
      const sent = await fetch(hook.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...hook.headers },
        body: JSON.stringify({ action }),
      }).catch(() => null);
      if (sent?.ok) return;
      await wait(100 * attempt, undefined, { ref: false });
    }
  }

  function tell(project: number, action: string): void {
    for (const hook of webhooks) {
      if (!hook.is_active || hook.project !== project || !hook.actions.includes(action)) continue;
      const delivery = deliver(hook, action).finally(() => deliveries.delete(delivery));
      deliveries.add(delivery);
    }
  }

  app.addHook('onRequest', async (request, reply) => {
    if (caller(request.headers.authorization) === undefined) {
      await refuse(reply, 401, 'Authentication credentials were not provided.');
    }
  });
  app.setNotFoundHandler((request, reply) =>
    refuse(reply, 501, `the stand-in has no ${request.method} ${request.url}`),
  );

  app.get<{ Querystring: Record<string, string> }>('/api/projects/', (request) => {
    const title = (request.query.title ?? '').toLowerCase();
    const results = projects.filter((one) => one.title.toLowerCase().includes(title));
    return { count: results.length, next: null, previous: null, results };
  });
  app.post<{ Body: Body }>('/api/projects/', (request, reply) => {
    const { title, label_config } = request.body;
    if (typeof title !== 'string' || title.length < 3 || title.length > 50) {
      return refuse(reply, 400, 'title: 3 to 50 characters');
    }
    const project = { id: next(), title, label_config: String(label_config ?? '<View/>') };
    projects.push(project);
    return reply.code(201).send(project);
  });
  app.patch<{ Params: { id: string }; Body: Body }>('/api/projects/:id/', (request, reply) => {
    const project = projects.find(({ id }) => String(id) === request.params.id);
    if (!project) return refuse(reply, 404, 'No Project matches the given query.');
    if (typeof request.body.label_config === 'string') project.label_config = request.body.label_config;
    return project;
  });
  app.post<{ Params: { id: string }; Body: { data: Body }[] }>(
    '/api/projects/:id/import',
    (request, reply) => {
      const project = projects.find(({ id }) => String(id) === request.params.id);
      if (!project) return refuse(reply, 404, 'No Project matches the given query.');
      for (const { data } of request.body) tasks.push({ id: next(), project: project.id, data });
      return reply.code(201).send({ task_count: request.body.length, annotation_count: 0 });
    },
  );

  app.get<{ Querystring: Record<string, string> }>('/api/tasks', (request, reply) => {
    const { project, page = '1', page_size = '30' } = request.query;
    const all = tasks.filter((task) => String(task.project) === project);
    const from = (Number(page) - 1) * Number(page_size);
    if (from > 0 && from >= all.length) return refuse(reply, 404, 'Invalid page.');
    return {
      total: all.length,
      tasks: all.slice(from, from + Number(page_size)).map((task) => ({
        ...task,
        annotations: annotations.filter((one) => one.task === task.id),
        predictions: [],
      })),
    };
  });
  app.patch<{ Params: { id: string }; Body: { data?: Body } }>('/api/tasks/:id/', (request, reply) => {
    const task = tasks.find(({ id }) => String(id) === request.params.id);
    if (!task) return refuse(reply, 404, 'No Task matches the given query.');
    if (request.body.data) task.data = request.body.data;
    return task;
  });
  app.delete<{ Params: { id: string } }>('/api/tasks/:id/', (request, reply) => {
    const at = tasks.findIndex(({ id }) => String(id) === request.params.id);
    if (at < 0) return refuse(reply, 404, 'No Task matches the given query.');
    const [gone] = tasks.splice(at, 1);
    for (let index = annotations.length - 1; index >= 0; index--)
      if (annotations[index]!.task === gone!.id) annotations.splice(index, 1);
    return reply.code(204).send();
  });
  app.post<{ Params: { id: string }; Body: { result?: unknown[] } }>(
    '/api/tasks/:id/annotations/',
    (request, reply) => {
      const task = tasks.find(({ id }) => String(id) === request.params.id);
      if (!task) return refuse(reply, 404, 'No Task matches the given query.');
      const at = now();
      const annotation: StoredAnnotation = {
        id: next(),
        task: task.id,
        completed_by: caller(request.headers.authorization) ?? null,
        result: request.body.result ?? [],
        was_cancelled: false,
        created_at: at,
        updated_at: at,
        last_action: null,
        import_id: null,
      };
      annotations.push(annotation);
      tell(task.project, 'ANNOTATION_CREATED');
      return reply.code(201).send(annotation);
    },
  );
  app.patch<{ Params: { id: string }; Body: { result?: unknown[] } }>(
    '/api/annotations/:id/',
    (request, reply) => {
      const annotation = annotations.find(({ id }) => String(id) === request.params.id);
      if (!annotation) return refuse(reply, 404, 'No Annotation matches the given query.');
      if (request.body.result) annotation.result = request.body.result;
      annotation.updated_at = now();
      tell(tasks.find(({ id }) => id === annotation.task)!.project, 'ANNOTATION_UPDATED');
      return annotation;
    },
  );
  app.delete<{ Params: { id: string } }>('/api/annotations/:id/', (request, reply) => {
    const at = annotations.findIndex(({ id }) => String(id) === request.params.id);
    if (at < 0) return refuse(reply, 404, 'No Annotation matches the given query.');
    const [gone] = annotations.splice(at, 1);
    tell(tasks.find(({ id }) => id === gone!.task)!.project, 'ANNOTATIONS_DELETED');
    return reply.code(204).send();
  });

  app.get<{ Querystring: Record<string, string> }>('/api/webhooks/', (request) =>
    webhooks.filter(({ project }) => !request.query.project || String(project) === request.query.project),
  );
  app.post<{ Body: Omit<StoredWebhook, 'id'> }>('/api/webhooks/', (request, reply) => {
    const hook = { ...request.body, id: next() };
    webhooks.push(hook);
    return reply.code(201).send(hook);
  });
  app.patch<{ Params: { id: string }; Body: Partial<StoredWebhook> }>(
    '/api/webhooks/:id/',
    (request, reply) => {
      const hook = webhooks.find(({ id }) => String(id) === request.params.id);
      if (!hook) return refuse(reply, 404, 'No Webhook matches the given query.');
      return Object.assign(hook, request.body);
    },
  );

  await app.listen({ host: '127.0.0.1', port: options.port ?? 0 });
  const { port } = app.server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      await Promise.allSettled(deliveries);
      await app.close();
    },
  };
}
