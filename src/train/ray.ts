import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, open, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { UpstreamError, UserError } from '../core/error.ts';
import { type Group, longestTail, signalName } from '../exec/group.ts';
import { packageRoot } from '../exec/root.ts';
import { readBody, send } from '../forge/http.ts';
import type { Network } from '../forge/network.ts';
import type { Launch, LaunchPlace } from './launch.ts';

/** The Ray cluster that the environment names (`RAY_ADDRESS`, `RAY_AUTH_TOKEN`), and the way to clusters. */
export interface RayAccess {
  address: string | null;
  token: string | null;
  network: Network;
}

/** The job server of a Ray cluster. */
export interface RayCluster {
  /** Ends with a slash. */
  url: URL;
  token: string | null;
  network: Network;
}

/**
 * The cluster that `cdl.yaml` names, or else the environment. Throws UserError config-invalid when neither names a job server.
 * The environment's token goes to the environment's address alone.
 */
export function rayCluster(access: RayAccess, address: string | undefined): RayCluster {
  const hint =
    'name the job server of the cluster, http://head:8265, as RAY_ADDRESS or train.address in cdl.yaml';
  const named = address ?? access.address;
  if (!named) throw new UserError('config-invalid', 'launcher: ray has no cluster', hint);
  if (!URL.canParse(named) || !/^https?:\/\//.test(named))
    throw new UserError(
      'config-invalid',
      `the Ray cluster ${JSON.stringify(named)} is no http(s) address`,
      hint,
    );
  const url = new URL(named.endsWith('/') ? named : `${named}/`);
  const isOwn =
    access.address !== null && URL.canParse(access.address) && new URL(access.address).origin === url.origin;
  return { url, token: isOwn ? access.token : null, network: access.network };
}

/** A job as Ray tells it (Ray Jobs REST API, JobDetails). */
const jobSchema = z.object({
  status: z.enum(['PENDING', 'RUNNING', 'STOPPED', 'SUCCEEDED', 'FAILED']),
  message: z.string().nullish(),
  driver_exit_code: z.int().nullish(),
});

/** How often the job is looked at, and its lease touched, in milliseconds. */
const look = 1000;
const beat = 10_000;
/** Seconds after which a job ends whose lease nobody touched. */
const leaseSeconds = 120;
/** How long the end of a killed job is waited for, in milliseconds. */
const mostPatience = 60_000;
/** Constant: what is to be run stands in a file. */
const entrypoint = 'exec python3 "$CDL_RAY/entry.py"';

/**
 * Submits the command as a job of a Ray cluster (Ray Jobs REST API, what `ray job submit` speaks), where it is a driver: it asks
 * Ray for the workers that it needs. Code, data, events and checkpoints are files that both sides see under the same path. What
 * it prints is shown here, too. SIGTERM stops the job, and Ray kills it after the grace; it also ends when this process is gone.
 * Of this machine's environment the command gets the contract alone.
 */
export const launchOnRay =
  (cluster: RayCluster, name: string): Launch =>
  (command, place) => {
    const id = `cdl-${randomUUID()}`;
    const shared = join(place.scratch, `ray-${id}`);
    const lease = join(shared, 'lease');
    const log = openLog(join(shared, 'log'));
    const state = { isStopped: false, isKilled: false, isOver: false };
    const submitted = submit(cluster, { id, name, shared, command, place });
    const ended = submitted.then(() => follow(cluster, { id, shared, place, log, state }));
    // Who only wants it to end waits for that, and hears of problems there.
    ended.catch(() => undefined).finally(() => (state.isOver = true));
    const stop = () =>
      submitted.then(() => ask(cluster, 'POST', `api/jobs/${id}/stop`)).catch(() => undefined);
    const signal = (what: NodeJS.Signals) => {
      if (state.isOver || state.isKilled || (state.isStopped && what !== 'SIGKILL')) return;
      state.isStopped = true;
      if (what === 'SIGKILL') {
        state.isKilled = true;
        void submitted.catch(() => undefined).then(() => rm(lease, { force: true }));
      }
      void stop();
    };
    return {
      ended,
      tail: () => log.tail().trim(),
      signal,
      async clear() {
        signal('SIGKILL');
        // Also of a job that cannot be asked about any more.
        await submitted.catch(() => undefined);
        await rm(lease, { force: true });
        const patience = new AbortController();
        await Promise.race([
          ended.catch(() => undefined),
          delay(mostPatience, undefined, { signal: patience.signal }).catch(() => undefined),
        ]);
        patience.abort();
      },
    };
  };

interface Submission {
  id: string;
  name: string;
  shared: string;
  command: readonly string[];
  place: LaunchPlace;
}

async function submit(cluster: RayCluster, { id, name, shared, command, place }: Submission): Promise<void> {
  await mkdir(shared);
  await copyFile(join(packageRoot(), 'src', 'train', 'ray-entry.py'), join(shared, 'entry.py'));
  await writeFile(join(shared, 'lease'), '');
  const plan = { command, folder: place.folder, seconds: leaseSeconds };
  await writeFile(join(shared, 'plan.json'), JSON.stringify(plan));
  await ask(cluster, 'POST', 'api/jobs/', {
    entrypoint,
    submission_id: id,
    metadata: { job_name: name },
    runtime_env: {
      env_vars: {
        CDL_RAY: shared,
        CDL_JOB: place.job,
        CDL_EVENTS: place.events,
        RAY_JOB_STOP_WAIT_TIME_S: String(Math.max(1, Math.ceil(place.grace))),
      },
    },
  });
}

interface Following {
  id: string;
  shared: string;
  place: LaunchPlace;
  log: Log;
  state: { isKilled: boolean };
}

/** Waits for the end of a job, and tells how it ended. */
async function follow(
  cluster: RayCluster,
  { id, shared, place, log, state }: Following,
): Promise<Awaited<Group['ended']>> {
  const touch = setInterval(() => {
    const now = new Date();
    // It may just have been removed.
    utimes(join(shared, 'lease'), now, now).catch(() => undefined);
  }, beat);
  try {
    for (;;) {
      await delay(look);
      const job = await jobOf(cluster, id);
      await log.read();
      if (job.status === 'PENDING' || job.status === 'RUNNING') continue;
      // An open makes NFS look at the file anew (nfs(5), close-to-open): the last events must be seen.
      await (await open(place.events, 'r')).close();
      return endOf(cluster, job, shared, log, state);
    }
  } finally {
    clearInterval(touch);
  }
}

async function jobOf(cluster: RayCluster, id: string): Promise<z.output<typeof jobSchema>> {
  const parsed = jobSchema.safeParse(await ask(cluster, 'GET', `api/jobs/${id}`));
  if (parsed.success) return parsed.data;
  const what = `is no Ray job server: ${z.prettifyError(parsed.error)}`;
  throw new UpstreamError(cluster.url.host, what, { retryable: false });
}

function endOf(
  cluster: RayCluster,
  job: z.output<typeof jobSchema>,
  shared: string,
  log: Log,
  { isKilled }: { isKilled: boolean },
): Awaited<Group['ended']> {
  if (job.status === 'SUCCEEDED') return { code: 0, signal: null };
  if (isKilled) return { code: null, signal: 'SIGKILL' };
  if (job.status === 'STOPPED') return { code: null, signal: 'SIGTERM' };
  const code = job.driver_exit_code ?? null;
  if (code === null)
    throw new UserError(
      'training-failed',
      `Ray gave the training command up: ${job.message ?? 'it does not say why'}`,
    );
  if (!log.isThere()) {
    throw new UserError(
      'config-invalid',
      `the Ray cluster ${cluster.url.host} could not read ${shared}, or has no python3:\n${job.message?.trim().slice(-1000)}`,
      'set TMPDIR of this job to a folder that it and all machines of the cluster have under the same path',
    );
  }
  return code > 128 && code < 160 ? { code: null, signal: signalName(code - 128) } : { code, signal: null };
}

/** What a job wrote, shown as it comes. */
interface Log {
  tail(): string;
  /** Whether the job ever began. */
  isThere(): boolean;
  /** Shows what is new. */
  read(): Promise<void>;
}

function openLog(path: string): Log {
  const piece = Buffer.alloc(64 * 1024);
  let at = 0;
  let isThere = false;
  let tail = '';
  return {
    tail: () => tail,
    isThere: () => isThere,
    async read() {
      const file = await open(path, 'r').catch(() => null);
      if (!file) return;
      isThere = true;
      try {
        for (;;) {
          const { bytesRead } = await file.read(piece, 0, piece.length, at);
          if (bytesRead === 0) break;
          at += bytesRead;
          process.stderr.write(Buffer.from(piece.subarray(0, bytesRead)));
          tail = (tail + piece.toString('utf8', 0, bytesRead)).slice(-longestTail);
        }
      } finally {
        await file.close();
      }
    },
  };
}

const headersOf = (token: string | null): Record<string, string> =>
  token ? { authorization: `Bearer ${token}` } : {};

/** Longest answer, in bytes. */
const mostBytes = 2 ** 20;

async function ask(
  { url, token, network }: RayCluster,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
): Promise<unknown> {
  try {
    const answer = await send({
      method,
      url: new URL(path, url),
      headers: { 'content-type': 'application/json', ...headersOf(token) },
      body: body ? Buffer.from(JSON.stringify(body)) : null,
      network,
    });
    return JSON.parse((await readBody(answer.body, mostBytes))?.toString('utf8') ?? 'null');
  } catch (error) {
    // A page of some other server.
    if (error instanceof SyntaxError)
      throw new UpstreamError(url.host, 'answers without JSON', { retryable: false, cause: error });
    if (!(error instanceof UserError)) throw error;
    throw new UserError(
      'config-invalid',
      `the Ray cluster ${url.host} refuses the job: ${error.message}`,
      'set RAY_ADDRESS and RAY_AUTH_TOKEN to a cluster and its token',
      { cause: error },
    );
  }
}
