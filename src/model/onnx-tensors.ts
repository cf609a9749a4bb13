import { createHash, type Hash } from 'node:crypto';
import { numberTypes, type StoredTensor, tensorBytes } from './tensor-values.ts';

/** The weights of an ONNX model, and a hash of all else in it that decides what it computes. */
export interface OnnxParts {
  tensors: Map<string, StoredTensor>;
  rest: string;
}

/** Messages of onnx.proto3 that are looked into: fields that say nothing of what is computed, and messages among the others. */
const messages = {
  // producer, its version, doc_string, metadata_props
  model: { passed: [2, 3, 6, 14], inside: { 7: 'graph', 25: 'function' } },
  graph: { passed: [10, 16], inside: { 1: 'node', 5: 'tensor' } },
  function: { passed: [8, 14], inside: { 7: 'node', 11: 'attribute' } },
  node: { passed: [6, 9], inside: { 5: 'attribute' } },
  attribute: { passed: [13], inside: { 5: 'tensor', 10: 'tensor', 6: 'graph', 11: 'graph' } },
} as const satisfies Record<string, { passed: readonly number[]; inside: Readonly<Record<number, string>> }>;
type Message = keyof typeof messages;

/** TensorProto.DataType, as safetensors calls it. */
const typeNames: Readonly<Record<number, string>> = {
  ...{ 1: 'F32', 2: 'U8', 3: 'I8', 4: 'U16', 5: 'I16', 6: 'I32', 7: 'I64', 9: 'BOOL', 10: 'F16', 11: 'F64' },
  ...{ 12: 'U32', 13: 'U64', 16: 'BF16' },
};

/** Graphs within graphs (loops, branches) go no deeper in any model that is meant. */
const deepest = 50;

interface Field {
  number: number;
  /** A varint's value, or the bytes of anything else. */
  value: bigint | Buffer;
  /** Key, length and value. */
  whole: Buffer;
}

/** Reads a varint (protobuf.dev, "Encoding"); [value, where it ends]. */
function varint(bytes: Buffer, from: number): [bigint, number] {
  let value = 0n;
  for (let at = from, shift = 0n; at < bytes.length && shift < 70n; at++, shift += 7n) {
    const byte = bytes[at]!;
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return [BigInt.asUintN(64, value), at + 1];
  }
  throw new RangeError('no varint');
}

function* fieldsOf(bytes: Buffer): Generator<Field> {
  for (let at = 0; at < bytes.length; ) {
    const start = at;
    let key: bigint;
    [key, at] = varint(bytes, at);
    const wire = Number(key & 7n);
    let value: Field['value'];
    if (wire === 0) [value, at] = varint(bytes, at);
    else {
      let length = wire === 1 ? 8n : wire === 5 ? 4n : null;
      if (wire === 2) [length, at] = varint(bytes, at);
      if (length === null || length > BigInt(bytes.length - at)) throw new RangeError('no field');
      value = bytes.subarray(at, at + Number(length));
      at += Number(length);
    }
    yield { number: Number(key >> 3n), value, whole: bytes.subarray(start, at) };
  }
}

/** Values of a repeated number, packed or not. */
function integers(value: Field['value']): bigint[] {
  if (typeof value === 'bigint') return [value];
  const found: bigint[] = [];
  for (let at = 0; at < value.length; ) {
    const [one, end] = varint(value, at);
    found.push(one);
    at = end;
  }
  return found;
}

function packed(type: string, values: readonly bigint[]): Buffer {
  const { size } = numberTypes[type]!;
  const bytes = Buffer.alloc(values.length * 8);
  // Little-endian two's complement: the lowest bytes are the number, whatever its width and sign.
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(value, index * 8);
  return Buffer.concat(values.map((_, index) => bytes.subarray(index * 8, index * 8 + size)));
}

/** A TensorProto whose numbers are in it; null for strings, other types, and numbers in another file. */
function tensorOf(bytes: Buffer): { name: string; tensor: StoredTensor } | null {
  let [name, type, isElsewhere] = ['', '', false];
  const shape: bigint[] = [];
  const raw: Buffer[] = [];
  const whole: bigint[] = [];
  for (const { number, value } of fieldsOf(bytes)) {
    if (number === 1) shape.push(...integers(value));
    else if (number === 2) type = typeNames[Number(value)] ?? '';
    else if (number === 8) name = value.toString();
    // raw_data, float_data, double_data; int32_data, int64_data, uint64_data; external_data, data_location
    else if ((number === 9 || number === 4 || number === 10) && typeof value !== 'bigint') raw.push(value);
    else if (number === 5 || number === 7 || number === 11) whole.push(...integers(value));
    else if (number === 13 || (number === 14 && value !== 0n)) isElsewhere = true;
  }
  if (type === '' || isElsewhere) return null;
  const numbers = whole.length > 0 ? packed(type, whole) : raw.length === 1 ? raw[0]! : Buffer.concat(raw);
  const tensor = { type, shape: shape.map(Number), bytes: numbers };
  return numbers.length === tensorBytes(type, tensor.shape) ? { name, tensor } : null;
}

function look(
  bytes: Buffer,
  kind: Message,
  place: string,
  found: OnnxParts,
  rest: Hash,
  depth: number,
): void {
  if (depth > deepest) throw new RangeError('too deep');
  const passed: readonly number[] = messages[kind].passed;
  const inside: Readonly<Record<number, Message | 'tensor'>> = messages[kind].inside;
  const fields = [...fieldsOf(bytes)];
  // A node is known by what it makes: its own name is optional.
  const own = kind === 'node' ? fields.find(({ number }) => number === 2)?.value.toString() : undefined;
  for (const { number, value, whole } of fields) {
    if (passed.includes(number)) continue;
    const message = inside[number];
    if (message === undefined || typeof value === 'bigint') rest.update(whole);
    else if (message !== 'tensor') {
      rest.update(`${message}(`);
      look(value, message, own ?? place, found, rest, depth + 1);
      rest.update(')');
    } else {
      const read = tensorOf(value);
      if (!read) {
        rest.update(whole);
        continue;
      }
      let name = read.name || place;
      for (let copy = 2; found.tensors.has(name); copy++) name = `${read.name || place} (${copy})`;
      found.tensors.set(name, read.tensor);
      rest.update(`tensor ${name};`);
    }
  }
}

/**
 * Takes an ONNX model apart (onnx.proto3): initializers and tensors of attributes by name, and a hash of everything else but
 * documentation and who made it. Throws RangeError for what is no such file.
 */
export function onnxParts(bytes: Buffer): OnnxParts {
  const rest = createHash('sha256');
  const found: OnnxParts = { tensors: new Map(), rest: '' };
  look(bytes, 'model', 'tensor', found, rest, 0);
  return { ...found, rest: rest.digest('hex') };
}
