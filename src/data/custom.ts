import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { UserError } from '../core/error.ts';
import { clearGroup } from '../exec/group.ts';
import { type Answer, answerSchema, itemLine } from './custom-protocol.ts';
import type { RawItem } from './raw-item.ts';

/** A program that answers one JSON line for each it gets. */
export interface Program {
  command: readonly [string, ...string[]];
  /** Holds the declared files and nothing else; the program runs here, and no other while it does. */
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

/** Characters of one answer at most: what never ends its line would fill the memory. */
const longestLine = 128 * 1024 * 1024;

/**
 * Sends items through a program and yields each with its answer, in the order they came; what has no item (`itemOf` gives
 * null) passes by without one. Answers may come in any order. The program and all that it started are killed at the
 * end, on time-out and on abort. Throws UserError code-invalid when it fails, answers nonsense, or leaves an item unanswered:
 * then nothing it said counts.
 */
export async function* askProgram<T>(
  program: Program,
  given: AsyncIterable<T> | Iterable<T>,
  itemOf: (one: T) => RawItem | null,
  classes: readonly string[],
): AsyncGenerator<{ given: T; answer: Answer | null }> {
  const { what } = program;
  const fail = (text: string) =>
    new UserError(
      'code-invalid',
      `${what}: ${text}`,
      `correct what ${what} of cdl.yaml names; it sees only the files that its code: matches`,
    );
  const [file, ...args] = program.command;
  const child = spawn(file, args, {
    cwd: program.folder,
    // Python would keep its answers to itself until some kilobytes are together.
    env: { ...program.environment, HOME: program.folder, PYTHONUNBUFFERED: '1' },
    stdio: ['pipe', 'pipe', 'inherit'],
    // A group of its own, so that what it starts can be killed with it; who leaves the group keeps its HOME.
    detached: true,
  });
  const clear = () => clearGroup(child.pid, { name: 'HOME', value: program.folder });
  const ended = new Promise<number | string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'killed'));
  });
  child.stdin.on('error', () => {});
  const input = createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY });
  const lines = input[Symbol.asyncIterator]();
  /** Why it was killed by us; null while it was not. */
  let killed: string | null = null;
  // Whoever cannot be killed may still hold the other end of the pipe: we do not wait for it.
  const stop = (why: string) => {
    killed ??= why;
    void clear();
    input.close();
    child.stdout.destroy();
  };
  const timer = setTimeout(() => {
    const much = underWay > window ? `; it has to answer before ${window >> 20} MiB of items wait` : '';
    stop(`was not done after ${program.timeout} seconds and was killed${much}`);
  }, program.timeout * 1000);
  let open = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    const end = chunk.lastIndexOf(0x0a);
    open = end < 0 ? open + chunk.length : chunk.length - end - 1;
    if (open > longestLine) stop(`printed a line of more than ${longestLine >> 20} MiB and was killed`);
  });
  const abort = () => stop('was stopped');
  program.signal.addEventListener('abort', abort, { once: true });
  if (program.signal.aborted) abort();

  const waiting: { given: T; id: string | null; size: number }[] = [];
  let underWay = 0;
  const answers = new Map<string, Answer>();
  const known = new Set<string>();
  /** Waits for its end; throws when that was no good one. */
  async function goodEnd(): Promise<void> {
    const how = await ended;
    program.signal.throwIfAborted();
    if (killed !== null) throw fail(killed);
    const said = 'what it printed to standard error says why';
    if (typeof how === 'number' && how !== 0) throw fail(`ended with exit code ${how}; ${said}`);
    if (how !== 0) throw fail(`failed: ${how}`);
  }
  async function nextAnswer(): Promise<void> {
    const line = await lines.next();
    if (line.done) {
      await goodEnd();
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
    await goodEnd();
  } finally {
    clearTimeout(timer);
    program.signal.removeEventListener('abort', abort);
    await clear();
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
