import type { Tensor, Tf } from './types.ts';

/** Operations whose method on a tensor takes the tensor as the first argument, named as in the API reference. */
const plain =
  `abs acos acosh add all any argMax argMin asin asinh atan atan2 atanh avgPool batchNorm batchToSpaceND broadcastTo
  cast ceil clipByValue conv1d conv2d conv2dTranspose cos cosh cumprod cumsum depthToSpace depthwiseConv2d dilation2d
  div divNoNan dot elu equal erf euclideanNorm exp expandDims expm1 fft floor floorDiv gather greater greaterEqual ifft
  irfft isFinite isInf isNaN leakyRelu less lessEqual localResponseNormalization log log1p logSigmoid logSoftmax
  logSumExp logicalAnd logicalNot logicalOr logicalXor matMul max maxPool maximum mean min minimum mirrorPad mod mul neg
  norm notEqual oneHot onesLike pad pool pow prelu prod reciprocal relu relu6 reshape resizeBilinear
  resizeNearestNeighbor reverse rfft round rsqrt selu separableConv2d sigmoid sign sin sinh slice softmax softplus
  spaceToBatchND split sqrt square squaredDifference squeeze step stridedSlice sub sum tan tanh tile topk transpose
  unique unsortedSegmentSum unstack zerosLike`.split(/\s+/);

type Operation = (...args: unknown[]) => unknown;

/**
 * Gives tensors the operations as methods (`raw.toFloat().div(255)`).
 *
 * The native packages bring them, the packages we load for wasm and cpu do not, and a model file must run on all.
 * Methods that exist are left alone. Source: TensorFlow.js API reference, class `tf.Tensor`.
 */
export function registerChainedOperations(tf: Tf): void {
  const operations = tf as unknown as Record<string, Operation | undefined>;
  const methods: Record<string, (this: Tensor, ...args: unknown[]) => unknown> = {
    toFloat() {
      return tf.cast(this, 'float32');
    },
    toInt() {
      return tf.cast(this, 'int32');
    },
    toBool() {
      return tf.cast(this, 'bool');
    },
    asType(dtype) {
      return tf.cast(this, dtype as 'float32');
    },
    flatten() {
      return tf.reshape(this, [this.size]);
    },
    as1D() {
      return tf.reshape(this, [this.size]);
    },
    asScalar() {
      return tf.reshape(this, []);
    },
    reshapeAs(other) {
      return tf.reshape(this, (other as Tensor).shape);
    },
    concat(others, axis) {
      const list = Array.isArray(others) ? (others as Tensor[]) : [others as Tensor];
      return tf.concat([this, ...list], axis as number);
    },
    stack(others, axis) {
      const list = Array.isArray(others) ? (others as Tensor[]) : [others as Tensor];
      return tf.stack([this, ...list], axis as number);
    },
    where(condition, other) {
      return tf.where(condition as Tensor, this, other as Tensor);
    },
  };
  for (const rank of [2, 3, 4, 5]) {
    methods[`as${rank}D`] = function (...shape) {
      return tf.reshape(this, shape as number[]);
    };
  }
  for (const name of plain) {
    const operation = operations[name];
    if (!operation) continue;
    methods[name] = function (...args) {
      return operation(this, ...args);
    };
  }
  const prototype = tf.Tensor.prototype as unknown as Record<string, unknown>;
  for (const [name, method] of Object.entries(methods)) prototype[name] ??= method;
}
