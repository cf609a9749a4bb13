import { UserError } from '../core/error.ts';
import { checkData, gatherItems, itemSize } from './batches.ts';
import { outputKind, scoreProbabilities, softmaxRows } from './loss.ts';
import type { LayersModel, Metrics, ModelCode, Tf, TrainData } from './types.ts';

/**
 * The class probabilities `[N, classes]` of raw items, row-major, computed `batchSize` items at a time.
 *
 * `preprocess` is the model code's own; logits become probabilities. Throws a UserError (data-invalid) when `x` is not a
 * whole number of items, (code-invalid) when the model's output is not one of classes.
 */
export function predict(
  tf: Tf,
  model: LayersModel,
  preprocess: ModelCode['preprocess'],
  data: Pick<TrainData, 'x' | 'shape'>,
  batchSize = 256,
): Float32Array {
  const size = itemSize(data.shape);
  const count = data.x.length / size;
  if (!Number.isInteger(count)) {
    throw new UserError(
      'data-invalid',
      `${data.x.length} numbers are no whole items of shape [${data.shape}]`,
    );
  }
  const classes = model.outputs[0]?.shape[1] ?? 0;
  const kind = outputKind(model, classes);
  const rows = new Float32Array(count * classes);
  for (let from = 0; from < count; from += batchSize) {
    const to = Math.min(count, from + batchSize);
    const outputs = tf.tidy(() => {
      const output = model.apply(preprocess(tf, gatherItems(tf, data, null, from, to)), { training: false });
      return (Array.isArray(output) ? output[0]! : output) as ReturnType<Tf['tensor']>;
    });
    rows.set(outputs.dataSync() as Float32Array, from * classes);
    outputs.dispose();
  }
  return kind === 'logits' ? softmaxRows(rows, classes) : rows;
}

/** Loss (nats) and accuracy of a model on labelled data. Throws as {@link predict} does. */
export function evaluateModel(
  tf: Tf,
  model: LayersModel,
  preprocess: ModelCode['preprocess'],
  data: TrainData,
  batchSize = 256,
): Metrics & { loss: number; accuracy: number } {
  checkData(data, 'data');
  const rows = predict(tf, model, preprocess, data, batchSize);
  return scoreProbabilities(rows, data.y, data.classes.length);
}
