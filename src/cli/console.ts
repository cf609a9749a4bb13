import type { Console } from '../steps/context.ts';

/** What a command shows while it works; results go to stdout, everything else to stderr. */
export interface CommandConsole extends Console {
  readonly json: boolean;
  readonly columns: number;
  readonly color: boolean;
  /** The result: text for people, or one line of JSON with `--json`. */
  print(text: string, value: unknown): void;
  /** Clears the progress line. */
  end(): void;
}

const bar = (share: number, width: number) => {
  const full = Math.round(Math.max(0, Math.min(1, share)) * width);
  return '█'.repeat(full) + '░'.repeat(width - full);
};

/** Progress as one moving line on a terminal, as plain lines elsewhere. */
export function createConsole(options: {
  json: boolean;
  env: NodeJS.ProcessEnv;
  /** Masks what must not be shown; everything written goes through it. */
  redact(text: string): string;
  signal: AbortSignal;
}): CommandConsole {
  const terminal = Boolean(process.stderr.isTTY) && !options.env.CI && !options.json;
  const ended = new Set<string>();
  let shownAt = 0;
  let open = false;
  const end = () => {
    if (open) process.stderr.write('\r\x1b[2K');
    open = false;
  };
  return {
    json: options.json,
    columns: process.stdout.columns ?? 80,
    color: Boolean(process.stdout.isTTY) && !options.env.NO_COLOR,
    signal: options.signal,
    log(line) {
      end();
      process.stderr.write(`${options.redact(line)}\n`);
    },
    progress(label, share) {
      if (terminal) {
        const percent = `${Math.round(share * 100)}`.padStart(3);
        process.stderr.write(`\r\x1b[2K${bar(share, 24)} ${percent} %  ${options.redact(label)}`);
        open = true;
        return;
      }
      // A label may carry changing figures; what is shown is at most a line every two seconds, and each end once.
      const now = Date.now();
      if (share < 1 ? now - shownAt < 2000 : ended.has(label)) return;
      if (share < 1) shownAt = now;
      else ended.add(label);
      process.stderr.write(`${options.redact(label)}: ${Math.round(share * 100)} %\n`);
    },
    print(text, value) {
      end();
      const shown = options.json ? JSON.stringify(value) : text.replace(/\n$/, '');
      process.stdout.write(`${options.redact(shown)}\n`);
    },
    end,
  };
}
