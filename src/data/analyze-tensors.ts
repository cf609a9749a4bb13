import type { Sensitive } from '../core/project-data-rules.ts';
import type { Block } from '../core/report.ts';
import { classFacts } from './analyze.ts';
import type { Dataset } from './dataset.ts';
import { classChart, lookBlocks, profileTensors } from './look.ts';

/** Range, mean and deviation of all values, and how many items hold one value only. */
function describeValues({ x, count }: Pick<Dataset, 'x' | 'count'>): {
  low: number;
  high: number;
  mean: number;
  deviation: number;
  blank: number;
} {
  const size = count === 0 ? 0 : x.length / count;
  let [low, high, blank] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  // Welford 1962: sums of squares lose the deviation of large values.
  let [mean, squares] = [0, 0];
  for (let item = 0, at = 0; item < count; item++) {
    let isBlank = true;
    const first = x[at]!;
    for (const end = at + size; at < end; at++) {
      const value = x[at]!;
      if (value < low) low = value;
      if (value > high) high = value;
      if (value !== first) isBlank = false;
      const off = value - mean;
      mean += off / (at + 1);
      squares += off * (value - mean);
    }
    if (isBlank) blank++;
  }
  return { low, high, mean, deviation: Math.sqrt(squares / Math.max(1, x.length)), blank };
}

const round = (value: number) => String(Number(value.toPrecision(5)));

/** What one side of a data set of tensors is made of: amounts, values, and a few items where they are pictures. */
export async function analyzeTensors(dataset: Dataset, sensitive: Sensitive | undefined): Promise<Block[]> {
  const { classes, shape, count } = dataset;
  const profile = await profileTensors(dataset, sensitive, true);
  const values = count === 0 ? null : describeValues(dataset);
  return [
    {
      kind: 'facts',
      facts: [
        ['items', `${count}, each ${shape.join(' × ')}`],
        ...classFacts(classes, profile),
        ...(values
          ? ([
              ['values', `${round(values.low)} … ${round(values.high)}`],
              ['mean ± deviation', `${round(values.mean)} ± ${round(values.deviation)}`],
              ['items of one value only', String(values.blank)],
            ] as [string, string][])
          : []),
      ],
    },
    classChart(classes, profile.perClass),
    ...lookBlocks(profile, classes),
  ];
}
