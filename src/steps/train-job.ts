import type { Hyperparameters } from '../train/types.ts';

/** What the training process reads from `job.json`. Paths are absolute. */
export interface ChildJob {
  /** Folder of the dataset artifact. */
  data: string;
  /** The bundled model code. */
  code: string;
  hyperparameters: Hyperparameters;
  seed: number;
  validation: { share: number; key: string };
  pretrained: string | null;
  resume: string | null;
  output: string;
}

/** What it tells on file descriptor 3, one JSON document a line: where it runs, then the trainer's events, or why it failed. */
export type ChildMessage =
  | { kind: 'start'; backend: string; train: number; validation: number; versions: Record<string, string> }
  | { kind: 'event'; event: import('../train/types.ts').TrainEvent }
  /** A checkpoint between two epochs, and what shaped the result: of a training by a command. */
  | { kind: 'checkpoint'; checkpoint: string }
  | { kind: 'environment'; environment: Record<string, string> }
  | { kind: 'error'; code: string; message: string; hint: string };
