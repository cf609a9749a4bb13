import type { Step } from './types.ts';

export { createContext } from './context.ts';
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
    name: 'ingest',
    summary: 'Collect data from its pinned sources, split it by content and store it as a version',
    load: async () => (await import('./ingest.ts')).ingest,
  },
  {
    name: 'validate',
    summary: 'Check a data version against its rules and report on it',
    load: async () => (await import('./validate.ts')).validate,
  },
  {
    name: 'train',
    summary: 'Train a model; metrics and checkpoints are kept as a run',
    load: async () => (await import('./train.ts')).train,
  },
  {
    name: 'package',
    summary: 'Pack weights, model code and preprocessing into what will be served',
    load: async () => (await import('./package.ts')).packageStep,
  },
  {
    name: 'register',
    summary: 'Give the candidate its version number in the model registry',
    load: async () => (await import('./register.ts')).register,
  },
  {
    name: 'evaluate',
    summary: 'Measure a candidate on the withheld test set, against production, and judge it by the gates',
    load: async () => (await import('./evaluate.ts')).evaluate,
  },
  {
    name: 'report',
    summary: 'Sum the pipeline up as one report (markdown, metrics, terminal)',
    load: async () => (await import('./report.ts')).report,
  },
  {
    name: 'deploy',
    summary: 'Bring the approved candidate to an environment, step by step',
    load: async () => (await import('./deploy.ts')).deploy,
  },
];
