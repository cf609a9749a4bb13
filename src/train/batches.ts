import { UserError } from '../core/error.ts';
import type { Tensor, Tf, TrainData } from './types.ts';

/** How many numbers one item of this shape holds. */
export function itemSize(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Throws a UserError (data-invalid) unless lengths, labels and classes of `data` agree. `what` names it. */
export function checkData(data: TrainData, what: string): void {
  const { x, y, shape, count, classes } = data;
  const wrong = (text: string): never => {
    throw new UserError('data-invalid', `${what}: ${text}`);
  };
  if (!Number.isInteger(count) || count < 1) wrong('there are no items');
  if (x.length !== count * itemSize(shape)) {
    wrong(
      `${count} items of shape [${shape}] need ${count * itemSize(shape)} numbers, there are ${x.length}`,
    );
  }
  if (y.length !== count) wrong(`${count} items have ${y.length} labels`);
  if (classes.length < 2) wrong(`classification needs at least two classes, there are ${classes.length}`);
  const stray = y.findIndex((label) => label < 0 || label >= classes.length);
  if (stray >= 0) wrong(`item ${stray} has label ${y[stray]}, but there are ${classes.length} classes`);
}

/**
 * Copies the items named by `order[from … to)` (or, without an order, items from … to−1) into one tensor
 * `[to − from, ...shape]`: int32 for bytes, float32 otherwise. Only the batch is ever converted, never the data set.
 */
export function gatherItems(
  tf: Tf,
  data: Pick<TrainData, 'x' | 'shape'>,
  order: Uint32Array | null,
  from: number,
  to: number,
): Tensor {
  const size = itemSize(data.shape);
  const Batch = data.x instanceof Uint8Array ? Int32Array : Float32Array;
  const values = new Batch((to - from) * size);
  if (order) {
    for (let row = from; row < to; row++) {
      const start = order[row]! * size;
      values.set(data.x.subarray(start, start + size), (row - from) * size);
    }
  } else values.set(data.x.subarray(from * size, to * size));
  return tf.tensor(values, [to - from, ...data.shape]);
}

/** The labels of the same items. */
export function gatherLabels(
  data: Pick<TrainData, 'y'>,
  order: Uint32Array | null,
  from: number,
  to: number,
): Int32Array {
  return Int32Array.from({ length: to - from }, (_, row) => data.y[order ? order[from + row]! : from + row]!);
}
