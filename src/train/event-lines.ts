import { z } from 'zod';
import { type CommandEvent, commandEventSchema } from './command-protocol.ts';

/** Longest line that is looked at, in bytes. */
export const longestLine = 64 * 1024;

/** Makes events of bytes as they come; whatever they are, it neither throws nor keeps more than one line. */
export interface EventLines {
  push(bytes: Uint8Array): CommandEvent[];
  /** The last line, where it has no end. */
  end(): CommandEvent[];
  /** Lines that were no events, and what was wrong with the first. */
  readonly refused: { count: number; first: string | null };
}

/** Python's json writes NaN and Infinity as bare words; in quotes they are JSON. Strings are left alone. */
function quoteNumbers(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (part) =>
    part.startsWith('"') ? part : `"${part}"`,
  );
}

function parseLine(text: string): CommandEvent | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    try {
      value = JSON.parse(quoteNumbers(text));
    } catch (cause) {
      return cause instanceof Error ? cause.message : String(cause);
    }
  }
  const parsed = commandEventSchema.safeParse(value);
  return parsed.success ? parsed.data : z.prettifyError(parsed.error);
}

/** Reads the lines of `CDL_EVENTS`. What is too long or no event is counted and passed over. */
export function openEventLines(): EventLines {
  const refused = { count: 0, first: null as string | null };
  let pending: Buffer[] = [];
  let size = 0;
  const refuse = (why: string) => {
    refused.count++;
    refused.first ??= why.slice(0, 500);
  };
  const close = (): CommandEvent[] => {
    const tooLong = size > longestLine;
    const text = Buffer.concat(pending).toString('utf8').trim();
    pending = [];
    size = 0;
    if (tooLong) refuse(`a line of more than ${longestLine} bytes`);
    if (tooLong || text === '') return [];
    const event = parseLine(text);
    if (typeof event !== 'string') return [event];
    refuse(`${event} in ${text.slice(0, 200)}`);
    return [];
  };
  const add = (bytes: Uint8Array) => {
    size += bytes.length;
    if (size > longestLine) pending = [];
    else if (bytes.length > 0) pending.push(Buffer.from(bytes));
  };
  return {
    refused,
    push(bytes) {
      const events: CommandEvent[] = [];
      let from = 0;
      for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, from)) {
        add(bytes.subarray(from, at));
        events.push(...close());
        from = at + 1;
      }
      add(bytes.subarray(from));
      return events;
    },
    end: close,
  };
}
