import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdir, mkdtemp, open, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { catalogue, type ErrorCode, UserError } from '../core/error.ts';
import type { Measure } from '../core/evaluation.ts';
import { packageRoot } from '../exec/root.ts';
import { type ChildReply, type ChildRequest, type ChildTask, childReplySchema } from './child-protocol.ts';
import { decodesPictures } from './encoder.ts';
import {
  detectConfinement,
  type Isolation,
  memoryOf,
  moduleFolders,
  permissionArguments,
} from './isolation.ts';
import { isOnnx } from './onnx.ts';

/** What to predict, and how much it may cost. */
export interface PredictionJob {
  /** Folder of a package, as `cdl package` makes it. */
  packageFolder: string;
  /** Path of the items, IDX or (raw) packed; labels are not among what the process can read. */
  items: string;
  /** How many items and classes there are. */
  count: number;
  classes: number;
  /** Where to keep the checked probabilities (float32, little-endian); null for nowhere. */
  out: string | null;
  signal?: AbortSignal;
  /** Defaults: 600 s, 4 GiB. */
  limits?: { seconds?: number; memory?: number };
  /** The built `child.ts`; default `dist/model/child.js` of this package. */
  program?: string;
}

/** Checked predictions. */
export interface Prediction {
  /** `[count, classes]`, row-major; every row within [0, 1] and summing to 1 ± 0.001. */
  probabilities: Float32Array;
  /**
   * Median time for a single item in milliseconds, measured from outside, process border included, with the interval between
   * order statistics that holds the true median with at least 95 % (David & Nagaraja 2003, §7.1).
   */
  latencyMs: Measure;
  isolation: Isolation;
  /** What the model ran on. */
  backend: string;
}

const latencySamples = 21;

/**
 * Runs a package's model over items in a process that is given nothing but them: an empty environment, an empty home,
 * reading limited to package, items and program, writing to one folder, no child processes, no native code but that of ONNX Runtime (for a package that needs it) and, where the
 * system allows, no network and no sight of other processes. What comes back is checked, not believed.
 *
 * Throws UserError code-invalid (the model code failed, ran too long or too large, or its output is not a list of
 * probabilities), interrupted, or what the process reports of the package (artifact-corrupt …).
 */
export async function predictIsolated(job: PredictionJob): Promise<Prediction> {
  if (job.signal?.aborted) throw new UserError('interrupted', 'the prediction was stopped');
  const { prefix, isolation } = await detectConfinement();
  const scratch = await realpath(await mkdtemp(join(tmpdir(), 'cdl-predict-')));
  try {
    const home = join(scratch, 'home');
    const output = join(scratch, 'out');
    await Promise.all([mkdir(home), mkdir(output)]);
    const program = await realpath(job.program ?? join(packageRoot(), 'dist', 'model', 'child.js'));
    const task: ChildTask = {
      package: await realpath(job.packageFolder),
      items: await realpath(job.items),
      out: join(output, 'probabilities.f32'),
    };
    const bundles = job.program ? dirname(program) : join(packageRoot(), 'dist');
    const read = [
      join(bundles, '/'),
      join(packageRoot(), 'package.json'),
      ...moduleFolders(dirname(program)),
      join(task.package, '/'),
      task.items,
    ];
    const limits = { seconds: job.limits?.seconds ?? 600, memory: job.limits?.memory ?? 4 * 2 ** 30 };
    const command = [
      ...prefix,
      process.execPath,
      `--max-old-space-size=${Math.max(64, Math.floor(limits.memory / 2 ** 20))}`,
      ...permissionArguments(
        read,
        [join(output, '/')],
        isOnnx(task.package) || (await decodesPictures(task.package)),
      ),
      program,
      JSON.stringify(task),
    ];
    const child = spawn(command[0]!, command.slice(1), {
      cwd: home,
      env: { PATH: home, HOME: home, TMPDIR: home },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'json',
    });
    const { latencyMs, rows, backend } = await converse(child, job, limits);
    const probabilities = await readProbabilities(task.out, job);
    for (const [index, row] of rows) {
      if (row.some((p, k) => Math.abs(p - probabilities[index * job.classes + k]!) > 1e-3)) {
        throw new UserError(
          'code-invalid',
          `the model predicts item ${index} differently alone and among others`,
        );
      }
    }
    if (job.out !== null) await writeFile(job.out, new Uint8Array(probabilities.buffer));
    return { probabilities, latencyMs, isolation, backend };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

type Conversation = { latencyMs: Measure; rows: Map<number, number[]>; backend: string };

/** Asks for some items one by one, then for all. The process has ended when this returns or throws. */
async function converse(
  child: ChildProcess,
  job: PredictionJob,
  limits: { seconds: number; memory: number },
): Promise<Conversation> {
  const replies = listen(child);
  let stopped: UserError | null = null;
  const stop = (error: UserError) => {
    stopped ??= error;
    child.kill('SIGKILL');
  };
  const onAbort = () => stop(new UserError('interrupted', 'the prediction was stopped'));
  job.signal?.addEventListener('abort', onAbort, { once: true });
  const clock = setTimeout(
    () => stop(new UserError('code-invalid', `the model code ran for more than ${limits.seconds} s`)),
    limits.seconds * 1000,
  );
  const scale = setInterval(() => {
    if (child.pid === undefined) return;
    void memoryOf(child.pid).then((bytes) => {
      if (bytes <= limits.memory) return;
      stop(
        new UserError(
          'code-invalid',
          `the model code took more than ${Math.round(limits.memory / 2 ** 20)} MiB`,
        ),
      );
    });
  }, 250);
  const ask = (request: ChildRequest) => {
    // A process that just ended is reported by its end, not by the failed write.
    child.send(request, () => undefined);
    return replies.next();
  };
  try {
    const ready = await replies.next();
    if (ready.kind !== 'ready') throw unexpected(ready);
    if (ready.count !== job.count) {
      throw new UserError('data-invalid', `${job.items} holds ${ready.count} items, not ${job.count}`);
    }
    const times: number[] = [];
    const rows = new Map<number, number[]>();
    for (let i = 0; i < Math.min(latencySamples, job.count); i++) {
      const index = Math.floor((i * job.count) / latencySamples) % job.count;
      const start = performance.now();
      const one = await ask({ kind: 'one', index });
      times.push(performance.now() - start);
      if (one.kind !== 'one' || one.index !== index || one.row.length !== job.classes) throw unexpected(one);
      rows.set(index, one.row);
    }
    const done = await ask({ kind: 'all' });
    if (done.kind !== 'done') throw unexpected(done);
    return { latencyMs: medianOf(times), rows, backend: ready.backend };
  } catch (error) {
    throw stopped ?? error;
  } finally {
    clearTimeout(clock);
    clearInterval(scale);
    job.signal?.removeEventListener('abort', onAbort);
    child.kill('SIGKILL');
    await replies.ended;
  }
}

/** The median of some values and its interval: all that was seen where fewer than six values cannot have one of 95 %. */
export function medianOf(values: readonly number[]): Measure {
  const sorted = values.toSorted((a, b) => a - b);
  const count = sorted.length;
  if (count === 0) return { value: 0, low: 0, high: 0 };
  // Each side may be wrong with 2.5 %: Binomial(count, ½) below the place.
  let [place, chance] = [0, 2 ** -count];
  for (let tail = chance; ; place++) {
    chance *= (count - place) / (place + 1);
    tail += chance;
    if (tail > 0.025) break;
  }
  return { value: sorted[count >> 1]!, low: sorted[place]!, high: sorted[count - 1 - place]! };
}

function unexpected(reply: ChildReply): UserError {
  if (reply.kind !== 'error')
    return new UserError('code-invalid', `the model code answered "${reply.kind}" out of turn`);
  const code: ErrorCode = Object.hasOwn(catalogue, reply.code) ? (reply.code as ErrorCode) : 'code-invalid';
  return new UserError(code, `the model code failed: ${reply.message}`);
}

/** The replies in order; once the process has ended, asking for another throws with what it last wrote. */
function listen(child: ChildProcess): { next(): Promise<ChildReply>; ended: Promise<void> } {
  const queue: ChildReply[] = [];
  let waiting: { resolve(reply: ChildReply): void; reject(error: Error): void } | null = null;
  let failure: UserError | null = null;
  let log = '';
  const fail = (error: UserError) => {
    failure ??= error;
    waiting?.reject(failure);
    waiting = null;
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      log = (log + chunk.toString('utf8')).slice(-2000);
    });
  }
  child.on('message', (message: unknown) => {
    const parsed = childReplySchema.safeParse(message);
    if (!parsed.success) {
      fail(new UserError('code-invalid', 'the model code sent a malformed message'));
    } else if (waiting) {
      waiting.resolve(parsed.data);
      waiting = null;
    } else if (queue.push(parsed.data) > 100) {
      fail(new UserError('code-invalid', 'the model code sends messages nobody asked for'));
    }
  });
  const ended = new Promise<void>((resolve) => {
    child.on('error', (error) => {
      fail(new UserError('code-invalid', `the prediction process could not be started: ${error.message}`));
      if (child.pid === undefined) resolve();
    });
    child.on('close', (code, signal) => {
      const how = signal ? `by ${signal}` : `with exit code ${code}`;
      fail(
        new UserError(
          'code-invalid',
          `the model code ended early, ${how}${log.trim() ? `:\n${log.trim()}` : ''}`,
        ),
      );
      resolve();
    });
  });
  return {
    ended,
    next() {
      const first = queue.shift();
      if (first) return Promise.resolve(first);
      if (failure) return Promise.reject(failure);
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject };
      });
    },
  };
}

/** Reads the file the process wrote and checks that it is one list of probabilities for each item. */
async function readProbabilities(path: string, job: PredictionJob): Promise<Float32Array> {
  const bad = (what: string) => new UserError('code-invalid', `the model's output ${what}`);
  const bytes = Buffer.alloc(job.count * job.classes * 4);
  // O_NOFOLLOW: a link would have this process read a file for the one that may not.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    () => {
      throw bad('was not written');
    },
  );
  try {
    const info = await file.stat();
    if (!info.isFile()) throw bad('is not a file');
    if (info.size !== bytes.length) {
      throw bad(
        `has ${info.size} bytes instead of ${bytes.length} for ${job.count} items of ${job.classes} classes`,
      );
    }
    let at = 0;
    while (at < bytes.length) {
      const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
      if (bytesRead === 0) throw bad('ended early');
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
  const rows = new Float32Array(job.count * job.classes);
  for (let item = 0; item < job.count; item++) {
    let sum = 0;
    for (let k = 0; k < job.classes; k++) {
      const p = bytes.readFloatLE((item * job.classes + k) * 4);
      if (!(p >= 0 && p <= 1)) throw bad(`has ${p} as a probability of item ${item}`);
      rows[item * job.classes + k] = p;
      sum += p;
    }
    if (Math.abs(sum - 1) > 1e-3) throw bad(`sums to ${sum} for item ${item} instead of 1`);
  }
  return rows;
}
