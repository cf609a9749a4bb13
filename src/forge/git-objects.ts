import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { UpstreamError } from '../core/error.ts';

/** An object of a repository. */
export interface GitObject {
  type: 'commit' | 'tree' | 'blob' | 'tag';
  bytes: Buffer;
}

/** Reads objects by name, all through one process of git. */
export interface ObjectReader {
  /** Null when the repository does not have it. Throws UpstreamError when git ends. */
  read(oid: string): Promise<GitObject | null>;
  /** Ends the process; the next read starts another one. */
  close(): void;
}

interface Question {
  resolve(object: GitObject | null): void;
  reject(error: Error): void;
}

/** How long the process waits for another question, in milliseconds. */
const patience = 10_000;

const lineEnd = 0x0a;

/**
 * Opens a reader of the repository in `folder`: `git cat-file --batch` (git's document git-cat-file, "Batch output"), started
 * with the first read and ended when nobody has read for a while. It keeps no Node process from ending.
 */
export function openObjects(folder: string, env: Readonly<Record<string, string>>): ObjectReader {
  let running: { child: ChildProcessByStdio<Writable, Readable, Readable>; asked: Question[] } | null = null;
  let idle: NodeJS.Timeout | null = null;

  function start(): NonNullable<typeof running> {
    const child = spawn('git', ['cat-file', '--batch'], { cwd: folder, env, stdio: 'pipe' });
    const self = { child, asked: [] as Question[] };
    let text = '';
    let parts: Buffer[] = [];
    let size = 0;
    /** What the answer under way is: its header until it came, then type and length. */
    let awaited: { type: GitObject['type']; length: number } | null = null;

    const take = () => {
      for (;;) {
        const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
        parts = all.length > 0 ? [all] : [];
        if (!awaited) {
          const end = all.indexOf(lineEnd);
          if (end < 0) return;
          const header = all.toString('utf8', 0, end);
          keep(all.subarray(end + 1));
          const [, type, length] = header.split(' ');
          if (length === undefined) answer(null);
          else awaited = { type: type as GitObject['type'], length: Number(length) };
          continue;
        }
        // The bytes end with a line feed of their own.
        if (all.length < awaited.length + 1) return;
        const bytes = Buffer.from(all.subarray(0, awaited.length));
        const { type } = awaited;
        awaited = null;
        keep(all.subarray(bytes.length + 1));
        answer({ type, bytes });
      }
    };
    const keep = (rest: Buffer) => {
      parts = rest.length > 0 ? [rest] : [];
      size = rest.length;
    };
    const answer = (object: GitObject | null) => {
      self.asked.shift()?.resolve(object);
      if (self.asked.length === 0) rest();
    };
    child.stdout.on('data', (chunk: Buffer) => {
      parts.push(chunk);
      size += chunk.length;
      // Large objects come in many chunks: put together once, when all is there.
      if (!awaited || size > awaited.length) take();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      text = `${text}${chunk.toString('utf8')}`.slice(-500);
    });
    const end = (why: string) => {
      if (running === self) running = null;
      for (const one of self.asked.splice(0)) {
        one.reject(new UpstreamError('git', `cat-file: ${text.trim() || why}`, { retryable: true }));
      }
    };
    child.stdin.on('error', () => undefined);
    child.on('error', (error) => end(error.message));
    child.on('close', () => end('git ended'));
    child.unref();
    for (const stream of [child.stdin, child.stdout, child.stderr]) hold(stream, false);
    return self;
  }

  /** Whether a stream keeps the process from ending. */
  function hold(stream: unknown, on: boolean): void {
    const socket = stream as { ref?(): void; unref?(): void };
    if (on) socket.ref?.();
    else socket.unref?.();
  }

  function rest(): void {
    if (!running) return;
    hold(running.child.stdout, false);
    idle = setTimeout(close, patience);
    idle.unref();
  }

  function close(): void {
    const ended = running;
    running = null;
    // What was asked is still answered.
    ended?.child.stdin.end();
  }

  return {
    read(oid) {
      if (!/^[0-9a-f]{40,64}$/.test(oid)) return Promise.resolve(null);
      if (idle) clearTimeout(idle);
      running ??= start();
      const { child, asked } = running;
      hold(child.stdout, true);
      return new Promise((resolve, reject) => {
        asked.push({ resolve, reject });
        child.stdin.write(`${oid}\n`);
      });
    },
    close,
  };
}

/** The entries of a tree object: mode, name and object name (git's book, "Git Objects"). `width`: bytes of a name. */
export function parseTree(bytes: Buffer, width: number): { mode: string; name: string; oid: string }[] {
  const entries: { mode: string; name: string; oid: string }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const zero = bytes.indexOf(0, space);
    entries.push({
      mode: bytes.toString('latin1', at, space).padStart(6, '0'),
      name: bytes.toString('utf8', space + 1, zero),
      oid: bytes.toString('hex', zero + 1, zero + 1 + width),
    });
    at = zero + 1 + width;
  }
  return entries;
}
