import { readTensorFile, type SavedCheckpoint, unitsOf } from './tensor-files.ts';
import { distanceOf, type StoredTensor } from './tensor-values.ts';

/** How one tensor, or one file that is not made of tensors, differs between two checkpoints. */
export interface TensorDifference {
  name: string;
  shape: number[];
  /** Largest absolute difference of a value; infinity where that cannot be said, and `why` tells the reason. */
  largest: number;
  /** Root mean square of the differences. */
  rms: number;
  why: string | null;
}

const incomparable = (name: string, shape: number[], why: string): TensorDifference => ({
  name,
  shape,
  largest: Number.POSITIVE_INFINITY,
  rms: Number.POSITIVE_INFINITY,
  why,
});

function tensorDifference(
  name: string,
  one: StoredTensor | undefined,
  other: StoredTensor | undefined,
): TensorDifference[] {
  if (!one || !other) return [incomparable(name, (one ?? other)!.shape, one ? 'is gone' : 'is new')];
  if (one.type !== other.type) return [incomparable(name, one.shape, `is ${other.type}, was ${one.type}`)];
  if (one.shape.join() !== other.shape.join())
    return [incomparable(name, one.shape, `is of the shape ${other.shape.join(' × ')}`)];
  if (one.bytes.equals(other.bytes)) return [];
  const distance = distanceOf(one, other);
  return Number.isFinite(distance.largest)
    ? [{ name, shape: one.shape, ...distance, why: null }]
    : [incomparable(name, one.shape, 'holds values that are no finite number on one side')];
}

/**
 * Every tensor whose bytes differ between two checkpoints, in the order of the first, and every file that differs in anything
 * but tensors and, in ONNX, documentation. Tensors of TensorFlow.js have their own names, others that of their file before it.
 */
export async function diffCheckpoints(
  first: SavedCheckpoint,
  second: SavedCheckpoint,
): Promise<TensorDifference[]> {
  const [a, b] = [unitsOf(first.files), unitsOf(second.files)];
  const differences: TensorDifference[] = [];
  for (const path of new Set([...a.keys(), ...b.keys()])) {
    const [one, other] = [a.get(path), b.get(path)];
    if (!one || !other) {
      differences.push(incomparable(path, [], one ? 'is gone' : 'is new'));
      continue;
    }
    const digests = [one, other].map((unit) => unit.map(({ digest }) => digest).join());
    if (digests[0] === digests[1]) continue;
    const [before, after] = [
      await readTensorFile(first.folder, one),
      await readTensorFile(second.folder, other),
    ];
    if (!before || !after) {
      differences.push(incomparable(path, [], 'has other bytes'));
      continue;
    }
    const known = differences.length;
    for (const name of new Set([...before.tensors.keys(), ...after.tensors.keys()])) {
      const label = one.length > 1 ? name : `${path}: ${name}`;
      differences.push(...tensorDifference(label, before.tensors.get(name), after.tensors.get(name)));
    }
    if (before.rest !== after.rest)
      differences.push(incomparable(path, [], 'differs in more than its tensors'));
    // The files are not the same, and nothing that was read tells why.
    if (differences.length === known && before.notes === after.notes)
      differences.push(incomparable(path, [], 'has other bytes'));
  }
  return differences;
}
