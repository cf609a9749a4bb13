import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkHeld, openPieces, openWriter, readLarge } from '../../src/data/stream-files.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-stream-files-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('what is written in pieces of any size is read in pieces of any size', async () => {
  const path = join(folder, 'file');
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.nat(700_000).map((size) => Buffer.alloc(size, size % 251)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(chunk, { maxLength: 12 }), fc.nat(300_000), async (chunks, length) => {
      const writer = openWriter(path);
      for (const one of chunks) {
        // What was given may be used again at once.
        const own = Uint8Array.from(one);
        await writer.write(own);
        own.fill(0);
      }
      await writer.close();
      const whole = Buffer.concat(chunks);
      expect((await readFile(path)).equals(whole)).toBe(true);
      expect((await readLarge(path, length + 1)).equals(whole)).toBe(true);
      const file = await open(path);
      try {
        const piece = openPieces(file);
        const found: Buffer[] = [];
        for (let at = 0; at < whole.length; at += length + 1) found.push(await piece(length + 1, at));
        expect(Buffer.concat(found).equals(whole)).toBe(true);
        expect(await piece(5, whole.length)).toHaveLength(0);
      } finally {
        await file.close();
      }
    }),
    { numRuns: 30 },
  );
});

it.skipIf(process.platform !== 'linux')('a full disk is told, at the latest at the end', async () => {
  const writer = openWriter('/dev/full');
  await writer.write('x');
  await expect(writer.close()).rejects.toMatchObject({ code: 'ENOSPC' });
});

it('what no buffer can hold is refused before it is read, with what to do', () => {
  expect(() => checkHeld('images.idx', 2 ** 31)).not.toThrow();
  expect(() => checkHeld('images.idx', 2 ** 53)).toThrow(/images\.idx: 9007199254740992 bytes of tensors/);
});
