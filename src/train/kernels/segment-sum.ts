import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { HeapKernel } from './heap.ts';

/**
 * Sums the rows of x by segment: the gradient of an embedding look-up; the wasm backend has none.
 *
 * x `[...ids, ...rest]` float32 and segmentIds `[...ids]` int32 give `[numSegments, ...rest]`.
 * Rows whose id is negative or not below numSegments are dropped, as TensorFlow specifies for `UnsortedSegmentSum`.
 */
export const unsortedSegmentSum: HeapKernel = (scope, inputs, attrs) => {
  const { x, segmentIds } = inputs as { x: TensorInfo; segmentIds: TensorInfo };
  const segments = attrs.numSegments as number;
  const rest = x.shape.slice(segmentIds.shape.length);
  const width = rest.reduce((product, size) => product * size, 1);
  const result = scope.zeros([segments, ...rest]);
  const ids = scope.backend.typedArrayFromHeap(segmentIds);
  const [rows, sums] = [scope.floats(x), scope.floats(result)];
  for (let row = 0; row < ids.length; row++) {
    const segment = ids[row]!;
    if (segment < 0 || segment >= segments) continue;
    for (let k = 0; k < width; k++) sums[segment * width + k]! += rows[row * width + k]!;
  }
  return result;
};
