/** Answers rows in groups. `rows` are whole items of `itemSize` numbers; what comes back are whole rows of `width` numbers. */
export interface Batcher {
  /** Rejects with what `compute` threw, or when the batcher was closed. */
  run(items: Float32Array | Uint8Array): Promise<Float32Array>;
  close(): void;
}

interface Job {
  items: Float32Array | Uint8Array;
  count: number;
  /** Rows handed to `compute` so far. */
  taken: number;
  /** Rows answered so far. */
  done: number;
  out: Float32Array;
  resolve(rows: Float32Array): void;
  reject(error: unknown): void;
}

/**
 * Joins requests that wait at the same time into one call of `compute`, and cuts large ones into calls of at most
 * `maxRows` rows. Between two calls the event loop turns once, so that health checks and new requests are heard while a
 * large request is computed.
 */
export function openBatcher(options: {
  itemSize: number;
  width: number;
  maxRows: number;
  /** Makes the joined items; of the same kind as what is passed to `run`. */
  allocate(length: number): Float32Array | Uint8Array;
  compute(items: Float32Array | Uint8Array): Float32Array | Promise<Float32Array>;
}): Batcher {
  const { itemSize, width, maxRows, allocate, compute } = options;
  const waiting: Job[] = [];
  let isScheduled = false;
  let isClosed = false;

  const schedule = (): void => {
    if (isScheduled || waiting.length === 0) return;
    isScheduled = true;
    const next = () => {
      isScheduled = false;
      schedule();
    };
    setImmediate(() => {
      const running = turn();
      if (running) running.then(next, next);
      else next();
    });
  };

  const turn = (): Promise<void> | null => {
    const parts: { job: Job; from: number; rows: number }[] = [];
    let total = 0;
    while (total < maxRows && waiting.length > 0) {
      const job = waiting[0]!;
      const rows = Math.min(job.count - job.taken, maxRows - total);
      parts.push({ job, from: job.taken, rows });
      job.taken += rows;
      total += rows;
      if (job.taken === job.count) waiting.shift();
    }
    if (total === 0) return null;
    const settle = (rows: Float32Array) => {
      let at = 0;
      for (const part of parts) {
        part.job.out.set(rows.subarray(at * width, (at + part.rows) * width), part.from * width);
        at += part.rows;
        part.job.done += part.rows;
        if (part.job.done === part.job.count) part.job.resolve(part.job.out);
      }
    };
    const fail = (error: unknown) => {
      for (const { job } of parts) {
        const index = waiting.indexOf(job);
        if (index >= 0) waiting.splice(index, 1);
        job.reject(error);
      }
    };
    try {
      const rows = compute(joined(parts, total));
      if (rows instanceof Promise) return rows.then(settle).catch(fail);
      settle(rows);
    } catch (error) {
      fail(error);
    }
    return null;
  };

  const joined = (parts: readonly { job: Job; from: number; rows: number }[], total: number) => {
    const only = parts[0]!;
    if (parts.length === 1) {
      return only.job.items.subarray(only.from * itemSize, (only.from + only.rows) * itemSize);
    }
    const items = allocate(total * itemSize);
    let at = 0;
    for (const { job, from, rows } of parts) {
      items.set(job.items.subarray(from * itemSize, (from + rows) * itemSize), at);
      at += rows * itemSize;
    }
    return items;
  };

  return {
    run(items) {
      const count = items.length / itemSize;
      if (isClosed) return Promise.reject(new Error('the model was closed'));
      if (count === 0) return Promise.resolve(new Float32Array(0));
      return new Promise((resolve, reject) => {
        waiting.push({
          items,
          count,
          taken: 0,
          done: 0,
          out: new Float32Array(count * width),
          resolve,
          reject,
        });
        schedule();
      });
    },
    close() {
      isClosed = true;
      for (const job of waiting.splice(0)) job.reject(new Error('the model was closed'));
    },
  };
}
