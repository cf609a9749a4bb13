import type { KernelFunc, NamedAttrMap, TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel, KernelScope } from './heap.ts';

type Shape4 = [number, number, number, number];
type Describe = KernelScope['tf']['backend_util']['computeConv2DInfo'];

function describe(
  scope: KernelScope,
  image: Shape4,
  filter: Shape4,
  attrs: NamedAttrMap,
): ReturnType<Describe> {
  return scope.tf.backend_util.computeConv2DInfo(
    image,
    filter,
    attrs.strides as number,
    1,
    attrs.pad as Parameters<Describe>[4],
    attrs.dimRoundingMode as 'floor' | 'round' | 'ceil',
  );
}

/**
 * Gradient of a 2-D convolution for its filter; the wasm backend has none.
 *
 * x `[N, H, W, C]` and dy `[N, OH, OW, K]` give dW `[FH, FW, C, K]`. It is itself a convolution: dW[i, j, c, k] sums
 * x[n, i + s·y, j + s·z, c] · dy[n, y, z, k] over n, y, z, so with channels and batch exchanged dy is the filter that
 * slides, dilated by the stride, over x. That runs in XNNPACK instead of in JavaScript.
 * Throws an Error for any layout but NHWC, as the forward kernel does.
 */
export const conv2dFilterGradient: HeapKernel = (scope, inputs, attrs) => {
  const { x, dy } = inputs as { x: TensorInfo; dy: TensorInfo };
  if (attrs.dataFormat !== 'NHWC') throw new Error('Conv2DBackpropFilter: only NHWC is supported');
  const filterShape = attrs.filterShape as Shape4;
  const info = describe(scope, x.shape as Shape4, filterShape, attrs);
  const { inHeight, inWidth, batchSize, inChannels: channels } = info;
  const { top, bottom, left, right } = info.padInfo;
  const [wideHeight, wideWidth] = [inHeight + top + bottom, inWidth + left + right];
  const image = scope.temporary([channels, wideHeight, wideWidth, batchSize]);
  // Padding and transposing in one pass: as two kernels they take longer than the convolution of a first layer.
  const [from, to] = [scope.floats(x), scope.floats(image)];
  let at = 0;
  for (let n = 0; n < batchSize; n++) {
    for (let row = 0; row < inHeight; row++) {
      for (let column = 0; column < inWidth; column++) {
        let target = ((row + top) * wideWidth + column + left) * batchSize + n;
        for (let c = 0; c < channels; c++, target += wideHeight * wideWidth * batchSize)
          to[target] = from[at++]!;
      }
    }
  }
  const filter = scope.run('Transpose', { x: dy }, { perm: [1, 2, 0, 3] });
  const [filterHeight, filterWidth, inChannels, outChannels] = filterShape;
  const slid = scope.run(
    'Conv2D',
    { x: image, filter },
    { strides: [1, 1], pad: 'valid', dataFormat: 'NHWC', dilations: [info.strideHeight, info.strideWidth] },
  );
  // A stride that does not divide the image leaves rows that no window reached: they are no part of the filter.
  const exact =
    slid.shape[1] === filterHeight && slid.shape[2] === filterWidth
      ? slid
      : scope.run(
          'Slice',
          { x: slid },
          { begin: [0, 0, 0, 0], size: [inChannels, filterHeight, filterWidth, outChannels] },
        );
  return scope.run('Transpose', { x: exact }, { perm: [1, 2, 0, 3] });
};

/**
 * Gradient of a 2-D convolution for its input, instead of the plain loops of the wasm backend (seven times slower for
 * the second layer of LeNet-5).
 *
 * dy `[N, OH, OW, K]` and filter `[FH, FW, C, K]` give dx `[N, H, W, C]`. It is the convolution, with stride 1, of dy
 * spread out by the stride and padded, with the filter turned by 180° and its channels exchanged (Dumoulin and Visin
 * 2016, arXiv:1603.07285, section 4). Where the forward padding is wider than the filter, `plain` runs.
 */
export function conv2dInputGradient(plain: KernelFunc): HeapKernel {
  return (scope, inputs, attrs) => {
    const { dy, filter } = inputs as { dy: TensorInfo; filter: TensorInfo };
    const inputShape = attrs.inputShape as Shape4;
    const info = describe(scope, inputShape, filter.shape as Shape4, attrs);
    const [batch, height, width, inChannels] = inputShape;
    const { filterHeight, filterWidth, outHeight, outWidth, outChannels, strideHeight, strideWidth } = info;
    const top = filterHeight - 1 - info.padInfo.top;
    const left = filterWidth - 1 - info.padInfo.left;
    const wideHeight = height + filterHeight - 1;
    const wideWidth = width + filterWidth - 1;
    const fits =
      top >= 0 &&
      left >= 0 &&
      top + (outHeight - 1) * strideHeight < wideHeight &&
      left + (outWidth - 1) * strideWidth < wideWidth;
    if (!fits || attrs.dataFormat !== 'NHWC') {
      return plain({ inputs, backend: scope.backend, attrs }) as TensorInfo;
    }
    const wide = scope.temporary([batch, wideHeight, wideWidth, outChannels]);
    const turned = scope.temporary([filterHeight, filterWidth, outChannels, inChannels]);
    const [from, to] = [scope.floats(dy), scope.floats(wide)];
    const run = strideWidth === 1 ? outWidth : 1;
    for (let n = 0; n < batch; n++) {
      for (let y = 0; y < outHeight; y++) {
        const row = (n * outHeight + y) * outWidth;
        const wideRow = (n * wideHeight + top + y * strideHeight) * wideWidth + left;
        for (let x = 0; x < outWidth; x += run) {
          const start = (row + x) * outChannels;
          to.set(from.subarray(start, start + run * outChannels), (wideRow + x * strideWidth) * outChannels);
        }
      }
    }
    const [taps, turnedTaps] = [scope.floats(filter), scope.floats(turned)];
    const count = filterHeight * filterWidth;
    for (let tap = 0; tap < count; tap++) {
      for (let c = 0; c < inChannels; c++) {
        for (let k = 0; k < outChannels; k++) {
          turnedTaps[((count - 1 - tap) * outChannels + k) * inChannels + c] =
            taps[(tap * inChannels + c) * outChannels + k]!;
        }
      }
    }
    return scope.run(
      'Conv2D',
      { x: wide, filter: turned },
      { strides: [1, 1], pad: 'valid', dataFormat: 'NHWC', dilations: [1, 1] },
    );
  };
}
