import type { Dimension, TuneConfig } from '../core/project-tune.ts';
import type { Block, Report } from '../core/report.ts';
import { rungs } from '../train/asha.ts';
import { placeOf, type Scalar, valueAt } from '../train/space.ts';
import { importance, settingsOf, type Trial } from '../train/tuning.ts';

/** How many trials are told one by one; the rest is in the artifact. */
const told = 12;
/** How many hyperparameters have a column of their own. */
const mostColumns = 4;
/** How many learning curves one picture can name. */
const curves = 6;
/** How many lines one picture can bear. */
const mostLines = 300;

/** At most so many, evenly. */
function some<T>(all: readonly T[], most: number): T[] {
  const stride = Math.max(1, Math.ceil(all.length / most));
  return all.filter((_, at) => at % stride === 0);
}

const number = (value: Scalar) =>
  typeof value === 'number' ? Number(value.toPrecision(4)).toString() : String(value);
/** In the order of cdl.yaml; what was read from the store has another. */
const pointText = (tune: TuneConfig, trial: Trial) =>
  Object.keys(tune.space)
    .map((name) => `${name} ${number(trial.point[name]!)}`)
    .join(', ');

/** What became of a trial, and why, in a few words. */
function fate(trial: Trial, trials: readonly Trial[], levels: readonly number[], best: Trial): string {
  if (trial.id === best.id) return 'best';
  if (trial.state === 'failed') return `failed: ${trial.why}`;
  if (trial.state === 'running') return 'not judged: the search ended';
  if (trial.losses.length === levels.length) return 'trained to the end';
  const rung = trial.losses.length - 1;
  const there = trials.filter((one) => one.losses.length > rung);
  const place = there.filter((one) => one.losses[rung]! < trial.losses[rung]!).length + 1;
  return `stopped: rank ${place}/${there.length}`;
}

function rungsTable(
  trials: readonly Trial[],
  levels: readonly number[],
  shown: (loss: number) => string,
): Block {
  return {
    kind: 'table',
    head: ['rung', 'epochs', 'reached it', 'went on', 'best', 'last to go on'],
    align: ['right', 'right', 'right', 'right', 'right', 'right'],
    rows: levels.map((epochs, rung) => {
      const there = trials.filter((trial) => trial.losses.length > rung);
      const on = there.filter((trial) => trial.losses.length > rung + 1);
      const losses = there.map((trial) => trial.losses[rung]!);
      const worst = Math.max(...on.map((trial) => trial.losses[rung]!));
      return [
        String(rung + 1),
        String(epochs),
        String(there.length),
        rung === levels.length - 1 ? '–' : String(on.length),
        losses.length > 0 ? shown(Math.min(...losses)) : '–',
        on.length > 0 ? shown(worst) : '–',
      ];
    }),
  };
}

/** How the optimum was found: rungs, who was stopped when and why, what mattered, and pictures of it. */
export function tuneReport(
  model: string,
  tune: TuneConfig,
  trials: readonly Trial[],
  best: Trial,
  why: string,
): Report {
  const levels = rungs(settingsOf(tune));
  const names = Object.keys(tune.space);
  const isLoss = tune.metric === 'validation_loss';
  const shown = (loss: number) => (isLoss ? loss : 1 - loss).toFixed(4);
  const shownShort = (loss: number) => number(isLoss ? loss : 1 - loss);
  const place = (name: string, trial: Trial) => placeOf(tune.space[name]!, trial.point[name]!);
  const mattered = importance(tune.space, trials, place).sort((a, b) => b[1] - a[1]);
  const order = [...trials].sort(
    (a, b) => b.losses.length - a.losses.length || (a.losses.at(-1) ?? 0) - (b.losses.at(-1) ?? 0),
  );
  const epochs = trials.reduce((sum, trial) => sum + trial.curve.length, 0);
  const full = trials.length * tune.max_epochs;
  const failed = trials.filter((trial) => trial.state === 'failed').length;
  const metric = isLoss ? 'loss' : 'accuracy';
  const isWide = names.length > mostColumns;
  const ranked = trials
    .filter((trial) => trial.losses.length > 0)
    .sort((a, b) => a.losses[0]! - b.losses[0]!);
  const drawn = [...some(ranked, mostLines).filter((trial) => trial.id !== best.id), best];
  const curveOf = (trial: Trial) =>
    trial.curve.flatMap((one, at): [number, number][] => {
      const value = isLoss ? one[0] : one[1];
      return value === null ? [] : [[at + 1, value]];
    });
  const blocks: Block[] = [
    {
      kind: 'facts',
      facts: [
        ['best', pointText(tune, best)],
        [tune.metric, `${shown(best.losses.at(-1)!)} after ${best.curve.length} epochs (trial ${best.id})`],
        [
          'search',
          `${tune.scheduler === 'asha' ? `ASHA, 1 in ${tune.reduction} goes on` : 'every trial to the end'}; ${tune.sampler} sampling`,
        ],
        ['trials', `${trials.length}${failed > 0 ? `, ${failed} failed` : ''}; ended because ${why}`],
        ['cost', `${epochs} epochs; all trials to the end would be ${full}`],
      ],
    },
    rungsTable(trials, levels, shown),
    {
      kind: 'chart',
      chart: {
        kind: 'parallel',
        title: `Configurations: the better at epoch ${levels[0]}, the darker; the best in orange`,
        axes: [
          ...names.map((name) => ({
            name,
            scale: !('choice' in tune.space[name]!),
            ticks: ticksOf(tune.space[name]!),
            best: number(best.point[name]!),
          })),
          {
            name: `${metric} at epoch ${levels[0]}`,
            scale: true,
            ticks: [0, 0.5, 1].map((place) => ({
              place,
              text: shownShort(ranked[Math.round((1 - place) * (ranked.length - 1))]!.losses[0]!),
            })),
            best: shownShort(best.losses[0]!),
          },
        ],
        lines: drawn.map((trial) => ({
          places: [
            ...names.map((name) => place(name, trial)),
            1 - ranked.indexOf(trial) / Math.max(1, ranked.length - 1),
          ],
          score: trial.losses[0]!,
          best: trial.id === best.id,
        })),
      },
    },
    {
      kind: 'chart',
      chart: {
        kind: 'lines',
        title: `Validation ${metric} of the longest trials; grey: all others`,
        x: 'epoch',
        y: metric,
        series: order.slice(0, curves).map((trial) => ({
          name: `trial ${trial.id}${trial.id === best.id ? ' (best)' : ''}`,
          points: curveOf(trial),
        })),
        behind: some(order.slice(curves), mostLines).map(curveOf),
      },
    },
    {
      kind: 'chart',
      chart: {
        kind: 'bars',
        title: `What mattered (share of the differences after epoch ${levels[0]})`,
        x: 'hyperparameter',
        y: 'share explained',
        bars: mattered.map(([name, value]) => ({ name, value: Number(value.toFixed(3)) })),
      },
    },
    {
      kind: 'details',
      summary: `Trials (${Math.min(told, trials.length)} of ${trials.length}; all in trials.json of the artifact)`,
      blocks: [
        {
          kind: 'table',
          head: [
            'trial',
            ...(isWide ? [] : names),
            'epochs',
            metric,
            'fate',
            ...(isWide ? ['configuration'] : []),
          ],
          align: [
            'right',
            ...(isWide ? [] : names.map(() => 'right' as const)),
            'right',
            'right',
            'left',
            ...(isWide ? (['left'] as const) : []),
          ],
          rows: order
            .slice(0, told)
            .map((trial) => [
              String(trial.id),
              ...(isWide ? [] : names.map((name) => number(trial.point[name]!))),
              String(trial.curve.length),
              trial.losses.length > 0 ? shown(trial.losses.at(-1)!) : '–',
              fate(trial, trials, levels, best),
              ...(isWide ? [pointText(tune, trial)] : []),
            ]),
        },
      ],
    },
  ];
  return {
    key: `tune:${model}`,
    title: `${model}: search`,
    verdict: failed * 2 > trials.length ? 'warn' : 'pass',
    summary: `Of ${trials.length} configurations the best has ${tune.metric} ${shown(best.losses.at(-1)!)}: ${pointText(tune, best)}.`,
    blocks,
  };
}

/** Every choice where it lies; the ends of a scale, and of a logarithmic one the powers of ten between them. */
function ticksOf(dimension: Dimension): { place: number; text: string }[] {
  const values = 'choice' in dimension ? dimension.choice : null;
  if (values) return values.map((value) => ({ place: placeOf(dimension, value), text: number(value) }));
  const ends = [0, 1].map((place) => ({ place, text: number(valueAt(dimension, place)) }));
  if (!('log' in dimension) || dimension.log === false) return ends;
  const [low, high] = 'int' in dimension ? dimension.int : (dimension.log as [number, number]);
  const powers = Array.from(
    { length: Math.floor(Math.log10(high)) - Math.ceil(Math.log10(low)) + 1 },
    (_, at) => 10 ** (Math.ceil(Math.log10(low)) + at),
  )
    .map((value) => ({ place: placeOf(dimension, value), text: number(value) }))
    .filter(({ place }) => place > 0.1 && place < 0.9);
  return [ends[0]!, ...powers, ends[1]!];
}
