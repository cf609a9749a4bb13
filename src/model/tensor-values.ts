/** Numbers of a tensor as they lie in a file: little-endian, row-major, without gaps. */
export interface StoredTensor {
  /** As safetensors calls it: `F32`, `BF16`, `I64` … */
  type: string;
  shape: number[];
  bytes: Buffer;
}

interface NumberType {
  /** In bytes. */
  size: number;
  read(view: DataView, at: number): number | bigint;
}

/** What a half float (IEEE 754 binary16) stands for. */
function halfFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new DataView(new ArrayBuffer(4));
/** The upper half of a float32 (bfloat16). */
function brainFloat(bits: number): number {
  word.setUint32(0, bits * 0x10000);
  return word.getFloat32(0);
}

/** The number types that can be compared, by the names of safetensors (huggingface.co/docs/safetensors). */
export const numberTypes: Readonly<Record<string, NumberType>> = {
  F64: { size: 8, read: (view, at) => view.getFloat64(at, true) },
  F32: { size: 4, read: (view, at) => view.getFloat32(at, true) },
  F16: { size: 2, read: (view, at) => halfFloat(view.getUint16(at, true)) },
  BF16: { size: 2, read: (view, at) => brainFloat(view.getUint16(at, true)) },
  I64: { size: 8, read: (view, at) => view.getBigInt64(at, true) },
  U64: { size: 8, read: (view, at) => view.getBigUint64(at, true) },
  I32: { size: 4, read: (view, at) => view.getInt32(at, true) },
  U32: { size: 4, read: (view, at) => view.getUint32(at, true) },
  I16: { size: 2, read: (view, at) => view.getInt16(at, true) },
  U16: { size: 2, read: (view, at) => view.getUint16(at, true) },
  I8: { size: 1, read: (view, at) => view.getInt8(at) },
  U8: { size: 1, read: (view, at) => view.getUint8(at) },
  BOOL: { size: 1, read: (view, at) => view.getUint8(at) },
};

/** Bytes that a tensor takes; null for a type that is not known or a shape that is none. */
export function tensorBytes(type: string, shape: readonly number[]): number | null {
  if (!Object.hasOwn(numberTypes, type) || !shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
    return null;
  return shape.reduce((product, dim) => product * dim, numberTypes[type]!.size);
}

const distance = (a: number | bigint, b: number | bigint): number => {
  if (typeof a === 'bigint' || typeof b === 'bigint') return Math.abs(Number(BigInt(a) - BigInt(b)));
  // Infinity less infinity would be no number.
  if (a === b || (Number.isNaN(a) && Number.isNaN(b))) return 0;
  const difference = Math.abs(a - b);
  // No number on one side alone is as different as can be.
  return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
};

/** Largest absolute difference and root mean square of the differences of two tensors of one type and shape. */
export function distanceOf(one: StoredTensor, other: StoredTensor): { largest: number; rms: number } {
  const { size, read } = numberTypes[one.type]!;
  const [a, b] = [one, other].map(({ bytes }) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
  let [largest, squares] = [0, 0];
  for (let at = 0; at < one.bytes.length; at += size) {
    const difference = distance(read(a!, at), read(b!, at));
    if (difference > largest) largest = difference;
    squares += difference ** 2;
  }
  return { largest, rms: Math.sqrt(squares / (one.bytes.length / size)) };
}
