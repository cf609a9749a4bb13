import type { Hyperparameters, LayersModel, Tensor, Tf } from 'cdl';

/** Pixels from bytes to 0…1, with one channel. The same function runs in training, evaluation and serving. */
export function preprocess(tf: Tf, raw: Tensor): Tensor {
  return tf.div(tf.reshape(tf.cast(raw, 'float32'), [-1, 28, 28, 1]), 255);
}

/** A network that ends in ten probabilities; which one is the hyperparameter `architecture`. */
export function build(tf: Tf, hyperparameters: Hyperparameters): LayersModel {
  return hyperparameters.architecture === 'lenet5'
    ? lenet5(tf)
    : mlp(tf, Number(hyperparameters.hidden ?? 64));
}

function mlp(tf: Tf, hidden: number): LayersModel {
  return tf.sequential({
    layers: [
      tf.layers.flatten({ inputShape: [28, 28, 1] }),
      tf.layers.dense({ units: hidden, activation: 'relu', kernelInitializer: 'heNormal' }),
      tf.layers.dense({ units: 10, activation: 'softmax' }),
    ],
  });
}

/** LeCun, Bottou, Bengio, Haffner 1998, with ReLU and max pooling. */
function lenet5(tf: Tf): LayersModel {
  return tf.sequential({
    layers: [
      tf.layers.conv2d({
        inputShape: [28, 28, 1],
        filters: 6,
        kernelSize: 5,
        padding: 'same',
        activation: 'relu',
      }),
      tf.layers.maxPooling2d({ poolSize: 2, strides: 2 }),
      tf.layers.conv2d({ filters: 16, kernelSize: 5, activation: 'relu' }),
      tf.layers.maxPooling2d({ poolSize: 2, strides: 2 }),
      tf.layers.flatten(),
      tf.layers.dense({ units: 120, activation: 'relu' }),
      tf.layers.dense({ units: 84, activation: 'relu' }),
      tf.layers.dense({ units: 10, activation: 'softmax' }),
    ],
  });
}
