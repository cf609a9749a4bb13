import { UserError } from '../core/error.ts';

/** An IDX file of unsigned bytes: `data` is row-major and shares memory with what was parsed. */
export interface Idx {
  dims: number[];
  data: Uint8Array;
}

/** The header of an IDX file of unsigned bytes (Y. LeCun, "THE IDX FILE FORMAT", yann.lecun.com/exdb/mnist). */
export function idxHeader(dims: readonly number[]): Buffer {
  const header = Buffer.alloc(4 + 4 * dims.length);
  header[2] = 0x08;
  header[3] = dims.length;
  for (const [index, size] of dims.entries()) header.writeUInt32BE(size, 4 + 4 * index);
  return header;
}

/** Reads an IDX file of unsigned bytes. Throws UserError data-invalid for another type, or bytes missing or left over. */
export function parseIdx(bytes: Uint8Array, where: string): Idx {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bad = (what: string) => new UserError('data-invalid', `${where} is not a usable IDX file: ${what}`);
  if (view.length < 4 || view[0] !== 0 || view[1] !== 0) throw bad('it does not begin with the IDX magic');
  if (view[2] !== 0x08)
    throw bad(`type 0x${view[2]!.toString(16).padStart(2, '0')} instead of 0x08, unsigned bytes`);
  const rank = view[3]!;
  const start = 4 + 4 * rank;
  if (rank === 0 || view.length < start) throw bad(`${rank} dimensions, but the header ends early`);
  const dims = Array.from({ length: rank }, (_, index) => view.readUInt32BE(4 + 4 * index));
  const size = dims.reduce((product, dim) => product * dim, 1);
  if (view.length - start !== size) {
    throw bad(`${dims.join(' × ')} = ${size} bytes announced, ${view.length - start} there`);
  }
  return { dims, data: bytes.subarray(start) };
}
