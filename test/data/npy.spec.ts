import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openDataset, splitValidation } from '../../src/data/dataset.ts';
import { idxHeader } from '../../src/data/idx.ts';
import { npyHeader, parseNpy } from '../../src/data/npy.ts';
import { openPacked, writePacked } from '../../src/data/packed.ts';

async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-npy-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const floats = (values: readonly number[]) => {
  const array = Float32Array.from(values);
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
};

describe('a NumPy file', () => {
  it('begins as numpy.save writes it, whatever the count turns out to be', () => {
    const header = npyHeader([2, 3], 'float32');
    expect(header.length % 64).toBe(0);
    expect([...header.subarray(0, 10)]).toEqual([0x93, ...Buffer.from('NUMPY'), 1, 0, 118, 0]);
    expect(header.toString('latin1', 10)).toMatch(
      /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(2, 3\), \} +\n$/,
    );
    expect(npyHeader([7], 'uint8').toString('latin1')).toContain(
      "'|u1', 'fortran_order': False, 'shape': (7,)",
    );
    expect(npyHeader([4e9, 4e9], 'uint8').length).toBe(header.length);
  });

  it('gives back the numbers, from bytes at any offset', () => {
    for (const offset of [0, 1, 2, 3]) {
      const body = Buffer.concat([
        Buffer.alloc(offset),
        npyHeader([2, 2], 'float32'),
        floats([1, -2.5, 3, 0]),
      ]);
      const { dims, data } = parseNpy(body.subarray(offset), 'x.npy');
      expect(dims).toEqual([2, 2]);
      expect([...data]).toEqual([1, -2.5, 3, 0]);
    }
  });

  it.each([
    ['something else', Buffer.from('PNG'), /does not begin/],
    [
      'one cut short',
      Buffer.concat([npyHeader([2, 2], 'float32'), Buffer.alloc(8)]),
      /4|2 × 2 numbers announced, 2 there/,
    ],
    [
      'one of another type',
      Buffer.from(npyHeader([1], 'uint8').toString('latin1').replace('|u1', '<i8'), 'latin1'),
      /bytes or float32/,
    ],
  ])('that is %s is refused', (_what, bytes, message) => {
    expect(() => parseNpy(bytes, 'x.npy')).toThrow(message);
  });
});

describe('a transform as a data set', () => {
  it('opens with float32 items, and whole groups go to one part', async () => {
    await withFolder(async (folder) => {
      const count = 60;
      const groups = Array.from({ length: count }, (_, index) => `group ${index % 20}`);
      await writeFile(
        join(folder, 'items.npy'),
        Buffer.concat([
          npyHeader([count, 2], 'float32'),
          floats(Array.from({ length: count * 2 }, (_, i) => i / 2)),
        ]),
      );
      await writeFile(
        join(folder, 'labels.idx'),
        Buffer.concat([idxHeader([count]), Buffer.alloc(count, 1)]),
      );
      await writeFile(join(folder, 'classes.json'), '["a","b"]');
      await writeFile(join(folder, 'groups.json'), JSON.stringify(groups));
      const set = await openDataset(folder);
      expect(set).toMatchObject({ count, shape: [2], classes: ['a', 'b'] });
      const { train, validation } = splitValidation(set, 0.4, 'k');
      expect(train.x).toBeInstanceOf(Float32Array);
      expect(train.count + validation.count).toBe(count);
      expect(train.groups!.filter((group) => validation.groups!.includes(group))).toEqual([]);
      expect(Math.min(train.count, validation.count)).toBeGreaterThan(0);
      await writeFile(join(folder, 'groups.json'), '["one"]');
      await expect(openDataset(folder)).rejects.toMatchObject({ code: 'artifact-corrupt' });
    });
  });
});

describe('packed items', () => {
  it('come back as they went in, any stretch of them', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'items');
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 }),
          fc.nat(),
          fc.nat(),
          async (items, a, b) => {
            const count = await writePacked(
              path,
              (async function* () {
                yield* items;
              })(),
            );
            expect(count).toBe(items.length);
            const packed = await openPacked(path);
            expect(packed.count).toBe(count);
            const [from, to] = [a % (count + 1), b % (count + 1)].sort((x, y) => x - y) as [number, number];
            const read = await packed.read(from, to);
            await packed.close();
            expect(read.map((one) => [...one])).toEqual(items.slice(from, to).map((one) => [...one]));
          },
        ),
        { numRuns: 60 },
      );
    });
  });

  it('cut off within one are refused', async () => {
    await withFolder(async (folder) => {
      await writeFile(join(folder, 'items'), Buffer.from([9, 0, 0, 0, 1, 2]));
      await expect(openPacked(join(folder, 'items'))).rejects.toMatchObject({ code: 'artifact-corrupt' });
    });
  });
});
