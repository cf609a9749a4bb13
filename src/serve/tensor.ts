import { badRequest, RequestError, shown } from './request-error.ts';
import type { Datatype, Tensor } from './types.ts';

/** The data types we serve, in the order they are listed to clients. */
export const datatypes = ['BOOL', 'UINT8', 'INT32', 'INT64', 'FP32', 'FP64', 'BYTES'] as const;

/** Numbers a request may hold at most, over all its tensors: a bound on memory, far above any sensible batch. */
export const maxElements = 16 * 1024 * 1024;

/** Deepest nesting of `data`; more dimensions than any model here has. */
const maxRank = 8;

/** Whether a value names a data type of the Open Inference Protocol v2 that we serve. */
export function isDatatype(value: unknown): value is Datatype {
  return typeof value === 'string' && (datatypes as readonly string[]).includes(value);
}

/** Number of elements of a shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Checks a shape sent by a client: non-negative integers, few of them, a bounded product. Throws RequestError. */
export function checkShape(value: unknown, where: string): number[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > maxRank) {
    throw badRequest(`${where}.shape must be an array of 1 to ${maxRank} integers, not ${shown(value)}`);
  }
  for (const size of value) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw badRequest(`${where}.shape holds ${shown(size)}; sizes are integers from 0`);
    }
  }
  const count = elements(value);
  if (count > maxElements) {
    throw new RequestError(
      413,
      `${where}.shape asks for ${count} elements; at most ${maxElements} are taken`,
    );
  }
  return value as number[];
}

function storage(datatype: Datatype, count: number): Tensor['data'] {
  switch (datatype) {
    case 'BOOL':
    case 'UINT8':
      return new Uint8Array(count);
    case 'INT32':
      return new Int32Array(count);
    case 'FP32':
      return new Float32Array(count);
    case 'INT64':
    case 'FP64':
      // JSON numbers are doubles: they hold integers to 2^53, and more precision than that never arrives.
      return new Float64Array(count);
    case 'BYTES':
      return new Array<string>(count);
  }
}

/** What one element of `data` becomes; NaN stands for "not of this type". */
function numberOf(datatype: Datatype, value: unknown): number {
  switch (datatype) {
    case 'BOOL':
      return value === true || value === 1 ? 1 : value === false || value === 0 ? 0 : Number.NaN;
    case 'UINT8':
      return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255
        ? (value as number)
        : Number.NaN;
    case 'INT32':
      return Number.isInteger(value) && (value as number) === ((value as number) | 0)
        ? (value as number)
        : Number.NaN;
    case 'INT64':
      return Number.isSafeInteger(value) ? (value as number) : Number.NaN;
    default:
      return typeof value === 'number' && Number.isFinite(value) ? value : Number.NaN;
  }
}

/**
 * Reads the JSON form of a tensor's data, flat or nested as the shape says (Open Inference Protocol v2, "Tensor Data").
 * Throws RequestError naming the first element that does not fit.
 */
export function readData(
  value: unknown,
  datatype: Datatype,
  shape: readonly number[],
  where: string,
): Tensor['data'] {
  if (!Array.isArray(value)) throw badRequest(`${where}.data must be an array, not ${shown(value)}`);
  const count = elements(shape);
  const out = storage(datatype, count);
  let at = 0;
  const put = (element: unknown): void => {
    if (Array.isArray(out)) {
      if (typeof element !== 'string') {
        throw badRequest(`${where}.data[${at}] is ${shown(element)}; BYTES elements are strings`);
      }
      out[at++] = element;
      return;
    }
    const number = numberOf(datatype, element);
    if (Number.isNaN(number))
      throw badRequest(`${where}.data[${at}] is ${shown(element)}, not a ${datatype}`);
    out[at++] = number;
  };
  const walk = (array: readonly unknown[], depth: number): void => {
    const size = shape[depth]!;
    if (array.length !== size) {
      throw badRequest(
        `${where}.data has ${array.length} elements in dimension ${depth}; the shape says ${size}`,
      );
    }
    for (const element of array) {
      if (depth === shape.length - 1) put(element);
      else if (Array.isArray(element)) walk(element, depth + 1);
      else
        throw badRequest(`${where}.data holds ${shown(element)} where dimension ${depth + 1} should begin`);
    }
  };
  const nested = shape.length > 1 && value.length > 0 && Array.isArray(value[0]);
  if (nested) walk(value, 0);
  else {
    if (value.length !== count) {
      throw badRequest(
        `${where}.data has ${value.length} elements; the shape [${shape.join(', ')}] needs ${count}`,
      );
    }
    for (let index = 0; index < count; index++) put(value[index]);
  }
  return out;
}

/** The shape of nested arrays, following first elements; ragged ones are found by {@link readData}. Throws RequestError. */
export function shapeOf(value: unknown, where: string): number[] {
  const shape: number[] = [];
  for (let level: unknown = value; Array.isArray(level); level = level[0]) {
    if (shape.length === maxRank) throw badRequest(`${where} is nested deeper than ${maxRank} arrays`);
    shape.push(level.length);
  }
  return checkShape(shape, where);
}

/** The JSON form of a tensor's data: flat, booleans as booleans. */
export function dataJson(tensor: Tensor): unknown[] {
  if (tensor.datatype === 'BOOL') return Array.from(tensor.data as Uint8Array, (value) => value !== 0);
  return Array.isArray(tensor.data) ? tensor.data : Array.from(tensor.data);
}

/** The data nested as the shape says, for protocols that want arrays in arrays. */
export function nestedJson(tensor: Tensor): unknown[] {
  let level: unknown[] = dataJson(tensor);
  for (let dimension = tensor.shape.length - 1; dimension > 0; dimension--) {
    const size = tensor.shape[dimension]!;
    const rows: unknown[] = [];
    for (let start = 0; start < level.length; start += size) rows.push(level.slice(start, start + size));
    level = rows;
  }
  return level;
}

/** Whether a concrete shape fits a signature's, where -1 stands for any size of at least one. */
export function fits(shape: readonly number[], expected: readonly number[]): boolean {
  return (
    shape.length === expected.length &&
    expected.every((size, index) => (size === -1 ? shape[index]! >= 1 : shape[index] === size))
  );
}
