import { expect, it } from 'vitest';
import { openStepSeries } from '../../src/train/step-series.ts';

const steps = (series: ReturnType<typeof openStepSeries>) => series.points().map(({ step }) => step);

it('metrics by step stay few and even, however many there are', () => {
  const series = openStepSeries(8);
  for (let step = 1; step <= 40; step++) series.add({ step, epoch: 1, metrics: { loss: 1 / step } });
  expect(steps(series)).toEqual([1, 9, 17, 25, 33]);
});

it('what a training repeats after it was started again counts once, and what has no step not at all', () => {
  const series = openStepSeries();
  for (const step of [1, 2, 3, 0, 2, 3, 4]) series.add({ step, epoch: 1, metrics: { loss: step } });
  expect(steps(series)).toEqual([1, 2, 3, 4]);
});
