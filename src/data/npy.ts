import { UserError } from '../core/error.ts';

/** Numbers of an item: bytes, or float32. */
export type ItemArray = Uint8Array | Float32Array;

/** Bytes of the header, so that it can be written before the count is known and again when it is. */
export const npyHeaderSize = 128;

/**
 * The header of a NumPy file of version 1.0, `<f4` or `|u1`, row-major (numpy.org, "numpy.lib.format"): always
 * {@link npyHeaderSize} bytes.
 */
export function npyHeader(dims: readonly number[], type: 'uint8' | 'float32'): Buffer {
  const text = `{'descr': '${type === 'uint8' ? '|u1' : '<f4'}', 'fortran_order': False, 'shape': (${dims.join(', ')}${dims.length === 1 ? ',' : ''}), }`;
  const header = Buffer.alloc(npyHeaderSize, ' ');
  header.write('\x93NUMPY\x01\x00', 0, 'latin1');
  header.writeUInt16LE(npyHeaderSize - 10, 8);
  header.write(text, 10, 'latin1');
  header[npyHeaderSize - 1] = 10;
  if (10 + text.length >= npyHeaderSize) throw new RangeError(`${dims.length} dimensions do not fit`);
  return header;
}

/** Reads what {@link npyHeader} begins; the numbers share memory with `bytes` where it is aligned. Throws UserError data-invalid. */
export function parseNpy(bytes: Uint8Array, where: string): { dims: number[]; data: ItemArray } {
  const bad = (what: string) => new UserError('data-invalid', `${where} is not a usable NumPy file: ${what}`);
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < 10 || view.toString('latin1', 0, 6) !== '\x93NUMPY' || view[6] !== 1) {
    throw bad('it does not begin as one of version 1.0');
  }
  const start = 10 + view.readUInt16LE(8);
  const text = view.toString('latin1', 10, start);
  const match =
    /^\{'descr': '(\|u1|<f4)', 'fortran_order': False, 'shape': \((\d+(?:, \d+)*),?\), \}\s*$/.exec(text);
  if (!match || start > view.length) throw bad('it holds something else than bytes or float32, row by row');
  const dims = match[2]!.split(', ').map(Number);
  const size = dims.reduce((product, dim) => product * dim, 1);
  const width = match[1] === '<f4' ? 4 : 1;
  if (view.length - start !== size * width) {
    throw bad(`${dims.join(' × ')} numbers announced, ${(view.length - start) / width} there`);
  }
  const body = bytes.subarray(start);
  if (width === 1) return { dims, data: body };
  const aligned = body.byteOffset % 4 === 0 ? body : Uint8Array.from(body);
  return { dims, data: new Float32Array(aligned.buffer, aligned.byteOffset, size) };
}
