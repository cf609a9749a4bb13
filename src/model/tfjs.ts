import { UserError } from '../core/error.ts';
import { openTf } from '../train/backend.ts';
import { loadModel } from '../train/model-files.ts';
import { predict } from '../train/predict.ts';
import type { ModelCode } from '../train/types.ts';
import type { Predictor } from './predictor.ts';

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
