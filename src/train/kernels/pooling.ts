import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel } from './heap.ts';

/**
 * Gradient of 2-D max pooling: every dy goes to the first maximum of its window.
 *
 * input `[N, H, W, C]`, dy `[N, OH, OW, C]`. Replaces the wasm kernel, which starts its search at zero and so drops the
 * gradient of every window whose maximum is negative.
 */
export const maxPoolGradient: HeapKernel = (scope, inputs, attrs) => {
  const { dy, input } = inputs as { dy: TensorInfo; input: TensorInfo };
  const info = scope.tf.backend_util.computePool2DInfo(
    input.shape as [number, number, number, number],
    attrs.filterSize as number,
    attrs.strides as number,
    1,
    attrs.pad as number,
    attrs.dimRoundingMode as 'floor',
  );
  const result = scope.zeros(input.shape);
  const [image, gradient, dx] = [scope.floats(input), scope.floats(dy), scope.floats(result)];
  const { inHeight, inWidth, outHeight, outWidth, inChannels: channels } = info;
  let output = 0;
  for (let n = 0; n < info.batchSize; n++) {
    for (let oy = 0; oy < outHeight; oy++) {
      const y = oy * info.strideHeight - info.padInfo.top;
      const firstRow = Math.max(0, y);
      const rowEnd = Math.min(inHeight, y + info.filterHeight);
      for (let ox = 0; ox < outWidth; ox++) {
        const x = ox * info.strideWidth - info.padInfo.left;
        const firstColumn = Math.max(0, x);
        const columnEnd = Math.min(inWidth, x + info.filterWidth);
        for (let channel = 0; channel < channels; channel++, output++) {
          let best = Number.NEGATIVE_INFINITY;
          let at = -1;
          for (let row = firstRow; row < rowEnd; row++) {
            let offset = ((n * inHeight + row) * inWidth + firstColumn) * channels + channel;
            for (let column = firstColumn; column < columnEnd; column++, offset += channels) {
              const value = image[offset]!;
              if (value > best) {
                best = value;
                at = offset;
              }
            }
          }
          if (at >= 0) dx[at]! += gradient[output]!;
        }
      }
    }
  }
  return result;
};
