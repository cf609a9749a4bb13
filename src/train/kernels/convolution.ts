import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel, KernelScope } from './heap.ts';

type Shape4 = [number, number, number, number];
type Pad = Parameters<KernelScope['tf']['backend_util']['computeConv2DInfo']>[4];

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
  const info = scope.tf.backend_util.computeConv2DInfo(
    x.shape as Shape4,
    filterShape,
    attrs.strides as number,
    1,
    attrs.pad as Pad,
    attrs.dimRoundingMode as 'floor' | 'round' | 'ceil',
  );
  const { top, bottom, left, right } = info.padInfo;
  const padded =
    top || bottom || left || right
      ? scope.run(
          'PadV2',
          { x },
          {
            paddings: [
              [0, 0],
              [top, bottom],
              [left, right],
              [0, 0],
            ],
            constantValue: 0,
          },
        )
      : x;
  const image = scope.run('Transpose', { x: padded }, { perm: [3, 1, 2, 0] });
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
