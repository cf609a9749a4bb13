import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel, KernelScope } from './heap.ts';

type Shape4 = [number, number, number, number];
type ConvInfo = ReturnType<KernelScope['tf']['backend_util']['computeConv2DInfo']>;

function describe(
  scope: KernelScope,
  image: number[],
  filter: number[],
  attrs: Record<string, unknown>,
): ConvInfo {
  return scope.tf.backend_util.computeConv2DInfo(
    image as Shape4,
    filter as Shape4,
    attrs.strides as number,
    attrs.dilations as number,
    attrs.pad as number,
    attrs.dimRoundingMode as 'floor',
    true,
  );
}

/** Calls `visit` for every pair of a filter tap and an output pixel that meet on an input pixel, by flat offsets. */
function eachTap(info: ConvInfo, visit: (pixel: number, tap: number, output: number) => void): void {
  const { inHeight, inWidth, outHeight, outWidth, filterHeight, filterWidth, padInfo } = info;
  for (let n = 0; n < info.batchSize; n++) {
    for (let oy = 0; oy < outHeight; oy++) {
      for (let i = 0; i < filterHeight; i++) {
        const y = oy * info.strideHeight - padInfo.top + i * info.dilationHeight;
        if (y < 0 || y >= inHeight) continue;
        for (let ox = 0; ox < outWidth; ox++) {
          for (let j = 0; j < filterWidth; j++) {
            const x = ox * info.strideWidth - padInfo.left + j * info.dilationWidth;
            if (x < 0 || x >= inWidth) continue;
            visit(
              (n * inHeight + y) * inWidth + x,
              i * filterWidth + j,
              (n * outHeight + oy) * outWidth + ox,
            );
          }
        }
      }
    }
  }
}

/**
 * Gradient of a depthwise convolution for its filter; the wasm backend has none.
 *
 * x `[N, H, W, C]` and dy `[N, OH, OW, C·M]` give dW `[FH, FW, C, M]`; output channel q belongs to input channel q div M.
 */
export const depthwiseFilterGradient: HeapKernel = (scope, inputs, attrs) => {
  const { x, dy } = inputs as { x: TensorInfo; dy: TensorInfo };
  const filterShape = attrs.filterShape as Shape4;
  const info = describe(scope, x.shape, filterShape, attrs);
  const result = scope.zeros(filterShape);
  const [image, gradient, filter] = [scope.floats(x), scope.floats(dy), scope.floats(result)];
  const { inChannels, outChannels } = info;
  const multiplier = outChannels / inChannels;
  eachTap(info, (pixel, tap, output) => {
    for (let channel = 0, q = 0; channel < inChannels; channel++) {
      const value = image[pixel * inChannels + channel]!;
      for (let m = 0; m < multiplier; m++, q++) {
        filter[tap * outChannels + q]! += value * gradient[output * outChannels + q]!;
      }
    }
  });
  return result;
};

/**
 * Gradient of a depthwise convolution for its input; the wasm backend has none.
 *
 * dy `[N, OH, OW, C·M]` and filter `[FH, FW, C, M]` give dx `[N, H, W, C]`.
 */
export const depthwiseInputGradient: HeapKernel = (scope, inputs, attrs) => {
  const { dy, filter } = inputs as { dy: TensorInfo; filter: TensorInfo };
  const inputShape = attrs.inputShape as Shape4;
  const info = describe(scope, inputShape, filter.shape, attrs);
  const result = scope.zeros(inputShape);
  const [gradient, taps, image] = [scope.floats(dy), scope.floats(filter), scope.floats(result)];
  const { inChannels, outChannels } = info;
  const multiplier = outChannels / inChannels;
  eachTap(info, (pixel, tap, output) => {
    for (let channel = 0, q = 0; channel < inChannels; channel++) {
      let sum = 0;
      for (let m = 0; m < multiplier; m++, q++) {
        sum += gradient[output * outChannels + q]! * taps[tap * outChannels + q]!;
      }
      image[pixel * inChannels + channel]! += sum;
    }
  });
  return result;
};
