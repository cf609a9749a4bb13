import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Decision, decisionDigest, decisionKey, keyId, signDecision } from '../../src/core/decision.ts';
import { digestBytes } from '../../src/core/digest.ts';
import { readChain } from '../../src/deploy/records.ts';
import { openFileStore } from '../../src/store/file.ts';
import { createZone } from '../../src/store/zone.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const signer = { id: keyId(privateKey), key: privateKey };
const keys = new Map([[signer.id, publicKey]]);
const place = { project: 'team/fashion', model: 'fashion', environment: 'production' };

const decision: Decision = {
  ...place,
  candidate: digestBytes('candidate'),
  evaluation: digestBytes('evaluation'),
  baseline: null,
  plan: digestBytes('plan'),
  decision: 'approved',
  approvers: [{ id: '7', name: 'vera', role: 'validator' }],
  policy: digestBytes('policy'),
  change: '!12',
  seq: 1,
  prev: null,
  time: '2026-01-02T03:04:05.000Z',
};

it('reads each decision of a chain once, and one that was replaced again', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-records-'));
  try {
    const zone = createZone('trusted', await openFileStore(folder));
    const read: string[] = [];
    const readRecord = (key: string) => {
      read.push(key);
      return zone.readRecord(key);
    };
    const watched = { ...zone, readRecord };
    const chain = () => readChain(watched, keys, place.project, place.model, place.environment);
    const keyOf = (seq: number) => decisionKey(place.project, place.model, place.environment, seq);
    const first = signDecision(decision, signer);
    const second = signDecision(
      { ...decision, seq: 2, prev: decisionDigest(first), decision: 'promoted' },
      signer,
    );
    await zone.writeRecord(keyOf(1), first);
    await zone.writeRecord(keyOf(2), second);
    expect((await chain()).decisions.map((one) => one.decision)).toEqual(['approved', 'promoted']);
    expect((await chain()).decisions.map((one) => one.decision)).toEqual(['approved', 'promoted']);
    expect(read).toEqual([keyOf(1), keyOf(2)]);

    await zone.writeRecord(keyOf(2), { ...second, payload: first.payload });
    await expect(chain()).rejects.toMatchObject({ code: 'decision-invalid' });
    expect(read).toHaveLength(3);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
