import type { Dimension, TuneConfig } from '../core/project-tune.ts';
import type { Block, Report } from '../core/report.ts';
import { rungs } from '../train/asha.ts';
import { placeOf, type Scalar, valueAt } from '../train/space.ts';
import { importance, settingsOf, type Trial } from '../train/tuning.ts';

/** How many trials are told one by one; the rest is in the artifact. */
const told = 12;
/** How many learning curves one picture can bear. */
const curves = 6;

const number = (value: Scalar) =>
  typeof value === 'number' ? Number(value.toPrecision(4)).toString() : String(value);
/** In the order of cdl.yaml; what was read from the store has another. */
const pointText = (tune: TuneConfig, trial: Trial) =>
  Object.keys(tune.space)
    .map((name) => `${name} ${number(trial.point[name]!)}`)
    .join(', ');

/** What became of a trial, in a few words. */
function fate(trial: Trial, levels: readonly number[], best: Trial): string {
  if (trial.id === best.id) return 'best';
  if (trial.state === 'failed') return `failed: ${trial.why}`;
  if (trial.state === 'running') return 'not judged: the search ended';
  return trial.losses.length === levels.length ? 'trained to the end' : 'stopped: others were better';
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
  const place = (name: string, trial: Trial) => placeOf(tune.space[name]!, trial.point[name]!);
  const mattered = importance(tune.space, trials, place).sort((a, b) => b[1] - a[1]);
  const order = [...trials].sort(
    (a, b) => b.losses.length - a.losses.length || (a.losses.at(-1) ?? 0) - (b.losses.at(-1) ?? 0),
  );
  const epochs = trials.reduce((sum, trial) => sum + trial.curve.length, 0);
  const full = trials.length * tune.max_epochs;
  const failed = trials.filter((trial) => trial.state === 'failed').length;
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
        title: 'Configurations: the better, the darker',
        axes: names.map((name) => ({
          name,
          ticks: ticksOf(tune.space[name]!),
          best: number(best.point[name]!),
        })),
        lines: trials
          .filter((trial) => trial.losses.length > 0)
          .map((trial) => ({
            places: names.map((name) => place(name, trial)),
            score: trial.losses[0]!,
            best: trial.id === best.id,
          })),
      },
    },
    {
      kind: 'chart',
      chart: {
        kind: 'lines',
        title: isLoss ? 'Validation loss of the longest trials' : 'Validation accuracy of the longest trials',
        x: 'epoch',
        y: isLoss ? 'loss' : 'accuracy',
        series: order.slice(0, curves).map((trial) => ({
          name: `trial ${trial.id}${trial.id === best.id ? ' (best)' : ''}`,
          points: trial.curve.flatMap((one, at): [number, number][] => {
            const told = isLoss ? one[0] : one[1];
            return told === null ? [] : [[at + 1, told]];
          }),
        })),
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
          head: ['trial', ...names, 'epochs', tune.metric, 'fate'],
          align: ['right', ...names.map(() => 'right' as const), 'right', 'right', 'left'],
          rows: order
            .slice(0, told)
            .map((trial) => [
              String(trial.id),
              ...names.map((name) => number(trial.point[name]!)),
              String(trial.curve.length),
              trial.losses.length > 0 ? shown(trial.losses.at(-1)!) : '–',
              fate(trial, levels, best),
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

/** Every choice where it lies; the ends of a scale. */
function ticksOf(dimension: Dimension): { place: number; text: string }[] {
  const values = 'choice' in dimension ? dimension.choice : null;
  if (values) return values.map((value) => ({ place: placeOf(dimension, value), text: number(value) }));
  return [0, 1].map((place) => ({ place, text: number(valueAt(dimension, place)) }));
}
