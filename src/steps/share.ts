import type { Ctx, Outcome } from './types.ts';

/** What a job tells that did its share of the `work` on a data set, while others are still at theirs. */
export function shareDone(share: {
  step: string;
  dataset: string;
  node: Ctx['node'];
  work: string;
  /** What became of the share. */
  done: string;
}): Outcome {
  const { step, dataset, work, done } = share;
  const { index, total } = share.node;
  return {
    partial: true,
    outputs: {},
    report: {
      key: `${step}:${dataset}`,
      title: `${dataset}: part of the ${work}`,
      verdict: 'pass',
      summary: `Share ${index + 1} of ${total} is ${done}; the job that is done last puts the shares together.`,
      blocks: [],
    },
  };
}
