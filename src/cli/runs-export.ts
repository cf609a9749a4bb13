import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { plural } from '../core/plural.ts';
import { readSteps } from '../model/run-steps.ts';
import { gpuSeconds, type Run } from '../model/runs.ts';
import type { Zone } from '../store/types.ts';
import { partsOfRun, settingsOf, under } from './run-values.ts';
import type { RunsDesk } from './runs.ts';
import type { CommandInput } from './types.ts';

/** One field of a CSV file (RFC 4180). */
function field(value: unknown): string {
  const text = value === undefined || value === null ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const lines = (head: readonly string[], rows: readonly (readonly unknown[])[]): string =>
  [head, ...rows].map((row) => row.map(field).join(',')).join('\n');

/** A line a run, with a column for everything any of them tells. */
function wideCsv(runs: readonly Run[]): string {
  const flat = runs.map((run): Record<string, unknown> => {
    const { facts } = run;
    return {
      run: run.digest,
      model: facts.model,
      status: facts.status,
      started_at: facts.started_at,
      seconds: facts.seconds,
      gpu_seconds: gpuSeconds(facts),
      who: facts.who,
      commit: facts.commit,
      pipeline: facts.pipeline,
      ...partsOfRun(run),
      ...settingsOf(facts),
      ...Object.fromEntries(under('metrics', facts.metrics)),
    };
  });
  const names = [...new Set(flat.flatMap((one) => Object.keys(one)))];
  return lines(
    names,
    flat.map((one) => names.map((name) => one[name])),
  );
}

/** A line a value that was logged: within epochs first, then at their ends. */
async function longCsv(runs: readonly Run[], work: Zone): Promise<string> {
  const rows: unknown[][] = [];
  for (const { digest, facts } of runs) {
    const points = { step: await readSteps(work, digest), epoch: facts.epochs };
    for (const [at, told] of Object.entries(points)) {
      for (const { epoch, step, metrics } of told) {
        for (const [name, value] of Object.entries(metrics))
          rows.push([digest, at, epoch, step, name, value]);
      }
    }
  }
  return lines(['run', 'at', 'epoch', 'step', 'metric', 'value'], rows);
}

/** `cdl runs export [RUN…]`: runs as CSV (a line a run, or a line a logged value) or JSON Lines, for other programs. */
export async function exportRuns(
  input: CommandInput,
  desk: RunsDesk,
  what: readonly string[],
): Promise<number> {
  const chosen = await desk.chosen(what);
  const { format, out } = input.options as { format: string; out?: string };
  const text =
    format === 'jsonl'
      ? chosen.map((run) => JSON.stringify(run)).join('\n')
      : format === 'steps'
        ? await longCsv(chosen, desk.work)
        : wideCsv(chosen);
  if (out === undefined) {
    input.console.print(text, { runs: chosen });
    return 0;
  }
  await writeFile(resolve(input.cwd, out), `${text}\n`);
  input.console.print(`${plural(chosen.length, 'run')} in ${out}`, {
    runs: chosen.length,
    file: resolve(input.cwd, out),
  });
  return 0;
}
