import type { EncodeConfig } from '../core/project-transform.ts';

/** What the transforming process reads from `job.json`. Paths are absolute. */
export interface TransformJob {
  /** Folder of the raw data set artifact of the training side. */
  data: string;
  /** The bundled model code, or the configuration that stands for it. */
  code: string | EncodeConfig;
  parameters: Record<string, string | number | boolean>;
  output: string;
}

/** What it tells on file descriptor 3, one JSON document a line. */
export type TransformMessage =
  | { kind: 'progress'; what: string; share: number }
  | { kind: 'done'; count: number; unlabelled: number; type: 'uint8' | 'float32'; shape: number[] }
  | { kind: 'error'; code: string; message: string; hint: string };
