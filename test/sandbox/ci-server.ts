import { on } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import fastify from 'fastify';
import { parseBody, parseQuery } from '../../src/sandbox/body.ts';
import { createCiEngine } from '../../src/sandbox/ci/engine.ts';
import type { RunnerRegistration } from '../../src/sandbox/ci/queue.ts';
import type { CiEngine } from '../../src/sandbox/ci-port.ts';
import { advertiseRefs, uploadPack } from '../../src/sandbox/git-http.ts';
import { ApiError } from '../../src/sandbox/route.ts';
import { startRunner } from '../../src/sandbox/runner/run.ts';
import type { Job, Pipeline, Project, World, WorldEvent } from '../../src/sandbox/state.ts';

/** A registration that takes everything. */
export const anyRunner: RunnerRegistration = {
  token: 'glrt-any',
  description: 'any',
  access: 'any',
  tags: [],
  runUntagged: true,
};

/** A forge with nothing but the CI engine's own routes and reading by git, over real HTTP. */
export async function serveCi(
  world: World,
  runners: readonly RunnerRegistration[] = [anyRunner],
): Promise<{ engine: CiEngine; close(): Promise<void> }> {
  const engine = createCiEngine(world, { runners, path: process.env.PATH ?? '', holdMs: 5000 });
  const app = fastify({ forceCloseConnections: true });
  app.removeAllContentTypeParsers();
  await app.register(multipart);
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  for (const route of engine.routes) {
    app.route({
      method: route.method,
      url: `/api/v4${route.path}`,
      async handler(request, reply) {
        const isForm = request.isMultipart();
        const parsed = route.raw
          ? { body: {}, files: {} }
          : await parseBody(
              request.raw,
              isForm ? () => request.parts() as AsyncIterable<never> : null,
              await mkdtemp(join(world.folder, 'upload-')),
            );
        const gone = new AbortController();
        reply.raw.on('close', () => gone.abort());
        try {
          const answer = await route.handler({
            world,
            engine,
            method: request.method,
            headers: request.headers,
            params: request.params as Record<string, string>,
            query: parseQuery(request.url),
            body: parsed.body,
            files: parsed.files,
            request: request.raw,
            user: null,
            token: null,
            job: null,
            signal: gone.signal,
          } as never);
          reply.code(answer.status).headers(answer.headers ?? {});
          const { body } = answer;
          return reply.send(
            body instanceof Readable || typeof body === 'string' ? body : (body ?? undefined),
          );
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          return reply.code(error.status).send(error.body);
        }
      },
    });
  }
  const repository = (path: string): string => {
    for (const project of world.projects.values()) {
      if (`${project.namespace}/${project.path}` === path) return project.repository;
    }
    throw new Error(`no project ${path}`);
  };
  app.get('/:group/:name/info/refs', async (request, reply) => {
    const { group, name } = request.params as { group: string; name: string };
    reply.hijack();
    await advertiseRefs(
      repository(`${group}/${name.replace(/\.git$/, '')}`),
      'git-upload-pack',
      request.raw,
      reply.raw,
    );
  });
  app.post('/:group/:name/git-upload-pack', async (request, reply) => {
    const { group, name } = request.params as { group: string; name: string };
    reply.hijack();
    await uploadPack(repository(`${group}/${name.replace(/\.git$/, '')}`), request.raw, reply.raw);
  });
  world.url = await app.listen({ port: 0, host: '127.0.0.1' });
  return {
    engine,
    async close() {
      await engine.close();
      await app.close();
    },
  };
}

/** The sandbox's own runner in this process. */
export function ownRunner(world: World, token = anyRunner.token, path: string | null = null) {
  return startRunner({
    url: world.url,
    token,
    concurrency: 3,
    builds: join(world.folder, 'builds'),
    systemPath: process.env.PATH ?? '',
    path,
    graceMs: 500,
  });
}

/** Waits until something holds, looking again after each event; a signal ends it with an error. */
export async function until(world: World, holds: () => boolean): Promise<void> {
  if (holds()) return;
  const signal = AbortSignal.timeout(40_000);
  for await (const _ of on(world.events, 'event', { signal }) as AsyncIterable<[WorldEvent]>)
    if (holds()) return;
}

/** Waits for the end of a pipeline. */
export function finished(world: World, pipeline: Pipeline): Promise<void> {
  return until(world, () => pipeline.finishedAt !== null);
}

/** The newest job of a name. */
export function jobNamed(project: Project, pipeline: Pipeline, name: string): Job {
  const jobs = pipeline.jobIds.map((id) => project.jobs.get(id)).filter((job) => job?.spec.name === name);
  if (jobs[0] === undefined) throw new Error(`no job ${name}`);
  return jobs[0];
}
