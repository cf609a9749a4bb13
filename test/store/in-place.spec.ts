import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cutFile, decodeInPlace, encodeInPlace, readInPlace } from '../../src/store/in-place.ts';
import { type ObjectStore, openStore, type Piece } from '../../src/store/index.ts';

let folder: string;
let outside: ObjectStore;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-in-place-'));
  outside = await openStore(`file:${join(folder, 'outside')}`, null);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const open = async (at: string) => ({ store: outside, key: at });

/** A blob of these chunks, those that are said lying in the store outside. */
async function blobOf(chunks: readonly { bytes: Uint8Array; isOutside: boolean }[]) {
  const pieces: Piece[] = [];
  let offset = 0;
  for (const [index, { bytes, isOutside }] of chunks.entries()) {
    if (isOutside) {
      const at = `object-${index}`;
      await outside.put(at, bytes);
      const { etag } = (await outside.stat(at))!;
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      pieces.push({ offset, size: bytes.length, sha256, at, etag });
    }
    offset += bytes.length;
  }
  const whole = Buffer.concat(chunks.map(({ bytes }) => bytes));
  const path = join(folder, 'blob');
  await writeFile(path, whole);
  const cut = encodeInPlace(await cutFile(path, whole.length, pieces));
  return { whole, cut, pieces };
}

describe('a blob in place', () => {
  it('is read whole and in parts, as if it were here', async () => {
    const chunk = fc.record({ bytes: fc.uint8Array({ maxLength: 50 }), isOutside: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(chunk, { maxLength: 20 }),
        fc.nat(1200),
        fc.nat(1200),
        async (chunks, offset, length) => {
          const { whole, cut } = await blobOf(chunks);
          const blob = decodeInPlace(cut, 'it');
          expect(await buffer(readInPlace(blob, open))).toEqual(whole);
          const part = await buffer(readInPlace(blob, open, { offset, length }));
          expect(part).toEqual(whole.subarray(offset, offset + length));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('that large pieces are in comes as a stream, also where one is the last', async () => {
    const bytes = Buffer.alloc((1 << 20) + 5, 'large');
    const { whole, cut } = await blobOf([
      { bytes: Buffer.from('head'), isOutside: false },
      { bytes, isOutside: true },
      { bytes: Buffer.from('small'), isOutside: true },
      { bytes, isOutside: true },
    ]);
    expect((await buffer(readInPlace(decodeInPlace(cut, 'it'), open))).equals(whole)).toBe(true);
  });

  it('is refused when what says where it is says nothing that can be', async () => {
    const { cut, pieces } = await blobOf([{ bytes: Buffer.from('abc'), isOutside: true }]);
    const [piece] = pieces;
    const told = (value: unknown, rest = '') => Buffer.from(`${JSON.stringify(value)}\n${rest}`);
    expect(decodeInPlace(cut, 'it').pieces).toEqual(pieces);
    for (const bad of [
      Buffer.from('abc'),
      cut.subarray(0, cut.length - 1),
      told(null),
      told({ v: 1, size: 3, pieces: [null] }),
      told({ v: 1, size: 4, pieces }),
      told({ v: 1, size: 3, pieces }, 'more'),
      told({ v: 1, size: 6, pieces: [piece, piece] }),
      told({ v: 1, size: 3, pieces: [{ ...piece, offset: -1 }] }),
      told({ v: 1, size: 3, pieces: [{ ...piece, sha256: '../x' }] }),
    ])
      expect(() => decodeInPlace(bad, 'it'), bad.toString()).toThrow(/it does not say where its bytes are/);
  });
});
