import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UpstreamError } from '../../src/core/error.ts';
import { openDatabase } from '../../src/db/index.ts';
import { databaseContract } from '../contract/db.ts';

const script = fileURLToPath(new URL('../services/postgres.sh', import.meta.url));
const binaries = process.env.CDL_POSTGRES_BIN ?? '/usr/lib/postgresql/15/bin';

/** A path short enough for a socket. */
const freshFolder = () => `/tmp/cdl-pg15-${process.pid}-${Math.random().toString(36).slice(2)}`;

if (existsSync(join(binaries, 'initdb'))) {
  let folder: string;

  databaseContract(
    'a PostgreSQL 15 server',
    async () => {
      folder = freshFolder();
      const { stdout } = await execa(script, [folder]);
      return { url: stdout, folder: '' };
    },
    async () => {
      await execa(script, [folder, 'stop']);
    },
  );

  describe('a PostgreSQL 15 server', () => {
    let at: string;
    let url: string;

    beforeAll(async () => {
      at = freshFolder();
      url = (await execa(script, [at])).stdout;
    });
    afterAll(() => execa(script, [at, 'stop']).then(() => undefined));

    it('names the server, and never the password, when it is refused or not there', async () => {
      const refused = await openDatabase({ url: url.replace('secret', 'wrong-one'), folder: '' }).catch(
        (error: unknown) => error,
      );
      expect(refused).toMatchObject({ name: 'UserError', code: 'database-unavailable' });
      expect(String(refused)).not.toContain('wrong-one');
      await expect(
        openDatabase({ url: url.replace(/postgres$/, 'other'), folder: '' }),
      ).rejects.toMatchObject({ code: 'database-unavailable', message: expect.stringContaining('other') });
    });
  });
} else {
  const reason = `no ${binaries}/initdb; CDL_POSTGRES_BIN names another folder`;
  process.stderr.write(`skipped: a PostgreSQL 15 server (${reason})\n`);
  describe.skip(`a PostgreSQL 15 server (${reason})`, () => {
    it('keeps the database contract', () => undefined);
  });
}

describe('a PostgreSQL server that is not there', () => {
  it('is something to try again later', async () => {
    const failure = await openDatabase({
      url: 'postgresql://me:secret@127.0.0.1:1/db',
      folder: '',
    }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UpstreamError);
    expect(failure).toMatchObject({ service: 'database', retryable: true });
    expect(String(failure)).not.toContain('secret');
  });
});
