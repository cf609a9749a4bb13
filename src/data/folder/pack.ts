import { hash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { type FileStat, fileStat, nearPath, sameStat } from './walk.ts';

const block = 512;

/** A file that grew beyond this while it was read is given up on. */
const largest = 64 << 20;

/** A file to be packed, as it was found on disk. */
export interface PackFile extends FileStat {
  path: string;
  exec: boolean;
}

/** A file within packed bytes: `start` of its headers, `at` of its bytes, `end` of its padding. */
export interface Packed extends FileStat {
  sha256: string;
  start: number;
  at: number;
  end: number;
}

/** What became of a batch: members of a tar file one after the other, or why one could not be read. */
export type PackResult =
  | { kind: 'packed'; bytes: Uint8Array; files: Packed[] }
  | { kind: 'failed'; path: string; why: string };

/** The fields that are the same in every header of ours (POSIX.1-2017 pax, ustar Interchange Format). */
const template = Buffer.alloc(block);
template.write('0000644\0', 100, 'latin1');
template.write('0000000\0', 108, 'latin1');
template.write('0000000\0', 116, 'latin1');
template.write('00000000000\0', 124, 'latin1');
template.write('00000000000\0', 136, 'latin1');
template.write('        ', 148, 'latin1');
template.write('0', 156, 'latin1');
template.write('ustar\x0000', 257, 'latin1');

const sumOf = (bytes: Uint8Array, from: number, to: number): number => {
  let sum = 0;
  for (let index = from; index < to; index++) sum += bytes[index]!;
  return sum;
};

/** What the fields that differ between headers add to the template's sum: name, mode, size and type. */
const varying = (bytes: Uint8Array, at: number, name: number): number =>
  sumOf(bytes, at, at + name) +
  sumOf(bytes, at + 100, at + 107) +
  sumOf(bytes, at + 124, at + 135) +
  bytes[at + 156]!;

const templateSum = sumOf(template, 0, block) - varying(template, 0, 0);

function writeHeader(
  into: Buffer,
  at: number,
  name: string,
  size: number,
  type: string,
  exec: boolean,
): void {
  into.set(template, at);
  const length = into.write(name, at, 'latin1');
  if (exec) into.write('0000755', at + 100, 'latin1');
  into.write(size.toString(8).padStart(11, '0'), at + 124, 'latin1');
  into[at + 156] = type.charCodeAt(0);
  const sum = templateSum + varying(into, at, length);
  into.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
}

/** A pax record counts itself: `<length> path=<path>\n`. */
function paxRecord(path: string): Buffer {
  const rest = Buffer.byteLength(` path=${path}\n`);
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length += 1;
  return Buffer.from(`${length} path=${path}\n`);
}

const plain = /^[\x20-\x7e]{1,100}$/;
const padded = (size: number) => Math.ceil(size / block) * block;
const headBytes = (path: string) => (plain.test(path) ? block : 2 * block + padded(paxRecord(path).length));

/** How many bytes of a shard a file takes, and how many of them are headers before its own. */
export function memberRange(path: string, size: number): { head: number; length: number } {
  const head = headBytes(path);
  return { head, length: head + padded(size) };
}

/**
 * Reads files and lays them out as members of a tar file, in the order given; a header of our own because a library's costs
 * more than reading a small file does. A file that changes meanwhile is read again, three times at most. No times, owners
 * or modes of ours go in: the same files give the same bytes. They are laid into `into` when there is room.
 */
export function packFiles(
  root: string,
  files: readonly PackFile[],
  into: ArrayBuffer | null = null,
): PackResult {
  const needed = files.reduce((sum, { path, size }) => sum + headBytes(path) + padded(size), 0);
  let bytes = into && into.byteLength >= needed ? Buffer.from(into).fill(0) : Buffer.alloc(needed);
  const packed: Packed[] = [];
  const near = nearPath(root);
  let end = 0;
  for (const file of files) {
    const start = end;
    const at = start + headBytes(file.path);
    let fd: number;
    try {
      fd = openSync(`${near}/${file.path}`, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      return { kind: 'failed', path: file.path, why: (error as NodeJS.ErrnoException).code ?? String(error) };
    }
    let stat: FileStat = file;
    try {
      for (let attempt = 0; ; attempt++) {
        if (attempt === 4 || stat.size > largest) return { kind: 'failed', path: file.path, why: 'changing' };
        const need = at + padded(stat.size);
        if (need > bytes.length) {
          const larger = Buffer.alloc(need);
          bytes.copy(larger);
          bytes = larger;
        }
        let got = 0;
        while (got < stat.size) {
          const read = readSync(fd, bytes, at + got, stat.size - got, got);
          if (read === 0) break;
          got += read;
        }
        const now = fileStat(fstatSync(fd));
        if (got === stat.size && sameStat(now, stat)) break;
        bytes.fill(0, at, at + padded(stat.size));
        stat = now;
      }
    } finally {
      closeSync(fd);
    }
    end = at + padded(stat.size);
    if (at - start === block) {
      writeHeader(bytes, start, file.path, stat.size, '0', file.exec);
    } else {
      const record = paxRecord(file.path);
      writeHeader(bytes, start, 'pax', record.length, 'x', false);
      record.copy(bytes, start + block);
      const name = `${packed.length}`.padStart(6, '0');
      writeHeader(bytes, at - block, name, stat.size, '0', file.exec);
    }
    const sha256 = hash('sha256', bytes.subarray(at, at + stat.size), 'hex');
    const { size, mtime, ctime, ino } = stat;
    packed.push({ size, mtime, ctime, ino, sha256, start, at, end });
  }
  return { kind: 'packed', bytes: bytes.subarray(0, end), files: packed };
}
