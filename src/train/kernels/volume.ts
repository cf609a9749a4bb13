import type { NamedAttrMap, TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel, KernelScope } from './heap.ts';

type Shape5 = [number, number, number, number, number];
type ConvInfo = ReturnType<KernelScope['tf']['backend_util']['computeConv3DInfo']>;
type Visit = (pixel: number, tap: number, output: number) => void;

function describeConvolution(
  scope: KernelScope,
  image: number[],
  filter: number[],
  attrs: NamedAttrMap,
): ConvInfo {
  return scope.tf.backend_util.computeConv3DInfo(
    image as Shape5,
    filter as Shape5,
    attrs.strides as number,
    1,
    attrs.pad as 'same' | 'valid',
  );
}

function describePool(scope: KernelScope, image: number[], attrs: NamedAttrMap): ConvInfo {
  return scope.tf.backend_util.computePool3DInfo(
    image as Shape5,
    attrs.filterSize as number,
    attrs.strides as number,
    1,
    attrs.pad as 'same' | 'valid',
    attrs.dimRoundingMode as 'floor',
  );
}

/** Calls `visit` for every triple of input voxel, filter tap and output voxel that meet, output by output. */
function eachTap(info: ConvInfo, visit: Visit): void {
  const { inDepth, inHeight, inWidth, filterDepth, filterHeight, filterWidth, padInfo } = info;
  let output = 0;
  for (let n = 0; n < info.batchSize; n++) {
    for (let oz = 0; oz < info.outDepth; oz++) {
      for (let oy = 0; oy < info.outHeight; oy++) {
        for (let ox = 0; ox < info.outWidth; ox++, output++) {
          for (let i = 0, tap = 0; i < filterDepth; i++) {
            const z = oz * info.strideDepth - padInfo.front + i;
            for (let j = 0; j < filterHeight; j++) {
              const y = oy * info.strideHeight - padInfo.top + j;
              for (let k = 0; k < filterWidth; k++, tap++) {
                const x = ox * info.strideWidth - padInfo.left + k;
                if (z < 0 || z >= inDepth || y < 0 || y >= inHeight || x < 0 || x >= inWidth) continue;
                visit(((n * inDepth + z) * inHeight + y) * inWidth + x, tap, output);
              }
            }
          }
        }
      }
    }
  }
}

/**
 * Gradient of a 3-D convolution for its filter: x `[N, D, H, W, C]`, dy `[N, OD, OH, OW, K]` give `[FD, FH, FW, C, K]`.
 * Replaces the wasm kernel, which is wrong for strides above 1.
 */
export const conv3dFilterGradient: HeapKernel = (scope, inputs, attrs) => {
  const { x, dy } = inputs as { x: TensorInfo; dy: TensorInfo };
  const filterShape = attrs.filterShape as Shape5;
  const info = describeConvolution(scope, x.shape, filterShape, attrs);
  const result = scope.zeros(filterShape);
  const [image, gradient, filter] = [scope.floats(x), scope.floats(dy), scope.floats(result)];
  const { inChannels, outChannels } = info;
  eachTap(info, (pixel, tap, output) => {
    for (let c = 0; c < inChannels; c++) {
      const value = image[pixel * inChannels + c]!;
      const start = (tap * inChannels + c) * outChannels;
      for (let k = 0; k < outChannels; k++) filter[start + k]! += value * gradient[output * outChannels + k]!;
    }
  });
  return result;
};

/**
 * Gradient of a 3-D convolution for its input: dy `[N, OD, OH, OW, K]`, filter `[FD, FH, FW, C, K]` give
 * `[N, D, H, W, C]`. Replaces the wasm kernel, which is wrong for more than one item.
 */
export const conv3dInputGradient: HeapKernel = (scope, inputs, attrs) => {
  const { dy, filter } = inputs as { dy: TensorInfo; filter: TensorInfo };
  const inputShape = attrs.inputShape as Shape5;
  const info = describeConvolution(scope, inputShape, filter.shape, attrs);
  const result = scope.zeros(inputShape);
  const [gradient, taps, image] = [scope.floats(dy), scope.floats(filter), scope.floats(result)];
  const { inChannels, outChannels } = info;
  eachTap(info, (pixel, tap, output) => {
    for (let c = 0; c < inChannels; c++) {
      const start = (tap * inChannels + c) * outChannels;
      let sum = 0;
      for (let k = 0; k < outChannels; k++) sum += taps[start + k]! * gradient[output * outChannels + k]!;
      image[pixel * inChannels + c]! += sum;
    }
  });
  return result;
};

/** For every output of a 3-D max pooling the offset of the first maximum of its window. */
function maxima(info: ConvInfo, image: Float32Array): Int32Array {
  const { outDepth, outHeight, outWidth, inChannels: channels } = info;
  const at = new Int32Array(info.batchSize * outDepth * outHeight * outWidth * channels).fill(-1);
  eachTap(info, (pixel, _, output) => {
    for (let c = 0; c < channels; c++) {
      const best = at[output * channels + c]!;
      const offset = pixel * channels + c;
      if (best < 0 || image[offset]! > image[best]!) at[output * channels + c] = offset;
    }
  });
  return at;
}

/**
 * 3-D max pooling of `[N, D, H, W, C]`. Replaces the wasm kernel, whose search starts at a small positive number, so
 * that it is wrong for every window without a positive one.
 */
export const maxPool3d: HeapKernel = (scope, inputs, attrs) => {
  const { x } = inputs as { x: TensorInfo };
  const info = describePool(scope, x.shape, attrs);
  const result = scope.zeros(info.outShape);
  const [image, pooled] = [scope.floats(x), scope.floats(result)];
  maxima(info, image).forEach((offset, output) => {
    pooled[output] = image[offset]!;
  });
  return result;
};

/** Gradient of {@link maxPool3d}: every dy goes to the first maximum of its window. The wasm kernel errs as above. */
export const maxPool3dGradient: HeapKernel = (scope, inputs, attrs) => {
  const { dy, input } = inputs as { dy: TensorInfo; input: TensorInfo };
  const info = describePool(scope, input.shape, attrs);
  const result = scope.zeros(input.shape);
  const [image, gradient, dx] = [scope.floats(input), scope.floats(dy), scope.floats(result)];
  maxima(info, image).forEach((offset, output) => {
    dx[offset]! += gradient[output]!;
  });
  return result;
};
