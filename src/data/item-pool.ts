import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, type Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { RawItem } from './raw-item.ts';
import { openWriter } from './stream-files.ts';

/** All items of a source on disk, with some 60 bytes each in memory, so that they can be had in the order of their ids. */
export interface ItemPool {
  readonly count: number;
  add(item: RawItem): Promise<void>;
  /** Ends adding; afterwards the pool can be read. */
  seal(): Promise<void>;
  id(index: number): Digest;
  label(index: number): number | null;
  /** Indices by ascending id; copies of one id by what is said of them, so that the order they came in does not show. */
  sorted(): Promise<Uint32Array>;
  read(index: number): Promise<RawItem>;
  close(): Promise<void>;
}

const idBytes = 32;
const noLabel = 0xffff;

/** Opens an empty pool in a folder that goes with it. */
export function createItemPool(folder: string): ItemPool {
  const path = join(folder, 'pool.bin');
  const out = openWriter(path);
  let file: Awaited<ReturnType<typeof open>> | null = null;
  let capacity = 1024;
  let ids = Buffer.alloc(capacity * idBytes);
  let starts = new Float64Array(capacity + 1);
  let sizes = new Uint32Array(capacity);
  let labels = new Uint16Array(capacity);
  let count = 0;

  const grow = () => {
    capacity *= 2;
    ids = Buffer.concat([ids], capacity * idBytes);
    starts = copied(starts, new Float64Array(capacity + 1));
    sizes = copied(sizes, new Uint32Array(capacity));
    labels = copied(labels, new Uint16Array(capacity));
  };
  const idOf = (index: number) => ids.subarray(index * idBytes, (index + 1) * idBytes);

  const pool: ItemPool = {
    get count() {
      return count;
    },

    async add({ id, bytes, extension, label, attributes, position }) {
      if (count === capacity) grow();
      ids.write(id.slice(7), count * idBytes, 'hex');
      sizes[count] = bytes.length;
      labels[count] = label ?? noLabel;
      const told = Buffer.from(
        canonicalJson({ extension, attributes, ...(position !== undefined && { position }) }),
        'utf8',
      );
      const start = starts[count]!;
      starts[++count] = start + bytes.length + told.length;
      await out.write(bytes);
      await out.write(told);
    },

    async seal() {
      await out.close();
      file = await open(path, 'r');
    },

    id: (index) => `sha256:${idOf(index).toString('hex')}`,
    label: (index) => (labels[index] === noLabel ? null : labels[index]!),

    async sorted() {
      // The first six bytes nearly always decide, and comparing numbers is much faster than comparing buffers.
      const prefix = Float64Array.from({ length: count }, (_, index) => ids.readUIntBE(index * idBytes, 6));
      const order = Uint32Array.from({ length: count }, (_, index) => index);
      order.sort((a, b) => prefix[a]! - prefix[b]! || Buffer.compare(idOf(a), idOf(b)));
      for (let start = 0; start < count; ) {
        let end = start + 1;
        while (end < count && idOf(order[end]!).equals(idOf(order[start]!))) end++;
        if (end - start > 1) {
          const copies: { index: number; told: string }[] = [];
          for (const index of order.subarray(start, end)) {
            const { label, extension, attributes } = await pool.read(index);
            copies.push({ index, told: canonicalJson([label, extension, attributes]) });
          }
          copies.sort((a, b) => (a.told < b.told ? -1 : a.told > b.told ? 1 : 0));
          order.set(
            copies.map((copy) => copy.index),
            start,
          );
        }
        start = end;
      }
      return order;
    },

    async read(index) {
      const length = starts[index + 1]! - starts[index]!;
      const all = Buffer.alloc(length);
      const { bytesRead } = await file!.read(all, 0, length, starts[index]!);
      if (bytesRead !== length)
        throw new UserError('data-invalid', `${path} was cut short while it was in use`);
      const size = sizes[index]!;
      const told = JSON.parse(all.toString('utf8', size)) as Pick<
        RawItem,
        'extension' | 'attributes' | 'position'
      >;
      return { id: pool.id(index), bytes: all.subarray(0, size), label: pool.label(index), ...told };
    },

    async close() {
      // A pool that was not sealed has failed already, and its folder goes with it.
      if (!file) await out.close().catch(() => undefined);
      await file?.close();
    },
  };
  return pool;
}

function copied<T extends Float64Array | Uint32Array | Uint16Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
