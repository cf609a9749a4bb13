import { cleanText } from '../report/text.ts';

/** Makes lines of the log of a CI job as it grows. */
export interface LogLines {
  push(bytes: Uint8Array): string[];
  /** The last line, where it has no end. */
  end(): string[];
  /** Bytes taken so far. */
  readonly size: number;
}

/** Longest line that is given, in characters. */
const longest = 4000;

/** Markers of sections that fold (GitLab doc: ci/jobs/job_logs#custom-collapsible-sections). */
const section = /section_(?:start|end):\d+:[^\r\n]*\r?/g;
/** `2024-05-22T12:43:46.962646Z 00O ` before a line (GitLab doc: ci/jobs/job_logs#job-log-timestamps; GitHub has the time alone). */
const time = /^\d{4}-\d\d-\d\dT[\d:.]+Z(?: [0-9a-f]{2}[OE][ +])? ?/;
/** Control sequences, operating system commands, and other escapes (ECMA-48). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach a terminal
const escapes = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])/g;

function clean(line: string): string | null {
  const bare = line.replace(time, '').replace(section, '').replace(escapes, '');
  // What a carriage return wrote over was progress: its last state is what stood there.
  const shown = cleanText(bare.replace(/\r+$/, '').split('\r').at(-1)!).trimEnd();
  return shown === '' ? null : shown.slice(0, longest);
}

/** Reads a log: plain lines without colours, section markers, times and anything else a terminal would obey. Empty ones are left out. */
export function openLogLines(): LogLines {
  const decoder = new TextDecoder();
  let rest = '';
  let size = 0;
  const shown = (lines: readonly string[]) => lines.map(clean).filter((line) => line !== null);
  return {
    push(bytes) {
      size += bytes.length;
      const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
      // One that never ends must not be kept whole.
      rest = lines.pop()!.slice(-longest * 4);
      return shown(lines);
    },
    end() {
      const last = rest + decoder.decode();
      rest = '';
      return shown([last]);
    },
    get size() {
      return size;
    },
  };
}
