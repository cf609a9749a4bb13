import type { Metrics } from './types.ts';

/** What was logged at one step. */
export interface StepPoint {
  step: number;
  epoch: number;
  metrics: Metrics;
}

/** The metrics of a training by step. */
export interface StepSeries {
  /** One without a step of its own is passed over; one that was told before takes the place of what it repeats. */
  add(point: StepPoint): void;
  points(): readonly StepPoint[];
}

/** Keeps less than `most` points, evenly: when there are as many, every second goes, and from then on as few are taken. */
export function openStepSeries(most = 10_000): StepSeries {
  let points: StepPoint[] = [];
  let stride = 1;
  let seen = 0;
  return {
    add(point) {
      if (point.step === 0) return;
      // A program that was started again goes on from its checkpoint.
      while ((points.at(-1)?.step ?? 0) >= point.step) points.pop();
      if (seen++ % stride !== 0) return;
      points.push(point);
      if (points.length < most) return;
      points = points.filter((_, at) => at % 2 === 0);
      stride *= 2;
    },
    points: () => points,
  };
}
