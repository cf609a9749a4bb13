import { createHash } from 'node:crypto';
import { appendFile, mkdir, readdir, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import type { Datatype, Tensor } from './types.ts';

/**
 * A tensor in a record. `bytes` is the row-major little-endian data in base64; large ones are named by their digest, strings
 * by that of their JSON.
 */
export interface ScoredTensor {
  name: string;
  datatype: Datatype;
  shape: number[];
  content:
    | { kind: 'bytes'; bytes: string }
    | { kind: 'strings'; strings: string[] }
    | { kind: 'digest'; digest: Digest };
}

/** What a server tells about an answer it gave, or about a truth it was told. Times are ISO 8601. */
export type ScoringRecord =
  | {
      kind: 'scored';
      id: string;
      time: string;
      model: string;
      version: string;
      package: Digest;
      protocol: 'v2' | 'seldon';
      inputs: ScoredTensor[];
      outputs: ScoredTensor[];
      /** Milliseconds from the request's last byte to its answer. */
      latency: number;
    }
  | {
      kind: 'feedback';
      id: string;
      time: string;
      model: string;
      version: string;
      package: Digest;
      /** Id of the answer this is about. */
      request: string | null;
      reward: number | null;
      truth: unknown;
    };

/** Tensors of more bytes than this are recorded by digest. */
const maxRecordedBytes = 64 * 1024;

/** The form of a tensor in a record. */
export function scoredTensor(tensor: Tensor): ScoredTensor {
  const { name, datatype, shape, data } = tensor;
  if (Array.isArray(data) && data.reduce((sum, text) => sum + text.length, 0) <= maxRecordedBytes) {
    return { name, datatype, shape, content: { kind: 'strings', strings: data } };
  }
  const bytes = Array.isArray(data)
    ? Buffer.from(JSON.stringify(data))
    : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (!Array.isArray(data) && bytes.length <= maxRecordedBytes) {
    return { name, datatype, shape, content: { kind: 'bytes', bytes: bytes.toString('base64') } };
  }
  const digest: Digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  return { name, datatype, shape, content: { kind: 'digest', digest } };
}

/** An append-only log of records. Writing never waits and never throws: what does not fit is counted and dropped. */
export interface ScoringLog {
  write(record: ScoringRecord): void;
  /** Records taken and lost (queue full, or the disk failed) since it was opened. */
  counts(): { written: number; dropped: number };
  /** Resolves when everything taken is on its way to the disk. */
  flush(): Promise<void>;
}

/**
 * Opens a JSONL file for appending. At `maxBytes` it becomes `<name>.<number>.jsonl`, numbers rising, and a new one is
 * begun; the newest `keep` of those stay. At most `maxQueuedBytes` wait in memory.
 */
export function openScoringLog(
  file: string,
  options: { maxBytes?: number; keep?: number; maxQueuedBytes?: number } = {},
): ScoringLog {
  const { maxBytes = 64 * 1024 * 1024, keep = 8, maxQueuedBytes = 8 * 1024 * 1024 } = options;
  let queue: string[] = [];
  let queuedBytes = 0;
  let written = 0;
  let dropped = 0;
  let size: number | null = null;
  let pump: Promise<void> | null = null;

  const drain = async (): Promise<void> => {
    while (queue.length > 0) {
      const lines = queue;
      queue = [];
      queuedBytes = 0;
      const text = lines.join('');
      try {
        if (size === null) {
          await mkdir(dirname(file), { recursive: true });
          size = await stat(file).then(
            (found) => found.size,
            () => 0,
          );
        }
        if (size > 0 && size + text.length > maxBytes) {
          await rotate(file, keep);
          size = 0;
        }
        await appendFile(file, text, { mode: 0o600 });
        size += Buffer.byteLength(text);
        written += lines.length;
      } catch {
        // A full disk must not take the answers down with it; the metric tells.
        dropped += lines.length;
        size = null;
      }
    }
    pump = null;
  };

  return {
    write(record) {
      const line = `${JSON.stringify(record)}\n`;
      if (queuedBytes + line.length > maxQueuedBytes) {
        dropped++;
        return;
      }
      queue.push(line);
      queuedBytes += line.length;
      // In a microtask no earlier than the next turn, so that a burst becomes one write.
      pump ??= new Promise<void>((resolve) => setImmediate(resolve)).then(drain);
    },
    counts: () => ({ written, dropped }),
    async flush() {
      while (pump) await pump;
    },
  };
}

async function rotate(file: string, keep: number): Promise<void> {
  const folder = dirname(file);
  const stem = basename(file).replace(/\.jsonl$/, '');
  const numbers = (await readdir(folder))
    .filter((name) => name.startsWith(`${stem}.`) && name.endsWith('.jsonl'))
    .map((name) => Number(name.slice(stem.length + 1, -'.jsonl'.length)))
    .filter((number) => Number.isInteger(number))
    .sort((a, b) => a - b);
  const next = (numbers.at(-1) ?? 0) + 1;
  await rename(file, join(folder, `${stem}.${next}.jsonl`));
  for (const number of [...numbers, next].slice(0, -keep)) {
    await unlink(join(folder, `${stem}.${number}.jsonl`)).catch(() => {});
  }
}
