import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Candidate, candidateDigest } from '../../src/core/candidate.ts';
import { candidateKey } from '../../src/core/claim.ts';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { liveKey } from '../../src/core/live.ts';
import type { Report } from '../../src/core/report.ts';
import { ownerName } from '../../src/exec/owner.ts';
import { childEnvironment, openZone, readTrustedKeys } from '../../src/steps/context.ts';
import { openHandover } from '../../src/steps/handover.ts';
import { nothingLive, readCandidate, readEvaluation, readLive } from '../../src/steps/trusted.ts';
import type { Zone } from '../../src/store/types.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-handover-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('what a step hands on', () => {
  const report: Report = { key: 'train:m', title: 't', verdict: 'pass', summary: 's', blocks: [] };

  it('is read by later jobs from the files of the folder, by step and subject', async () => {
    const one = openHandover(folder);
    await one.write('train', 'm.v2', { run: 'sha256:aa' });
    await one.writeReport('train', 'm.v2', report);
    await one.write('ingest', 'd', { dataset: 'sha256:bb' });
    await one.writeFile('deep/er/picture.png', new Uint8Array([1, 2]));
    const other = openHandover(folder);
    expect(await other.read('train', 'm.v2')).toEqual({ run: 'sha256:aa' });
    expect(await other.readReport('train', 'm.v2')).toEqual(report);
    expect((await other.list()).sort((a, b) => (a.step < b.step ? -1 : 1))).toEqual([
      { step: 'ingest', subject: 'd' },
      { step: 'train', subject: 'm.v2' },
    ]);
    expect(await readFile(join(folder, 'deep/er/picture.png'))).toHaveLength(2);
  });

  it('is nothing where the step has not run, and no half file is left beside it', async () => {
    const handover = openHandover(join(folder, 'none'));
    expect(await handover.read('train', 'm')).toBeNull();
    expect(await handover.readReport('train', 'm')).toBeNull();
    expect(await handover.list()).toEqual([]);
    await handover.write('train', 'm', {});
    // One that was killed left this; one that is at work has that.
    const file = (owner: string) => join(folder, 'none', `m.train.outputs.json.${owner}.new`);
    const gone = ownerName().split('-').with(1, '999999999').join('-');
    const here = ownerName();
    for (const owner of [gone, here]) await writeFile(file(owner), '{');
    await handover.write('train', 'm', { again: 'yes' });
    expect((await readdir(join(folder, 'none'))).filter((name) => name.endsWith('.new'))).toHaveLength(1);
    await rm(file(here));
    const written = Array.from({ length: 20 }, (_, at) => handover.write('train', 'm', { at: String(at) }));
    await Promise.all(written);
    expect(await handover.read('train', 'm')).toHaveProperty('at');
    expect(await readdir(join(folder, 'none'))).toEqual(['m.train.outputs.json']);
  });

  it('is refused by name when it is no JSON, or not what steps hand on', async () => {
    const handover = openHandover(folder);
    await writeFile(join(folder, 'm.train.outputs.json'), '{"run":');
    await expect(handover.read('train', 'm')).rejects.toMatchObject({
      code: 'input-missing',
      message: expect.stringContaining('m.train.outputs.json is not JSON'),
    });
    await writeFile(join(folder, 'm.train.outputs.json'), '{"run": 1}');
    await writeFile(join(folder, 'm.train.report.json'), '{"title": "made up"}');
    await expect(handover.readReport('train', 'm')).rejects.toMatchObject({ code: 'input-missing' });
    await expect(handover.read('train', 'm')).rejects.toMatchObject({
      code: 'input-missing',
      message: expect.stringContaining('m.train.outputs.json'),
    });
  });
});

describe('the trusted zone', () => {
  const digest = (text: string) => digestBytes(Buffer.from(text));
  const candidate: Candidate = {
    model: 'm',
    code: digest('code'),
    config: digest('config'),
    dataset: digest('dataset'),
    transform: null,
    checkpoint: digest('checkpoint'),
    package: digest('package'),
  };
  let zone: Zone;
  beforeEach(async () => {
    zone = await openZone({ CDL_TRUSTED_STORE: `file:${folder}` }, 'trusted', null);
  });

  it('has nothing live where nothing was ever deployed', async () => {
    expect(await readLive(zone, 'p', 'm', 'production')).toEqual({ state: nothingLive, etag: null });
  });

  it('refuses a live record that is none', async () => {
    await zone.writeRecord(liveKey('p', 'm', 'production'), { v: 1, current: 'me' });
    await expect(readLive(zone, 'p', 'm', 'production')).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });

  it('gives the candidate that was handed over, and refuses another one under its name', async () => {
    const name = candidateDigest(candidate);
    await expect(readCandidate(zone, name)).rejects.toMatchObject({ code: 'artifact-missing' });
    await zone.writeRecord(candidateKey(name), candidate);
    expect(await readCandidate(zone, name)).toEqual(candidate);
    await zone.writeRecord(candidateKey(name), { ...candidate, checkpoint: digest('another') });
    await expect(readCandidate(zone, name)).rejects.toMatchObject({ code: 'artifact-corrupt' });
  });

  it('takes no other artifact for an evaluation', async () => {
    const stored = await zone.putArtifact({ kind: 'run', name: 'm', files: [], parents: [], meta: {} });
    await expect(readEvaluation(zone, stored)).rejects.toMatchObject({ code: 'artifact-corrupt' });
    await expect(readEvaluation(zone, digest('none') as Digest)).rejects.toMatchObject({
      code: 'artifact-missing',
    });
  });
});

describe('the environment of a job', () => {
  it('gives no zone in CI unless its variable is set, and says who gets it', async () => {
    await expect(openZone({ CI: 'true' }, 'trusted', folder)).rejects.toMatchObject({
      code: 'store-denied',
      hint: expect.stringContaining('protected'),
    });
    await expect(openZone({ CI: 'true' }, 'work', folder)).rejects.toMatchObject({ code: 'store-denied' });
    const own = await openZone({}, 'work', folder);
    expect(own.store.url).toBe(`file://${join(folder, '.cdl', 'store', 'work')}`);
  });

  it('keeps copies of blobs for later jobs, but none of the trusted zone', async () => {
    const secret = Buffer.from('a withheld item');
    const digest = digestBytes(secret);
    // A bucket that may be read only.
    const server = createServer((request, response) => {
      request.resume();
      const read = request.method === 'GET' || request.method === 'HEAD';
      const body = read ? secret : Buffer.from('<Error><Code>AccessDenied</Code></Error>');
      response.writeHead(read ? 200 : 403, { 'content-length': body.length });
      response.end(request.method === 'HEAD' ? undefined : body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const store = `s3://b?endpoint=http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const env = Object.fromEntries(
        ['WORK', 'TRUSTED'].flatMap((zone) => [
          [`CDL_${zone}_STORE`, store],
          [`CDL_${zone}_ACCESS_KEY`, 'key'],
          [`CDL_${zone}_SECRET_KEY`, 'secret'],
        ]),
      );
      const kept = async (name: Zone['name']) => {
        const cache = join(folder, name);
        const opened = await openZone({ ...env, CDL_CACHE: cache }, name, null);
        expect(await opened.readBlob(digest)).toEqual(secret);
        const names = await readdir(cache, { recursive: true }).catch(() => []);
        return names.filter((path) => path.includes(digest.slice(-60))).length;
      };
      expect([await kept('work'), await kept('trusted')]).toEqual([1, 0]);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it('hands five names at most to processes that run model code', () => {
    const names = ['PATH', 'TZ', 'HOME', 'CI_JOB_TOKEN', 'CDL_WORK_STORE', 'NODE_OPTIONS', 'LD_LIBRARY_PATH'];
    const env = Object.fromEntries(names.map((name) => [name, 'x']));
    expect(Object.keys(childEnvironment(env)).sort()).toEqual(['LD_LIBRARY_PATH', 'PATH', 'TZ']);
  });

  it('holds trusted keys as text or as a path, several one after the other', async () => {
    const pems = [1, 2].map(() =>
      generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    );
    const path = join(folder, 'keys.pem');
    await writeFile(path, pems.join('\n'));
    const [text, file] = await Promise.all([
      readTrustedKeys({ CDL_TRUSTED_KEYS: pems.join('') }),
      readTrustedKeys({ CDL_TRUSTED_KEYS: path }),
    ]);
    expect(text.size).toBe(2);
    expect([...file.keys()]).toEqual([...text.keys()]);
    expect((await readTrustedKeys({})).size).toBe(0);
    for (const value of ['/no/such/file', '-----BEGIN X-----', pems[0]!.replace(/\n./, '\n!')]) {
      const wrong = readTrustedKeys({ CDL_TRUSTED_KEYS: value });
      await expect(wrong, value).rejects.toMatchObject({ code: 'config-invalid' });
    }
  });
});
