import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { UserError } from '../core/error.ts';
import { type Answer, answerSchema, itemLine } from './custom-protocol.ts';
import type { RawItem } from './raw-item.ts';

/** A program that answers one JSON line for each it gets. */
export interface Program {
  command: readonly [string, ...string[]];
  /** Holds the declared files and nothing else; the program runs here. */
  folder: string;
  /** All that it sees of the environment. */
  environment: Readonly<Record<string, string>>;
  /** Seconds until it is killed. */
  timeout: number;
  signal: AbortSignal;
  /** What it is in messages, e.g. `rules.check`. */
  what: string;
}

/** Bytes of items on their way at most, so that memory stays bounded however slow the program is. */
const window = 32 * 1024 * 1024;

/**
 * Sends items through a program and yields each with its answer, in the order they came; what has no item (`itemOf` gives
 * null) passes by without one. Answers may come in any order. The program and its children are killed at the end, on
 * time-out and on abort. Throws UserError code-invalid when it fails, answers nonsense, or leaves an item unanswered:
 * then nothing it said counts.
 */
export async function* askProgram<T>(
  program: Program,
  given: AsyncIterable<T> | Iterable<T>,
  itemOf: (one: T) => RawItem | null,
  classes: readonly string[],
): AsyncGenerator<{ given: T; answer: Answer | null }> {
  const { what } = program;
  const fail = (text: string) => new UserError('code-invalid', `${what}: ${text}`);
  const [file, ...args] = program.command;
  const child = spawn(file, args, {
    cwd: program.folder,
    // Python would keep its answers to itself until some kilobytes are together.
    env: { ...program.environment, HOME: program.folder, PYTHONUNBUFFERED: '1' },
    stdio: ['pipe', 'pipe', 'inherit'],
    // A group of its own, so that what it starts can be killed with it.
    detached: true,
  });
  const ended = new Promise<number | string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'killed'));
  });
  child.stdin.on('error', () => {});
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killGroup(child);
  }, program.timeout * 1000);
  const stop = () => killGroup(child);
  program.signal.addEventListener('abort', stop, { once: true });
  if (program.signal.aborted) stop();

  const lines = createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY })[
    Symbol.asyncIterator
  ]();
  const waiting: { given: T; id: string | null; size: number }[] = [];
  let underWay = 0;
  const answers = new Map<string, Answer>();
  const known = new Set<string>();
  async function nextAnswer(): Promise<void> {
    const line = await lines.next();
    if (line.done) {
      const how = await ended;
      program.signal.throwIfAborted();
      if (late) throw fail(`was not done after ${program.timeout} seconds and was killed`);
      if (how !== 0) throw fail(typeof how === 'number' ? `ended with exit code ${how}` : `failed: ${how}`);
      throw fail(`ended with ${waiting.length} items unanswered`);
    }
    const answer = parseAnswer(line.value, fail);
    if (!known.delete(answer.id)) throw fail('answered for an item that it was not asked about');
    answers.set(answer.id, answer);
  }
  function* ready(): Generator<{ given: T; answer: Answer | null }> {
    for (let head = waiting[0]; head; head = waiting[0]) {
      const answer = head.id === null ? null : answers.get(head.id);
      if (answer === undefined) return;
      if (head.id !== null) answers.delete(head.id);
      waiting.shift();
      underWay -= head.size;
      yield { given: head.given, answer };
    }
  }
  try {
    for await (const one of given) {
      const item = itemOf(one);
      let size = 0;
      if (item) {
        // The same bytes twice: one answer at a time.
        while (known.has(item.id) || answers.has(item.id)) {
          if (known.size > 0) await nextAnswer();
          yield* ready();
        }
        known.add(item.id);
        const line = `${JSON.stringify(itemLine(item, classes))}\n`;
        size = line.length;
        child.stdin.write(line);
      }
      waiting.push({ given: one, id: item?.id ?? null, size });
      underWay += size;
      yield* ready();
      while (underWay > window) {
        await nextAnswer();
        yield* ready();
      }
    }
    child.stdin.end();
    while (waiting.length > 0) {
      await nextAnswer();
      yield* ready();
    }
    const rest = await lines.next();
    if (!rest.done) throw fail('said more than one line an item');
    const how = await ended;
    program.signal.throwIfAborted();
    if (late) throw fail(`was not done after ${program.timeout} seconds and was killed`);
    if (how !== 0) throw fail(typeof how === 'number' ? `ended with exit code ${how}` : `failed: ${how}`);
  } finally {
    clearTimeout(timer);
    program.signal.removeEventListener('abort', stop);
    killGroup(child);
  }
}

function parseAnswer(line: string, fail: (text: string) => UserError): Answer {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    // Its text may hold what is sensitive, so it is not repeated.
    throw fail('printed a line that is not JSON; log to standard error instead');
  }
  const parsed = answerSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw fail(`printed a line that is no answer: ${z.prettifyError(parsed.error)}`);
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    // Nobody of the group is left.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
