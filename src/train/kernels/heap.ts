import type { KernelFunc, NamedAttrMap, TensorInfo } from '@tensorflow/tfjs-core';
import type { Tf } from '../types.ts';

/** What our kernels use of tfjs-backend-wasm's backend. */
export interface WasmBackend {
  /** Allocates an output; the heap may move, so take views after the last allocation only. */
  makeOutput(shape: number[], dtype: TensorInfo['dtype']): TensorInfo;
  /** A view of a tensor's memory, valid until the next allocation. */
  typedArrayFromHeap(info: TensorInfo): Float32Array | Int32Array | Uint8Array;
  disposeData(dataId: object): boolean;
}

/** A kernel of ours: pure function of its inputs, on the wasm heap. */
export type HeapKernel = (
  scope: KernelScope,
  inputs: Record<string, TensorInfo>,
  attrs: NamedAttrMap,
) => TensorInfo;

/** What a kernel works with: the backend, and other kernels by name with their results freed at the end. */
export interface KernelScope {
  readonly tf: Tf;
  readonly backend: WasmBackend;
  /** Runs another kernel; its result is freed when this kernel returns, unless it is what this kernel returns. */
  run(kernel: string, inputs: Record<string, TensorInfo>, attrs?: NamedAttrMap): TensorInfo;
  /** A zeroed float32 output. Take views of inputs after it. */
  zeros(shape: number[]): TensorInfo;
  /** The same, freed when this kernel returns. */
  temporary(shape: number[]): TensorInfo;
  /** The numbers of a float32 tensor. */
  floats(info: TensorInfo): Float32Array;
}

/** Wraps a {@link HeapKernel} for the kernel registry of TensorFlow.js. */
export function kernelFunction(tf: Tf, kernel: HeapKernel): KernelFunc {
  return ({ inputs, backend: anyBackend, attrs }) => {
    const backend = anyBackend as WasmBackend;
    const temporary: TensorInfo[] = [];
    const floats = (info: TensorInfo): Float32Array => {
      const view = backend.typedArrayFromHeap(info);
      if (!(view instanceof Float32Array)) throw new Error(`expected a float32 tensor, got ${info.dtype}`);
      return view;
    };
    const zeros = (shape: number[]): TensorInfo => {
      const info = backend.makeOutput(shape, 'float32');
      floats(info).fill(0);
      return info;
    };
    const scope: KernelScope = {
      tf,
      backend,
      floats,
      run(name, given, options = {}) {
        const result = tf.getKernel(name, 'wasm').kernelFunc({ inputs: given, backend, attrs: options });
        const info = Array.isArray(result) ? result[0]! : result;
        temporary.push(info);
        return info;
      },
      zeros,
      temporary(shape) {
        const info = zeros(shape);
        temporary.push(info);
        return info;
      },
    };
    const result = kernel(scope, inputs as Record<string, TensorInfo>, attrs ?? {});
    for (const info of temporary) if (info !== result) backend.disposeData(info.dataId);
    return result;
  };
}
