import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import type { LocalZone } from '../../store/types.ts';
import type { BlobSlot } from './part.ts';

/** A shard is closed before it would grow beyond this many bytes. */
export const shardBytes = 64 << 20;

/** And when it has this many members: the index of what is in it waits in memory for its address. */
const mostMembers = 8192;

/** Members are hashed and written so many bytes at once: each for itself would cost more than the bytes do. */
const pieceBytes = 1 << 20;

/**
 * Writes members into plain tar files, one after the other. An open one is a temporary file that the next opening of the store
 * removes when this process was killed.
 */
export class ShardWriter {
  readonly #zone: LocalZone;
  readonly #limit: number;
  #open: { slot: BlobSlot; path: string; file: number; hash: Hash; size: number; members: number } | null =
    null;
  #piece = Buffer.alloc(0);
  #held = 0;
  /** The shards that are whole: size in bytes by sha256. */
  readonly whole = new Map<string, number>();

  constructor(zone: LocalZone, limit: number = shardBytes) {
    this.#zone = zone;
    this.#limit = limit;
  }

  /** Adds a whole member; `at` is where it begins. The slot gets its address when its shard is closed. */
  async append(members: Uint8Array): Promise<{ slot: BlobSlot; at: number }> {
    if (
      this.#open &&
      (this.#open.size + members.length > this.#limit || this.#open.members === mostMembers)
    ) {
      await this.close();
    }
    if (!this.#open) {
      const path = this.#zone.temporary();
      this.#open = {
        slot: { sha256: null },
        path,
        file: openSync(path, 'wx'),
        hash: createHash('sha256'),
        size: 0,
        members: 0,
      };
    }
    const at = this.#open.size;
    this.#write(members);
    this.#open.members += 1;
    return { slot: this.#open.slot, at };
  }

  #write(bytes: Uint8Array): void {
    if (this.#held + bytes.length > pieceBytes) this.#flush();
    if (bytes.length >= pieceBytes) this.#out(bytes);
    else {
      if (this.#piece.length === 0) this.#piece = Buffer.allocUnsafe(pieceBytes);
      this.#piece.set(bytes, this.#held);
      this.#held += bytes.length;
    }
    this.#open!.size += bytes.length;
  }

  #flush(): void {
    const held = this.#piece.subarray(0, this.#held);
    this.#held = 0;
    this.#out(held);
  }

  #out(bytes: Uint8Array): void {
    const { file, hash } = this.#open!;
    hash.update(bytes);
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
  }

  /** Ends the shard that is open (two empty blocks, as tar has it) and stores it. */
  async close(): Promise<void> {
    if (!this.#open) return;
    this.#write(Buffer.alloc(1024));
    this.#flush();
    const { slot, path, file, hash, size } = this.#open;
    this.#open = null;
    closeSync(file);
    const sha256 = hash.digest('hex');
    await this.#zone.adopt(path, `sha256:${sha256}`);
    slot.sha256 = sha256;
    this.whole.set(sha256, size);
  }
}
