import { lstat, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UpstreamError, UserError } from '../core/error.ts';
import { type CommandEvent, type CommandJob, metricNames } from './command-protocol.ts';
import { type EventTail, openEventTail } from './event-tail.ts';
import type { Launch } from './launch.ts';
import { checkpointFolder, folderBytes, freeBytes } from './output-folder.ts';
import { torchrunFailure } from './torchrun.ts';
import { lossHint, type Metrics, type TrainEvent } from './types.ts';

/** A training by a program. */
export interface CommandTraining {
  command: readonly string[];
  /** How it is started. */
  launch: Launch;
  /** Folder of the code: where it is started. */
  folder: string;
  /** Folder for `job.json`, `events.jsonl` and its temporary files. */
  scratch: string;
  environment: Record<string, string>;
  job: CommandJob;
  restarts: number;
  /** What the program left behind about why it failed; null where it did not. */
  explain?(): Promise<string | null>;
  limits: {
    /** Seconds between SIGTERM and SIGKILL. */
    grace: number;
    /** Bytes of the output folder and of `scratch`. */
    disk: number;
    /** Bytes of all events. */
    events: number;
  };
}

/** What a training tells: as the built-in trainer does, and lines for the log. */
export type CommandMessage =
  | Exclude<TrainEvent, { kind: 'done' }>
  | { kind: 'checkpoint'; checkpoint: string }
  | { kind: 'log'; message: string }
  | (Extract<TrainEvent, { kind: 'done' }> & { environment: Record<string, string> });

type DoneEvent = Extract<CommandEvent, { kind: 'done' }>;

/** How often events are looked for, in milliseconds. */
const look = 100;
/** How often the disk is looked at, in milliseconds. */
const weigh = 1000;
/** Name of the file of events, in `scratch`. */
const eventsFile = 'events.jsonl';
/** Log lines of a training that are shown. */
const mostLines = 10_000;
/** The disk counts as full when no more than this is left, in bytes. */
const spare = 64 * 2 ** 20;

/** What one start of the program came to. */
interface Attempt {
  position: { epoch: number; step: number };
  /** The newest checkpoint, of whichever start. */
  checkpoint: string | null;
  /** Whether there is a newer one than at the start. */
  moved: boolean;
  done: { event: DoneEvent; model: string } | null;
  /** Lines for the log so far. */
  said: number;
  /** Why it has to be started again, or is given up. */
  failure: UserError | UpstreamError | null;
}

/**
 * Trains by a program that reads the job (`CDL_JOB`) and appends one event a line to a file (`CDL_EVENTS`). It is believed
 * when it ended with 0 and said `done` with a model that is there. A program that fails goes on from a checkpoint it made
 * since it was started, at most `restarts` times. Whatever it started is gone when this ends.
 *
 * On the signal it gets SIGTERM, and after the grace SIGKILL; its last checkpoint is told as `stopped`. Throws UserError
 * training-failed with what went wrong, config-invalid when the program is not there, interrupted without a checkpoint.
 */
export async function* trainByCommand(
  training: CommandTraining,
  signal: AbortSignal,
): AsyncGenerator<CommandMessage> {
  await mkdir(training.job.output, { recursive: true });
  const attempt: Attempt = {
    position: { epoch: 0, step: 0 },
    checkpoint: training.job.resume,
    moved: false,
    done: null,
    said: 0,
    failure: null,
  };
  for (let left = training.restarts; ; left--) {
    attempt.moved = false;
    yield* start(training, attempt, signal);
    const { position, checkpoint, done, failure } = attempt;
    if (signal.aborted && !(done && !failure)) {
      if (checkpoint && checkpoint !== training.job.resume)
        yield { kind: 'stopped', ...position, checkpoint };
      throw new UserError('interrupted', 'the training was stopped');
    }
    if (done && !failure) {
      const { event, model } = done;
      yield {
        kind: 'done',
        ...position,
        bestEpoch: event.best_epoch ?? null,
        stoppedEarly: event.stopped_early,
        metrics: metricNames(event.metrics),
        model,
        environment: event.environment ?? {},
      };
      return;
    }
    const isItsOwn = failure instanceof UserError && failure.code === 'training-failed';
    if (!isItsOwn || left <= 0 || !attempt.moved) throw failure;
    yield { kind: 'log', message: `${failure.message}; it goes on from its last checkpoint` };
  }
}

async function* start(
  training: CommandTraining,
  attempt: Attempt,
  signal: AbortSignal,
): AsyncGenerator<CommandMessage> {
  const { command, scratch, limits } = training;
  const job: CommandJob = { ...training.job, resume: attempt.checkpoint };
  const file = join(scratch, 'job.json');
  const events = join(scratch, eventsFile);
  const temporary = join(scratch, 'tmp');
  await mkdir(temporary, { recursive: true });
  await writeFile(file, `${JSON.stringify(job, null, 2)}\n`);
  await writeFile(events, '');
  const tail = await openEventTail(events, limits.events);
  attempt.failure = null;
  attempt.done = null;
  const place = { scratch, folder: training.folder, environment: training.environment };
  const group = training.launch(command, { ...place, job: file, events, grace: limits.grace });
  const state: { how: Awaited<typeof group.ended> | null } = { how: null };
  const ended = group.ended.then(
    (how) => {
      state.how = how;
    },
    (cause: unknown) => {
      state.how = { code: null, signal: null };
      const told = cause instanceof UserError || cause instanceof UpstreamError;
      attempt.failure = told
        ? cause
        : new UserError(
            'config-invalid',
            `the training command ${command[0]} could not be started: ${startProblem(cause)}`,
            command[0] === 'papermill'
              ? 'notebooks are executed by papermill: pip install papermill ipykernel, where the training runs'
              : 'is it installed here, and in PATH? Name another one under train.command in cdl.yaml',
            { cause },
          );
    },
  );
  const fail = (error: UserError) => {
    attempt.failure ??= error;
  };
  let asked: number | null = null;
  let weighed = Date.now();
  try {
    for (;;) {
      await Promise.race([ended, delay(look)]);
      const isOver = state.how !== null;
      for await (const event of isOver ? tail.rest() : tail.read()) yield* tell(event, training, attempt);
      if (tail.isOver()) fail(tooMany(limits.events));
      if (isOver) break;
      if (Date.now() - weighed > weigh) {
        const full = await diskProblem(training);
        if (full) fail(full);
        weighed = Date.now();
      }
      if (attempt.failure) group.signal('SIGKILL');
      if (asked === null && (signal.aborted || attempt.done)) {
        asked = Date.now();
        if (signal.aborted) group.signal('SIGTERM');
      }
      // Also a program that is done and does not end.
      if (asked !== null && Date.now() - asked > limits.grace * 1000) group.signal('SIGKILL');
    }
    if (tail.refused.count > 0) yield { kind: 'log', message: refusedLine(tail) };
    const how = state.how!;
    const hung = attempt.done !== null && asked !== null && how.signal === 'SIGKILL';
    if (how.code !== 0 && !hung) {
      fail(endProblem(how, group.tail(), (await training.explain?.()) ?? null));
    }
    if (!attempt.done) fail(new UserError('training-failed', noModel, noModelHint));
  } finally {
    await group.clear();
    await ended;
    await tail.close();
  }
}

const noModel = 'the training command ended with exit code 0 and without a model: it wrote no event "done"';
const noModelHint =
  'write the model below the output folder of CDL_JOB, then append {"kind":"done","model":"…"} to CDL_EVENTS';

/** Takes one event in; what it claims is checked. */
async function* tell(
  event: CommandEvent,
  training: CommandTraining,
  attempt: Attempt,
): AsyncGenerator<CommandMessage> {
  const { output } = training.job;
  const { position } = attempt;
  if (event.kind === 'log') {
    attempt.said++;
    if (attempt.said <= mostLines) yield { kind: 'log', message: event.message };
    if (attempt.said === mostLines)
      yield { kind: 'log', message: 'further lines of the command are not shown' };
    return;
  }
  // The first thing that went wrong is what is reported.
  if (attempt.failure || attempt.done) return;
  try {
    if (event.kind !== 'done') {
      position.epoch = event.epoch ?? position.epoch;
      position.step = event.step ?? position.step;
    }
    if (event.kind === 'checkpoint' || (event.kind === 'epoch' && event.checkpoint !== undefined)) {
      const path = event.kind === 'checkpoint' ? event.path : event.checkpoint!;
      attempt.checkpoint = await checkpointFolder(output, path);
      attempt.moved = true;
    }
    if (event.kind === 'checkpoint') {
      yield { kind: 'checkpoint', checkpoint: attempt.checkpoint! };
      return;
    }
    const metrics = finite(event.metrics, position.epoch);
    if (event.kind === 'done') {
      attempt.done = { event: { ...event, metrics }, model: await checkpointFolder(output, event.model) };
      return;
    }
    const shared = {
      ...position,
      metrics: metricNames(metrics),
      samplesPerSecond: event.samples_per_second ?? 0,
    };
    if (event.kind === 'step') yield { kind: 'step', ...shared };
    // Metrics are told apart by their step: where the program counts none, it is the epoch.
    else
      yield {
        kind: 'epoch',
        ...shared,
        step: position.step || position.epoch,
        checkpoint: event.checkpoint ? attempt.checkpoint : null,
      };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    attempt.failure = error;
  }
}

/** Metrics that are numbers. Throws UserError training-failed for a loss that is none: nothing good comes after it. */
function finite(metrics: Metrics, epoch: number): Metrics {
  const kept = Object.entries(metrics).filter(([name, value]) => {
    if (Number.isFinite(value)) return true;
    if (/loss/i.test(name))
      throw new UserError('training-failed', `epoch ${epoch}: ${name} is ${value}`, lossHint);
    return false;
  });
  return Object.fromEntries(kept);
}

function startProblem(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  return code ?? message;
}

function tooMany(bytes: number): UserError {
  return new UserError(
    'training-failed',
    `the training command wrote more than ${bytes / 2 ** 20} MiB of events`,
    'one event for some hundred steps is enough',
  );
}

function refusedLine({ refused }: EventTail): string {
  const lines = refused.count === 1 ? 'one line' : `${refused.count} lines`;
  return `${lines} of CDL_EVENTS passed over, being no events: ${refused.first}`;
}

async function diskProblem({ scratch, job, limits }: CommandTraining): Promise<UserError | null> {
  const [kept, beside, events, free] = await Promise.all([
    folderBytes(job.output),
    folderBytes(scratch),
    // They have a limit of their own. The command may have removed the file, or put a link there.
    lstat(join(scratch, eventsFile)).then(
      ({ size }) => size,
      () => 0,
    ),
    freeBytes(job.output),
  ]);
  if (kept + beside - events > limits.disk) {
    return new UserError(
      'training-failed',
      `the training command wrote more than ${Math.round(limits.disk / 2 ** 20)} MiB`,
      'keep fewer checkpoints, or raise train.disk in cdl.yaml',
    );
  }
  if (free > spare) return null;
  const hint = 'keep fewer checkpoints, or give the job a larger disk';
  return new UserError('training-failed', 'the disk is full', hint);
}

/** What ends the trace of an exception in Python, JavaScript and Java (behind the rank that torchrun puts before it). */
const exception =
  /^(?:\[rank\d+\]: *)?((?:[\w$]+\.)*\w*(?:Error|Exception|Interrupt)(?: \[\w+\])?(?:: .+)?)$/;

function endProblem(
  how: { code: number | null; signal: string | null },
  tail: string,
  explained: string | null,
): UserError {
  const first = torchrunFailure(tail);
  const { code, signal } = first ?? how;
  const who = first ? `process ${first.rank} of the training command` : 'the training command';
  const end = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
  const lines = first?.lines ?? tail.split('\n');
  const said = lines.slice(-15).join('\n').trim().slice(-4000);
  const thrown = lines.flatMap((line) => exception.exec(line)?.[1] ?? []).at(-1);
  // Lists show the first line alone: it has to name the cause.
  const head = `${who} ${end}${thrown ? `: ${thrown.slice(0, 200)}` : said ? ':' : ''}`;
  const told = explained ?? (said && said !== thrown ? `${head}\n${said}` : head);
  return new UserError('training-failed', told, memoryHint(signal, lines.join('\n')));
}

/** What to do when memory ran out: of a GPU (PyTorch, TensorFlow, JAX say so in these words), or of the machine. */
function memoryHint(signal: string | null, said: string): string | undefined {
  if (
    !/out of memory|OutOfMemory|MemoryError|RESOURCE_EXHAUSTED|bad_alloc/i.test(said) &&
    signal !== 'SIGKILL'
  )
    return undefined;
  return /CUDA|HIP|GPU|RESOURCE_EXHAUSTED/.test(said)
    ? 'the GPU is out of memory: lower batch_size, or ask for a runner with a larger GPU; run it again to resume'
    : 'out of memory? lower batch_size, or ask for more under resources.train; run it again to resume';
}
