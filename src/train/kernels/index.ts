import type { Tf } from '../types.ts';
import { conv2dFilterGradient } from './convolution.ts';
import { depthwiseFilterGradient, depthwiseInputGradient } from './depthwise.ts';
import { type HeapKernel, kernelFunction } from './heap.ts';
import { transposingMatMul } from './mat-mul.ts';
import { maxPoolGradient } from './pooling.ts';
import { unsortedSegmentSum } from './segment-sum.ts';

/** The kernels of ours that add to or replace those of tfjs-backend-wasm, besides BatchMatMul. */
const kernels: Record<string, HeapKernel> = {
  Conv2DBackpropFilter: conv2dFilterGradient,
  DepthwiseConv2dNativeBackpropFilter: depthwiseFilterGradient,
  DepthwiseConv2dNativeBackpropInput: depthwiseInputGradient,
  MaxPoolGrad: maxPoolGradient,
  UnsortedSegmentSum: unsortedSegmentSum,
};

const stockMatMul = Symbol.for('cdl.train.stock-mat-mul');

/**
 * Makes the wasm backend of `tf` able to train: adds the missing gradients, corrects the wrong one, replaces slow ones.
 * Calling it again changes nothing. Returns the names of the kernels that are ours.
 */
export function registerKernels(tf: Tf): string[] {
  for (const [kernelName, kernel] of Object.entries(kernels)) {
    if (tf.getKernel(kernelName, 'wasm')) tf.unregisterKernel(kernelName, 'wasm');
    tf.registerKernel({ kernelName, backendName: 'wasm', kernelFunc: kernelFunction(tf, kernel) });
  }
  const stock = tf.getKernel('BatchMatMul', 'wasm');
  if (!(stockMatMul in stock)) {
    tf.unregisterKernel('BatchMatMul', 'wasm');
    const ours = {
      ...stock,
      kernelFunc: kernelFunction(tf, transposingMatMul(stock.kernelFunc)),
      [stockMatMul]: true,
    };
    tf.registerKernel(ours);
  }
  return [...Object.keys(kernels), 'BatchMatMul'];
}
