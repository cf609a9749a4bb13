import { open } from 'node:fs/promises';
import type { CommandEvent } from './command-protocol.ts';
import { openEventLines } from './event-lines.ts';

/** Follows a file that another process appends to. */
export interface EventTail {
  /** The events written since the last call, a piece of the file at a time. */
  read(): AsyncGenerator<CommandEvent>;
  /** The same, with the line that has no end; nothing comes after it. */
  rest(): AsyncGenerator<CommandEvent>;
  /** Whether there is more than the limit; what is beyond it is not read. */
  isOver(): boolean;
  readonly refused: { count: number; first: string | null };
  close(): Promise<void>;
}

const piece = 256 * 1024;

/**
 * Opens the file, which exists, to read at most `limit` bytes of it. One that became shorter is read again from its begin:
 * the program opened it anew.
 */
export async function openEventTail(path: string, limit: number): Promise<EventTail> {
  const lines = openEventLines();
  const buffer = Buffer.alloc(piece);
  const file = await open(path, 'r');
  let at = 0;
  let total = 0;
  async function* read(): AsyncGenerator<CommandEvent> {
    const { size } = await file.stat();
    if (size < at) at = 0;
    // Up to where it ended just now: a program that writes faster than we read must not hold us here.
    while (at < size && total <= limit) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(piece, size - at), at);
      if (bytesRead === 0) break;
      at += bytesRead;
      total += bytesRead;
      yield* lines.push(buffer.subarray(0, bytesRead));
    }
  }
  return {
    read,
    async *rest() {
      yield* read();
      yield* lines.end();
    },
    isOver: () => total > limit,
    refused: lines.refused,
    close: () => file.close(),
  };
}
