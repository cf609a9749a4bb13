import type { ItemArray } from '../data/npy.ts';

/** A model that answers, whatever computes it: the same one in evaluation and server. */
export interface Predictor {
  readonly backend: string;
  /** Probabilities `[N, classes]`, row-major, of items of this shape. Throws UserError code-invalid or data-invalid. */
  predict(x: ItemArray, shape: number[]): Promise<Float32Array> | Float32Array;
  dispose(): void;
}
