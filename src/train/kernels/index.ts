import type { KernelConfig, KernelFunc } from '@tensorflow/tfjs-core';
import type { Tf } from '../types.ts';
import { conv2dFilterGradient, conv2dInputGradient } from './convolution.ts';
import { depthwiseFilterGradient, depthwiseInputGradient } from './depthwise.ts';
import { type HeapKernel, kernelFunction } from './heap.ts';
import { transposingMatMul } from './mat-mul.ts';
import { maxPoolGradient } from './pooling.ts';
import { unsortedSegmentSum } from './segment-sum.ts';
import { conv3dFilterGradient, conv3dInputGradient, maxPool3d, maxPool3dGradient } from './volume.ts';

/** Kernels that the wasm backend lacks or has wrong. */
const kernels: Record<string, HeapKernel> = {
  Conv2DBackpropFilter: conv2dFilterGradient,
  Conv3DBackpropFilterV2: conv3dFilterGradient,
  Conv3DBackpropInputV2: conv3dInputGradient,
  DepthwiseConv2dNativeBackpropFilter: depthwiseFilterGradient,
  DepthwiseConv2dNativeBackpropInput: depthwiseInputGradient,
  MaxPool3D: maxPool3d,
  MaxPool3DGrad: maxPool3dGradient,
  MaxPoolGrad: maxPoolGradient,
  UnsortedSegmentSum: unsortedSegmentSum,
};

/** Kernels around those of the wasm backend: faster, falling back on them. */
const around: Record<string, (plain: KernelFunc) => HeapKernel> = {
  BatchMatMul: transposingMatMul,
  Conv2DBackpropInput: conv2dInputGradient,
};

const ours = Symbol.for('cdl.train.kernel');

/**
 * Makes the wasm backend of `tf` able to train: adds the missing gradients, corrects the wrong one, replaces slow ones.
 * Calling it again changes nothing. Returns the names of the kernels that are ours.
 */
export function registerKernels(tf: Tf): string[] {
  const replace = (kernelName: string, make: (stock: KernelConfig | undefined) => HeapKernel): void => {
    const stock: KernelConfig | undefined = tf.getKernel(kernelName, 'wasm');
    if (stock && ours in stock) return;
    if (stock) tf.unregisterKernel(kernelName, 'wasm');
    const config = {
      ...stock,
      kernelName,
      backendName: 'wasm',
      kernelFunc: kernelFunction(tf, make(stock)),
      [ours]: stock ?? null,
    };
    tf.registerKernel(config);
  };
  for (const [name, kernel] of Object.entries(kernels)) replace(name, () => kernel);
  for (const [name, wrap] of Object.entries(around)) {
    replace(name, (stock) => {
      if (!stock) throw new Error(`the wasm backend has no ${name}; load it first`);
      return wrap(stock.kernelFunc);
    });
  }
  return [...Object.keys(kernels), ...Object.keys(around)];
}

/** Undoes {@link registerKernels}: the wasm backend is as shipped again, to measure against. */
export function unregisterKernels(tf: Tf): void {
  for (const name of [...Object.keys(kernels), ...Object.keys(around)]) {
    const current: (KernelConfig & { [ours]?: KernelConfig | null }) | undefined = tf.getKernel(name, 'wasm');
    if (!current || !(ours in current)) continue;
    tf.unregisterKernel(name, 'wasm');
    if (current[ours]) tf.registerKernel(current[ours]);
  }
}
