import type { CommandConsole } from './console.ts';

/** Tells what goes on now, and how much of it is done, as in `34 %`. */
export type Detail = (text: string, share?: string) => void;

/** Tells what happens: a moving line while something goes on, a lasting one when it is done, JSON lines for scripts. */
export interface Story {
  /** Runs one chapter. `detail` changes the moving line; without one its `share` is told every half minute only. */
  chapter<T>(title: string, work: (detail: Detail) => Promise<{ text: string; value: T }>): Promise<T>;
  /** Something that can be checked in the sandbox's API. */
  milestone(name: string, ids: Record<string, unknown>): void;
  say(text: string): void;
}

/** Milliseconds between two lines of how much is done. */
const between = 30_000;

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/** Tells a story on a console. */
export function createStory(console: CommandConsole, started: number): Story {
  const terminal = Boolean(process.stdout.isTTY) && !console.json && console.color;
  const paint = (code: number, text: string) => (terminal ? `\x1b[${code}m${text}\x1b[0m` : text);
  const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
  let number = 0;
  return {
    async chapter(title, work) {
      number++;
      const label = `${String(number).padStart(2)}  ${title}`;
      const since = performance.now();
      let detail = '';
      let share = '';
      let frame = 0;
      let told = since;
      const draw = () => {
        const line = `${frames[frame++ % frames.length]} ${label}  ${[detail, share].filter(Boolean).join(' ')}`;
        process.stdout.write(`\r\x1b[2K${line.slice(0, console.columns - 10)}  ${seconds(since)}`);
      };
      const timer = terminal ? setInterval(draw, 100) : null;
      try {
        const { text, value } = await work((now, of = '') => {
          const isNews = now !== detail || (of !== share && performance.now() - told >= between);
          [detail, share] = isNews || terminal ? [now, of] : [detail, share];
          if (!isNews || terminal || console.json) return;
          told = performance.now();
          process.stderr.write(`      … ${[now, of].filter(Boolean).join(' ')}\n`);
        });
        if (timer) clearInterval(timer);
        if (!console.json) {
          const clear = terminal ? '\r\x1b[2K' : '';
          const indent = text
            .split('\n')
            .map((line) => `      ${line}`)
            .join('\n');
          process.stdout.write(
            `${clear}${paint(32, '✓')} ${paint(1, label)}  ${paint(2, seconds(since))}\n${indent}\n`,
          );
        }
        return value;
      } catch (error) {
        if (timer) clearInterval(timer);
        if (!console.json) {
          process.stdout.write(
            `${terminal ? '\r\x1b[2K' : ''}${paint(31, '✗')} ${label}  ${seconds(since)}\n`,
          );
        }
        throw error;
      }
    },
    milestone(name, ids) {
      if (!console.json) return;
      const at = Number(((performance.now() - started) / 1000).toFixed(2));
      process.stdout.write(`${JSON.stringify({ milestone: name, at, ...ids })}\n`);
    },
    say(text) {
      if (!console.json) process.stdout.write(`${text}\n`);
    },
  };
}
