import type { Hyperparameters, LayersModel, Tensor, Tf } from 'cdl';

/** Pixels from bytes to 0…1. */
export function preprocess(tf: Tf, raw: Tensor): Tensor {
  return tf.div(tf.cast(raw, 'float32'), 255);
}

/** The smallest network that is worth the name. */
export function build(tf: Tf, hyperparameters: Hyperparameters): LayersModel {
  return tf.sequential({
    layers: [
      tf.layers.flatten({ inputShape: [4, 4] }),
      tf.layers.dense({ units: Number(hyperparameters.hidden ?? 4), activation: 'relu' }),
      tf.layers.dense({ units: 2, activation: 'softmax' }),
    ],
  });
}
