import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { level, requireProject, requireUser } from '../access.ts';
import { paginate, sorted } from '../page.ts';
import { list, objects, requiredText } from '../params.ts';
import { pipelineRef, presentJob } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Job, Project } from '../state.ts';

function requireJob(call: Call, project: Project): Job {
  const job = project.jobs.get(Number(call.params.job_id));
  if (!job) throw new ApiError(404, '404 Not found');
  return job;
}

/** `GET /projects/:id/jobs`, newest first. */
export function listJobs(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const scope = list(call, 'scope') ?? [];
  const found = [...project.jobs.values()].filter((job) => scope.length === 0 || scope.includes(job.status));
  return paginate(
    call,
    sorted(found, (job) => job.id, 'desc'),
    (job) => presentJob(call.world, project, job),
  );
}

/** `GET /projects/:id/jobs/:job_id`. */
export function getJob(call: Call): Reply {
  const project = requireProject(call, level.reporter);
  return { status: 200, body: presentJob(call.world, project, requireJob(call, project)) };
}

/** `GET …/jobs/:job_id/trace`: the log so far. */
export async function getTrace(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const job = requireJob(call, project);
  const log = await readFile(join(job.folder, 'trace.log')).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  });
  return { status: 200, body: log, headers: { 'content-type': 'text/plain; charset=utf-8' } };
}

async function archive(job: Job): Promise<{ path: string; size: number }> {
  const path = join(job.folder, 'artifacts.zip');
  const found = job.hasArtifacts ? await stat(path).catch(() => null) : null;
  if (!found) throw new ApiError(404, '404 Not found');
  return { path, size: found.size };
}

async function sendArchive(job: Job): Promise<Reply> {
  const { path, size } = await archive(job);
  return {
    status: 200,
    body: createReadStream(path),
    headers: {
      'content-type': 'application/zip',
      'content-length': String(size),
      'content-disposition': 'attachment; filename="artifacts.zip"',
    },
  };
}

/** `GET …/jobs/:job_id/artifacts`. */
export function getArtifacts(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return sendArchive(requireJob(call, project));
}

async function entryOf(path: string, wanted: string): Promise<Readable | null> {
  const { default: yauzl } = await import('yauzl');
  return new Promise((resolve, reject) => {
    yauzl.open(path, { lazyEntries: true, autoClose: true }, (problem, zip) => {
      if (problem) return reject(problem);
      zip.on('error', reject);
      zip.on('end', () => resolve(null));
      zip.on('entry', (entry) => {
        if (entry.fileName !== wanted) return zip.readEntry();
        zip.openReadStream(entry, (failure, stream) => {
          if (failure) return reject(failure);
          // autoClose waits for the end of the central directory, which is not read any further.
          stream.on('close', () => zip.close());
          resolve(stream);
        });
      });
      zip.readEntry();
    });
  });
}

async function sendEntry(job: Job, path: string): Promise<Reply> {
  const stream = await entryOf((await archive(job)).path, path);
  if (!stream) throw new ApiError(404, '404 Not found');
  const name = path.split('/').at(-1) ?? path;
  return {
    status: 200,
    body: stream,
    headers: {
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name)}`,
    },
  };
}

/** `GET …/jobs/:job_id/artifacts/*artifact_path`. */
export function getArtifactFile(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return sendEntry(requireJob(call, project), call.params['*'] ?? '');
}

/** The newest successful job of a name on a ref: what `…/jobs/artifacts/:ref_name/…?job=` means. */
function latestJob(call: Call, project: Project, ref: string): Job {
  const name = requiredText(call, 'job');
  const found = [...project.jobs.values()].filter((job) => {
    const pipeline = project.pipelines.get(job.pipelineId);
    return job.spec.name === name && job.status === 'success' && pipeline && pipelineRef(pipeline) === ref;
  });
  const job = found.at(-1);
  if (!job) throw new ApiError(404, '404 Not found');
  return job;
}

/** `GET …/jobs/artifacts/:ref_name/download?job=`. */
export function downloadLatest(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return sendArchive(latestJob(call, project, call.params.ref_name ?? ''));
}

/** `GET …/jobs/artifacts/:ref_name/raw/*artifact_path?job=`. */
export function rawLatest(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return sendEntry(latestJob(call, project, call.params.ref_name ?? ''), call.params['*'] ?? '');
}

/** `POST …/jobs/:job_id/cancel`. */
export async function cancelJob(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const job = await call.engine.cancelJob(project, requireJob(call, project));
  return { status: 201, body: presentJob(call.world, project, job) };
}

/** `POST …/jobs/:job_id/retry`. */
export async function retryJob(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const job = await call.engine.retryJob(project, requireJob(call, project), requireUser(call).id);
  return { status: 201, body: presentJob(call.world, project, job) };
}

/** `POST …/jobs/:job_id/play` for manual jobs. */
export async function playJob(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const attributes = objects(call, 'job_variables_attributes').map((item) => ({
    key: String(item.key ?? ''),
    value: String(item.value ?? ''),
  }));
  const job = await call.engine.playJob(project, requireJob(call, project), requireUser(call).id, attributes);
  return { status: 200, body: presentJob(call.world, project, job) };
}
