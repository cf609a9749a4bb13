import { isUtf8 } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import { numberTypes, type StoredTensor, tensorBytes } from './tensor-values.ts';

/** The weights of an ONNX model, and hashes of all else in it: of what decides what it computes, and of what only documents it. */
export interface OnnxParts {
  tensors: Map<string, StoredTensor>;
  rest: string;
  notes: string;
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

/** Fields of a TensorProto that hold its numbers: for which types, and how one number alone is written (onnx.proto3). */
const numberFields: Readonly<Record<number, { types: readonly string[]; wire: number }>> = {
  4: { types: ['F32'], wire: 5 },
  5: { types: ['I32', 'I16', 'I8', 'U16', 'U8', 'BOOL', 'F16', 'BF16'], wire: 0 },
  7: { types: ['I64'], wire: 0 },
  9: { types: Object.keys(numberTypes), wire: 2 },
  10: { types: ['F64'], wire: 1 },
  11: { types: ['U32', 'U64'], wire: 0 },
};

/** Graphs within graphs (loops, branches) go no deeper in any model that is meant. */
const deepest = 50;
/** What a model that is meant has less of: beyond it the file is only bytes. */
const most = { fields: 1_000_000, tensors: 100_000, dimensions: 64, bytes: 2 ** 30 };

interface Field {
  number: number;
  /** How the value is written: 0 varint, 1 eight bytes, 2 a length and as many bytes, 5 four bytes. */
  wire: number;
  value: Buffer;
  /** Key, length and value. */
  whole: Buffer;
}

/** What has been found of a model that is being taken apart. */
interface Search {
  tensors: Map<string, StoredTensor>;
  /** By a name that was found before: the number that the next tensor of this name gets. */
  copies: Map<string, number>;
  rest: Hash;
  notes: Hash;
  /** Fields read so far. */
  fields: number;
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

function* fieldsOf(bytes: Buffer, search: Search): Generator<Field> {
  for (let at = 0; at < bytes.length; ) {
    if (++search.fields > most.fields) throw new RangeError('too many fields');
    const start = at;
    let key: bigint;
    [key, at] = varint(bytes, at);
    const wire = Number(key & 7n);
    let length = wire === 1 ? 8n : wire === 5 ? 4n : null;
    if (wire === 0) length = BigInt(varint(bytes, at)[1] - at);
    if (wire === 2) [length, at] = varint(bytes, at);
    if (length === null || length > BigInt(bytes.length - at)) throw new RangeError('no field');
    const value = bytes.subarray(at, at + Number(length));
    at += Number(length);
    yield { number: Number(key >> 3n), wire, value, whole: bytes.subarray(start, at) };
  }
}

/** Values of a repeated number, packed or not. */
function* integers(value: Buffer): Generator<bigint> {
  for (let at = 0; at < value.length; ) {
    const [one, end] = varint(value, at);
    yield one;
    at = end;
  }
}

/** Varints as the numbers of a type that they are; null unless they take so many bytes. */
function unpacked(type: string, parts: readonly Buffer[], length: number | null): Buffer | null {
  const { size } = numberTypes[type]!;
  let count = 0;
  // The last byte of each varint is below 0x80.
  for (const part of parts) for (const byte of part) if (byte < 0x80) count++;
  if (count * size !== length || length > most.bytes) return null;
  const bytes = Buffer.alloc(length + 8);
  let at = 0;
  for (const part of parts) {
    for (const value of integers(part)) {
      // Little-endian two's complement: the lowest bytes are the number, and the next number is written over the others.
      bytes.writeBigUInt64LE(value, at);
      at += size;
    }
  }
  return bytes.subarray(0, at);
}

/**
 * A TensorProto whose numbers are in it, in one field that is for its type; null for any other (strings, other types, numbers in
 * another file, fields that are not known): its bytes are compared.
 */
function tensorOf(bytes: Buffer, search: Search): { name: string; tensor: StoredTensor } | null {
  let [name, type, holder] = ['', '', 0];
  const shape: number[] = [];
  const parts: Buffer[] = [];
  const notes: Buffer[] = [];
  for (const { number, wire, value, whole } of fieldsOf(bytes, search)) {
    if (number === 1 && (wire === 0 || wire === 2)) {
      for (const dimension of integers(value)) {
        if (shape.length === most.dimensions) return null;
        shape.push(Number(dimension));
      }
    } else if (number === 2 && wire === 0) type = typeNames[Number(varint(value, 0)[0])] ?? '';
    else if (number === 8 && wire === 2 && isUtf8(value)) name = value.toString();
    else if (number in numberFields) {
      // Packed, or one number in each field; raw_data is one field.
      const isHolder = wire === 2 || wire === numberFields[number]!.wire;
      if (!isHolder || (holder !== 0 && (holder !== number || number === 9))) return null;
      holder = number;
      parts.push(value);
    }
    // doc_string and metadata_props; data_location, of which 0 is here
    else if (number === 12 || number === 16) notes.push(whole);
    else if (number !== 14 || wire !== 0 || varint(value, 0)[0] !== 0n) return null;
  }
  if (type === '' || (holder !== 0 && !numberFields[holder]!.types.includes(type))) return null;
  const length = tensorBytes(type, shape);
  const isVarints = numberFields[holder]?.wire === 0;
  const numbers = isVarints
    ? unpacked(type, parts, length)
    : parts.length === 1
      ? parts[0]!
      : Buffer.concat(parts);
  if (numbers?.length !== length) return null;
  for (const note of notes) search.notes.update(note);
  return { name, tensor: { type, shape, bytes: numbers! } };
}

/** A node is known by the first thing it makes: its own name is optional. */
function outputOf(node: Buffer, search: Search): string | undefined {
  for (const { number, value } of fieldsOf(node, search)) if (number === 2) return value.toString();
  return undefined;
}

function look(bytes: Buffer, kind: Message, place: string, search: Search, depth: number): void {
  if (depth > deepest) throw new RangeError('too deep');
  const passed: readonly number[] = messages[kind].passed;
  const inside: Readonly<Record<number, Message | 'tensor'>> = messages[kind].inside;
  const own = kind === 'node' ? outputOf(bytes, search) : undefined;
  const { tensors, copies, rest, notes } = search;
  for (const { number, wire, value, whole } of fieldsOf(bytes, search)) {
    const message = inside[number];
    if (passed.includes(number)) notes.update(whole);
    else if (message === undefined || wire !== 2) rest.update(whole);
    else if (message !== 'tensor') {
      rest.update(`${message}(`);
      look(value, message, own ?? place, search, depth + 1);
      rest.update(')');
    } else {
      const read = tensorOf(value, search);
      if (!read) {
        rest.update(whole);
        continue;
      }
      if (tensors.size === most.tensors) throw new RangeError('too many tensors');
      const wanted = read.name || place;
      let name = wanted;
      let copy = copies.get(wanted) ?? 2;
      for (; tensors.has(name); copy++) name = `${wanted} (${copy})`;
      copies.set(wanted, copy);
      tensors.set(name, read.tensor);
      rest.update(`tensor ${name};`);
    }
  }
}

/**
 * Takes an ONNX model apart (onnx.proto3): initializers and tensors of attributes by name, a hash of documentation and who made
 * it, and a hash of everything else. Throws RangeError for what is no such file, or has more parts than any model.
 */
export function onnxParts(bytes: Buffer): OnnxParts {
  const [rest, notes] = [createHash('sha256'), createHash('sha256')];
  const tensors = new Map<string, StoredTensor>();
  look(bytes, 'model', 'tensor', { tensors, copies: new Map(), rest, notes, fields: 0 }, 0);
  return { tensors, rest: rest.digest('hex'), notes: notes.digest('hex') };
}
