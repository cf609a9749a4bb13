import { UserError } from '../core/error.ts';
import type { LayersModel, Tensor, Tf } from './types.ts';

/** What the model's output `[N, classes]` holds. */
export type OutputKind = 'probabilities' | 'logits';

/** Below this a probability counts as this, so that its logarithm is finite; far under what float32 softmax rounds to 0. */
const smallest = 1e-37;

/**
 * Finds out what a model puts out: probabilities when its last layer is a softmax, logits when it is linear.
 *
 * Throws a UserError (code-invalid) when there is more than one output, its width is not the number of classes, or the
 * last activation is another one.
 */
export function outputKind(model: LayersModel, classes: number): OutputKind {
  const shapes = model.outputs.map((output) => output.shape);
  const shape = shapes[0];
  if (shapes.length !== 1 || !shape || shape.length !== 2 || shape[1] !== classes) {
    const got = shapes.map((each) => `[${each.map((size) => size ?? 'N')}]`).join(', ');
    throw new UserError(
      'code-invalid',
      `the model puts out ${got}; it has to be one [N, ${classes}], a column a class`,
    );
  }
  const last = model.outputs[0]!.sourceLayer;
  const activation =
    'activation' in last ? (last.activation as { getClassName?(): string } | null)?.getClassName?.() : null;
  if (last.getClassName() === 'Softmax' || activation === 'softmax') return 'probabilities';
  if (
    last.getClassName() === 'Activation' ? activation === 'linear' : (activation ?? 'linear') === 'linear'
  ) {
    return 'logits';
  }
  throw new UserError(
    'code-invalid',
    `the last layer ${last.name} has the activation ${activation ?? 'unknown'}; use softmax, or linear for logits`,
  );
}

/**
 * Mean cross-entropy in nats between outputs `[N, classes]` and one-hot targets of the same shape; a scalar tensor.
 *
 * Gradients in closed form: (softmax(z) − t)/N for logits z, −t/(p·N) for probabilities p.
 */
export function crossEntropy(tf: Tf, kind: OutputKind, outputs: Tensor, targets: Tensor): Tensor {
  const count = outputs.shape[0]!;
  const loss = tf.customGrad((...args) => {
    const [output, target, save] = args as unknown as [Tensor, Tensor, (tensors: Tensor[]) => void];
    const log = kind === 'logits' ? tf.logSoftmax(output) : tf.log(tf.maximum(output, smallest));
    save([kind === 'logits' ? log : output, target]);
    return {
      value: tf.div(tf.neg(tf.sum(tf.mul(log, target))), count),
      gradFunc: (dy: Tensor, saved: Tensor[]) => {
        const [known, wanted] = saved as [Tensor, Tensor];
        const slope =
          kind === 'logits'
            ? tf.sub(tf.exp(known), wanted)
            : tf.neg(tf.div(wanted, tf.maximum(known, smallest)));
        return [tf.mul(slope, tf.div(dy, count)), tf.zerosLike(wanted)];
      },
    };
  });
  return loss(outputs, targets);
}

/** Labels as rows of 0 and 1, `[N, classes]` float32. */
export function oneHot(tf: Tf, labels: ArrayLike<number>, classes: number): Tensor {
  const rows = new Float32Array(labels.length * classes);
  for (let row = 0; row < labels.length; row++) rows[row * classes + labels[row]!] = 1;
  return tf.tensor(rows, [labels.length, classes]);
}

/** Turns rows of logits into probabilities, in place and in double precision; the largest logit is taken off first. */
export function softmaxRows(rows: Float32Array, classes: number): Float32Array {
  for (let start = 0; start < rows.length; start += classes) {
    const row = rows.subarray(start, start + classes);
    let top = Number.NEGATIVE_INFINITY;
    for (const value of row) if (value > top) top = value;
    let sum = 0;
    for (const value of row) sum += Math.exp(value - top);
    for (let k = 0; k < classes; k++) row[k] = Math.exp(row[k]! - top) / sum;
  }
  return rows;
}

/** How many rows of `[N, classes]` have their (first) largest value in the column of their label. */
export function countCorrect(rows: Float32Array, labels: ArrayLike<number>, classes: number): number {
  let correct = 0;
  for (let item = 0; item < labels.length; item++) {
    let best = 0;
    for (let k = 1; k < classes; k++) {
      if (rows[item * classes + k]! > rows[item * classes + best]!) best = k;
    }
    if (best === labels[item]) correct++;
  }
  return correct;
}

/** Mean cross-entropy (nats) and accuracy of probabilities `[N, classes]`. */
export function scoreProbabilities(
  probabilities: Float32Array,
  labels: ArrayLike<number>,
  classes: number,
): { loss: number; accuracy: number } {
  let loss = 0;
  for (let item = 0; item < labels.length; item++) {
    loss -= Math.log(Math.max(probabilities[item * classes + labels[item]!]!, smallest));
  }
  return {
    loss: loss / labels.length,
    accuracy: countCorrect(probabilities, labels, classes) / labels.length,
  };
}
