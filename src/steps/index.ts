import type { Step } from './types.ts';

export type { Ctx, Outcome, Step } from './types.ts';

/** A step before it is loaded: what `--help` needs. */
export interface StepEntry {
  name: string;
  summary: string;
  load(): Promise<Step>;
}

/** Every step, in the order of the workflow. */
export const steps: readonly StepEntry[] = [
  {
    name: 'poll',
    summary: 'Look whether the sources of a data set have something new',
    load: async () => (await import('./poll.ts')).poll,
  },
  {
    name: 'ingest',
    summary: 'Collect data from pinned sources and store it as a data version',
    load: async () => (await import('./ingest.ts')).ingest,
  },
  {
    name: 'clean',
    summary: 'Clean collected items; quarantine those that break a rule',
    load: async () => (await import('./clean.ts')).clean,
  },
  {
    name: 'validate',
    summary: 'Check a data version against its rules',
    load: async () => (await import('./validate.ts')).validate,
  },
  {
    name: 'label',
    summary: 'Push items to labelers; make the labelled data version',
    load: async () => (await import('./label.ts')).label,
  },
  {
    name: 'transform',
    summary: 'Turn raw items into tensors with the model’s own fit and encode',
    load: async () => (await import('./transform.ts')).transform,
  },
  {
    name: 'tune',
    summary: 'Search for hyperparameters; stop early what falls behind',
    load: async () => (await import('./tune.ts')).tuneStep,
  },
  {
    name: 'train',
    summary: 'Train a model; keep metrics and checkpoint as a run',
    load: async () => (await import('./train.ts')).train,
  },
  {
    name: 'package',
    summary: 'Pack weights, model code and preprocessing for serving',
    load: async () => (await import('./package.ts')).packageStep,
  },
  {
    name: 'register',
    summary: 'Give the candidate its version number in the model registry',
    load: async () => (await import('./register.ts')).register,
  },
  {
    name: 'evaluate',
    summary: 'Judge a candidate by its gates, on the withheld test set',
    load: async () => (await import('./evaluate.ts')).evaluate,
  },
  {
    name: 'reproduce',
    summary: 'Train a version again from a clean clone, and compare every bit',
    load: async () => (await import('./reproduce.ts')).reproduce,
  },
  {
    name: 'report',
    summary: 'Sum up what the steps of this pipeline reported',
    load: async () => (await import('./report.ts')).report,
  },
  {
    name: 'deploy',
    summary: 'Bring the approved candidate to an environment, step by step',
    load: async () => (await import('./deploy.ts')).deploy,
  },
];
