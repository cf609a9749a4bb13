import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel } from './heap.ts';

/**
 * Matrix product `[..., M, K] × [..., K, N]` with transposed operands written out first.
 *
 * The wasm kernel leaves XNNPACK for a plain loop as soon as a transpose flag is set, and both products of a dense
 * layer's gradient set one. `plain` is the backend's own kernel.
 */
export function transposingMatMul(plain: KernelFunc): HeapKernel {
  return (scope, inputs, attrs) => {
    const { a, b } = inputs as { a: TensorInfo; b: TensorInfo };
    const straight = (x: TensorInfo, transposed: unknown): TensorInfo => {
      if (!transposed) return x;
      const rank = x.shape.length;
      const perm = x.shape.map((_, axis) => axis);
      perm[rank - 1] = rank - 2;
      perm[rank - 2] = rank - 1;
      return scope.run('Transpose', { x }, { perm });
    };
    return plain({
      inputs: { a: straight(a, attrs.transposeA), b: straight(b, attrs.transposeB) },
      backend: scope.backend,
      attrs: { ...attrs, transposeA: false, transposeB: false },
    }) as TensorInfo;
  };
}
