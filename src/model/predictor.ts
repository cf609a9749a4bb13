import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import type { ItemArray } from '../data/npy.ts';
import { openTf } from '../train/backend.ts';
import { loadModel } from '../train/model-files.ts';
import { predict } from '../train/predict.ts';
import type { ModelCode } from '../train/types.ts';
import { onnxFile, openOnnx } from './onnx.ts';

/** A model that answers, whatever computes it: the same one in evaluation and server. */
export interface Predictor {
  readonly backend: string;
  /** Probabilities `[N, classes]`, row-major, of items of this shape. Throws UserError code-invalid or data-invalid. */
  predict(x: ItemArray, shape: number[]): Promise<Float32Array> | Float32Array;
  dispose(): void;
}

/** Whether a package is run by ONNX Runtime: then it needs native code, and `preprocess` of its code is not asked. */
export const isOnnx = (folder: string): boolean => existsSync(join(folder, onnxFile));

/** Opens a package of TensorFlow.js: `model.json`, `weights.bin` and the `preprocess` of its code. Throws UserError. */
export async function openTfjs(folder: string, code: Partial<ModelCode>): Promise<Predictor> {
  const { preprocess } = code;
  if (typeof preprocess !== 'function') {
    throw new UserError('code-invalid', 'the model code does not export the function preprocess');
  }
  const { tf, backend } = await openTf();
  const model = await loadModel(tf, folder);
  return {
    backend,
    predict: (x, shape) => predict(tf, model, preprocess, { x, shape }),
    dispose: () => model.dispose(),
  };
}

export { openOnnx };
