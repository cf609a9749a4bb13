import { createHash } from 'node:crypto';
import { constants, copyFile, type FileHandle, open, rm } from 'node:fs/promises';
import { UserError } from '../../core/error.ts';
import { hashFile } from '../../store/stream.ts';
import type { LocalZone } from '../../store/types.ts';
import { type FileStat, fileStat, sameStat } from './walk.ts';

const chunk = 1 << 20;

/**
 * Stores a file as an object of its own, read once: while one piece is hashed, the next is read and the last is written. Where
 * the file system can, the copy shares the file's blocks. A file that changes meanwhile is read again, three times at most;
 * then UserError data-invalid. `onBytes` hears how many more were read, and may stop it by throwing.
 */
export async function storeLarge(
  zone: LocalZone,
  path: string,
  onBytes: (bytes: number) => void = () => {},
): Promise<{ sha256: string; stat: FileStat }> {
  for (let attempt = 0; attempt < 4; attempt++) {
    const temporary = zone.temporary();
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const before = fileStat(await file.stat());
      const found = (await clone(path, temporary)) ?? (await copyHashing(file, temporary, onBytes));
      const after = fileStat(await file.stat());
      if (!sameStat(before, after) || found.size !== after.size) continue;
      await zone.adopt(temporary, `sha256:${found.sha256}`);
      return { sha256: found.sha256, stat: after };
    } finally {
      await file.close();
      await rm(temporary, { force: true });
    }
  }
  throw new UserError('data-invalid', `${path} changes while it is read`, 'add it when nothing writes to it');
}

async function clone(path: string, to: string): Promise<{ sha256: string; size: number } | null> {
  try {
    await copyFile(path, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
  } catch {
    await rm(to, { force: true });
    return null;
  }
  const { digest, size } = await hashFile(to);
  return { sha256: digest.slice(7), size };
}

async function copyHashing(
  file: FileHandle,
  to: string,
  onBytes: (bytes: number) => void,
): Promise<{ sha256: string; size: number }> {
  const output = await open(to, 'wx');
  const hash = createHash('sha256');
  const buffers = [Buffer.allocUnsafe(chunk), Buffer.allocUnsafe(chunk), Buffer.allocUnsafe(chunk)];
  let size = 0;
  let turn = 0;
  let written: Promise<unknown> = Promise.resolve();
  try {
    let reading = file.read(buffers[0]!, 0, chunk, 0);
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) break;
      const bytes = buffers[turn]!.subarray(0, bytesRead);
      const at = size;
      size += bytesRead;
      turn = (turn + 1) % buffers.length;
      // The next buffer is free: the write that used it ended before the last one began.
      reading = file.read(buffers[turn]!, 0, chunk, size);
      await written;
      written = writeWhole(output, bytes, at);
      hash.update(bytes);
      onBytes(bytesRead);
    }
    await written;
    return { sha256: hash.digest('hex'), size };
  } finally {
    await written.catch(() => {});
    await output.close();
  }
}

async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
