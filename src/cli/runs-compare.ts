import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import type { Run } from '../model/runs.ts';
import { formatNumber } from '../report/text.ts';
import { mostListed } from './actions.ts';
import { lookInside, type Made } from './changes.ts';
import { changedValues, changesText, valueText } from './changes-text.ts';
import { columnsText } from './columns.ts';
import { isLowerBetter, partsOfRun, settingsOf, under } from './run-values.ts';
import type { RunsDesk } from './runs.ts';
import { runsTable } from './runs-show.ts';
import type { CommandInput } from './types.ts';

function valuesOf(run: Run): Record<string, unknown> {
  const { facts } = run;
  return {
    ...partsOfRun(run),
    ...settingsOf(facts),
    status: facts.status,
    ...Object.fromEntries(under('metrics', facts.metrics)),
    seconds: facts.seconds,
  };
}

/** `cdl runs compare RUN RUN…`: every value in which some of the runs differ, side by side. */
export async function compare(input: CommandInput, desk: RunsDesk, what: readonly string[]): Promise<number> {
  if (what.length < 2) throw new UserError('usage', 'cdl runs compare takes two runs or more');
  const chosen = await desk.chosen(what);
  const values = chosen.map(valuesOf);
  const names = [...new Set(values.flatMap((one) => Object.keys(one)))];
  const differing = names.filter((name) => new Set(values.map((one) => one[name])).size > 1);
  const rows = differing.map((name) => ({ name, values: values.map((one) => one[name] ?? null) }));
  const text = columnsText(
    ['', ...chosen.map(({ digest }) => shortDigest(digest))],
    rows.map((row) => [row.name, ...row.values.map(valueText)]),
    'they do not differ in anything that runs tell',
  );
  input.console.print(text, { runs: chosen.map(({ digest }) => digest), values: rows });
  return 0;
}

/** The metric that is looked at when none is named. */
const usual = ['validationAccuracy', 'accuracy', 'validationLoss', 'loss'];

/** Whether a word can stand for a run: the beginning of a digest, or a version. */
const namesRun = (word: string) => /^((sha256:)?[0-9a-f]{4,64}|v\d{1,9})$/i.test(word);

/**
 * `cdl runs best [METRIC] [RUN…]`: the runs with the best value of a metric; of loss and error the lowest, of others the highest.
 */
export async function best(input: CommandInput, desk: RunsDesk, what: readonly string[]): Promise<number> {
  const most = mostListed(input);
  const named = typeof input.options.metric === 'string' ? input.options.metric : undefined;
  const isFirst = named === undefined && what[0] !== undefined && !namesRun(what[0]);
  const given = isFirst ? what[0] : named;
  const done = (await desk.listed(isFirst ? what.slice(1) : what)).filter(
    ({ facts }) => facts.status === 'done',
  );
  const known = [...new Set(done.flatMap(({ facts }) => Object.keys(facts.metrics)))].sort();
  const metric = given ?? usual.find((name) => known.includes(name)) ?? known[0];
  if (metric === undefined)
    throw new UserError('input-missing', 'there is no run with metrics yet', 'run cdl train first');
  if (!known.includes(metric)) {
    const guess = nearest(metric, known);
    throw new UserError(
      'input-missing',
      `no run tells ${metric}${guess ? ` — did you mean ${guess}?` : ''}`,
      `they tell ${known.join(', ') || 'nothing'}`,
    );
  }
  const sign = isLowerBetter(metric) ? 1 : -1;
  const ranked = done
    .filter(({ facts }) => facts.metrics[metric] !== undefined)
    .sort((a, b) => sign * (a.facts.metrics[metric]! - b.facts.metrics[metric]!))
    .slice(0, most);
  const word = sign === 1 ? 'lowest' : 'highest';
  input.console.print(
    `${word} ${metric}: ${formatNumber(ranked[0]!.facts.metrics[metric]!)}\n${runsTable(ranked)}`,
    {
      metric,
      order: word,
      runs: ranked.map(({ digest, facts }) => ({
        run: digest,
        value: facts.metrics[metric],
        ...facts,
        epochs: undefined,
      })),
    },
  );
  return 0;
}

const madeOf = ({ facts, dataset, checkpoint }: Run): Made => ({
  code: facts.code,
  commit: facts.commit,
  dataset,
  checkpoint,
});

/** `cdl runs diff A B`: how run B differs from A: code, data, weights, settings, metrics. */
export async function diff(input: CommandInput, desk: RunsDesk, what: readonly string[]): Promise<number> {
  if (what.length !== 2) throw new UserError('usage', 'cdl runs diff takes two runs');
  const [a, b] = (await desk.chosen(what)) as [Run, Run];
  const parts = changedValues(partsOfRun(a), partsOfRun(b));
  const inside = await lookInside(desk.ctx.root, desk.work, madeOf(a), madeOf(b));
  const config = changedValues(settingsOf(a.facts), settingsOf(b.facts));
  const metrics = changedValues({ ...a.facts.metrics }, { ...b.facts.metrics });
  const head = `run ${shortDigest(a.digest)} → ${shortDigest(b.digest)}`;
  input.console.print([head, ...changesText({ parts, inside, config, metrics })].join('\n'), {
    from: a.digest,
    to: b.digest,
    parts,
    ...inside,
    config,
    metrics,
  });
  return 0;
}
