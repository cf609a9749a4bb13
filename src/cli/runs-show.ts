import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import type { RunLine } from '../model/run-index.ts';
import { gpuSeconds, type Run } from '../model/runs.ts';
import { cleanText, formatNumber } from '../report/text.ts';
import { mostListed } from './actions.ts';
import { columnsText, factsText } from './columns.ts';
import { metricsText } from './models-show.ts';
import { pairsText, partsOfRun, timeText } from './run-values.ts';
import type { RunsDesk } from './runs.ts';
import type { CommandInput } from './types.ts';

/** The first line of why a training failed; the whole is for `show`. */
function reasonLine(reason: string): string {
  const line = reason.split('\n')[0]!.replace(/:$/, '');
  return line.length > 100 ? `${line.slice(0, 99)}…` : line;
}

/** Runs as a table, a line each. */
export function runsTable(runs: readonly RunLine[]): string {
  return columnsText(
    ['run', 'model', 'started', 'status', 'seconds', 'commit', 'pipeline', 'metrics'],
    runs.map(({ digest, facts }) => [
      shortDigest(digest),
      facts.model,
      timeText(facts.started_at),
      facts.status,
      formatNumber(facts.seconds),
      facts.commit?.slice(0, 8) ?? '–',
      facts.pipeline ?? '–',
      facts.status === 'failed' ? reasonLine(facts.reason ?? '') : metricsText(facts.metrics),
    ]),
    'there are no runs yet: cdl train makes them',
    ['left', 'left', 'left', 'left', 'right'],
  );
}

/** `cdl runs ls`: the newest trainings of the project. */
export async function ls(input: CommandInput, desk: RunsDesk, what: readonly string[]): Promise<number> {
  const most = mostListed(input);
  const all = await desk.listed(what);
  const shown = all.slice(0, most);
  const rest = all.length - shown.length;
  const text = runsTable(shown) + (rest > 0 ? `\nand ${rest} more: --number ${all.length}` : '');
  const rows = shown.map(({ facts, ...run }) => ({ ...run, ...facts, epochs: undefined }));
  input.console.print(text, { project: desk.ctx.project.project, count: all.length, runs: rows });
  return 0;
}

function showText({ digest, facts, ...run }: Run): string {
  const metrics = [...new Set(facts.epochs.flatMap((one) => Object.keys(one.metrics)))];
  const head = factsText([
    ['run', digest],
    ['model', facts.model],
    ['status', facts.reason === null ? facts.status : `${facts.status}: ${reasonLine(facts.reason)}`],
    [
      'metrics',
      facts.best_epoch === null
        ? metricsText(facts.metrics) || null
        : `${metricsText(facts.metrics)} (epoch ${facts.best_epoch})`,
    ],
    ['hyperparameters', pairsText(facts.hyperparameters)],
    ['found by', facts.tuning ?? null],
    ['seed', facts.seed === null ? null : String(facts.seed)],
    ['items', pairsText(facts.items) || null],
    ['environment', pairsText(facts.environment) || null],
    ['started', facts.started_at],
    [
      'seconds',
      `${formatNumber(facts.seconds)}${facts.resumed ? ' (with what interrupted jobs took up to their last checkpoint)' : ''}`,
    ],
    [
      'GPU-seconds',
      facts.gpus === 0 ? null : `${formatNumber(gpuSeconds(facts))} (${plural(facts.gpus, 'GPU')})`,
    ],
    ['by', facts.who],
    ['commit', facts.commit],
    [
      'pipeline',
      facts.pipeline === null ? null : `${facts.pipeline}${facts.job ? `, job ${facts.job}` : ''}`,
    ],
    ...Object.entries(partsOfRun({ digest, facts, ...run })).map(
      ([name, value]) => [name, String(value)] as [string, string],
    ),
    ['source', run.source],
  ]);
  const reason = facts.reason?.includes('\n') ? [cleanText(facts.reason)] : [];
  if (facts.epochs.length === 0) return [head, ...reason].join('\n\n');
  const curve = columnsText(
    ['epoch', 'step', ...metrics],
    facts.epochs.map((one) => [
      String(one.epoch),
      String(one.step),
      ...metrics.map((name) => (one.metrics[name] === undefined ? '–' : formatNumber(one.metrics[name]!))),
    ]),
    '',
    ['epoch', 'step', ...metrics].map(() => 'right'),
  );
  return [head, curve, ...reason].join('\n\n');
}

/** `cdl runs show RUN…`: all that a training told, with its metrics by epoch. */
export async function show(input: CommandInput, desk: RunsDesk, what: readonly string[]): Promise<number> {
  if (what.length === 0) throw new UserError('usage', 'cdl runs show takes a run: see cdl runs ls');
  const chosen = await desk.chosen(what);
  input.console.print(chosen.map(showText).join('\n\n'), { runs: chosen });
  return 0;
}
