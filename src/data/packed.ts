import { open } from 'node:fs/promises';
import { UserError } from '../core/error.ts';

/** Raw items in one file without names or labels: each its length (unsigned, 32 bits, little-endian), then its bytes. */
export async function writePacked(path: string, items: AsyncIterable<Uint8Array>): Promise<number> {
  const file = await open(path, 'w');
  let count = 0;
  try {
    for await (const bytes of items) {
      const head = Buffer.alloc(4);
      head.writeUInt32LE(bytes.length);
      await file.writev([head, bytes]);
      count++;
    }
  } finally {
    await file.close();
  }
  return count;
}

/** The items of a file of {@link writePacked}, read when asked for. */
export interface Packed {
  count: number;
  /** Items `from … to − 1`. */
  read(from: number, to: number): Promise<Uint8Array[]>;
  close(): Promise<void>;
}

/** Opens a file of {@link writePacked}. Throws UserError artifact-corrupt when it ends within an item. */
export async function openPacked(path: string): Promise<Packed> {
  const file = await open(path, 'r');
  const starts = [0];
  try {
    const { size } = await file.stat();
    const head = Buffer.alloc(4);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(head, 0, 4, at);
      at += 4 + (bytesRead === 4 ? head.readUInt32LE() : 0);
      if (bytesRead !== 4 || at > size)
        throw new UserError('artifact-corrupt', `${path} ends within an item`);
      starts.push(at);
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  return {
    count: starts.length - 1,
    async read(from, to) {
      const start = starts[from]!;
      const block = Buffer.alloc(starts[to]! - start);
      await file.read(block, 0, block.length, start);
      return Array.from({ length: to - from }, (_, index) =>
        block.subarray(starts[from + index]! - start + 4, starts[from + index + 1]! - start),
      );
    },
    close: () => file.close(),
  };
}
