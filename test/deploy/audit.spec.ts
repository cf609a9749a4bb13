import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { audit } from '../../src/cli/audit.ts';
import { keys } from '../../src/cli/keys.ts';
import type { CommandInput } from '../../src/cli/types.ts';
import {
  createZone,
  type Decision,
  dataDecisionKey,
  dataHeadKey,
  decisionDigest,
  decisionKey,
  describeError,
  digestJson,
  type Envelope,
  headKey,
  keyId,
  openStore,
  type SigningKey,
  signDataDecision,
  signDecision,
  signHead,
  type Zone,
} from '../../src/index.ts';
import { projectYaml } from '../bot/world.ts';

let root: string;
let count = 0;
let trusted: Zone;
let store: string;
const signerOf = (key: KeyObject): SigningKey => ({ id: keyId(key), key });
const first = generateKeyPairSync('ed25519').privateKey;
const pemOf = (key: KeyObject): string =>
  createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-audit-'));
  execFileSync('git', ['init', '-q', root]);
  await writeFile(join(root, 'cdl.yaml'), projectYaml());
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Appends decisions about an environment as the bot does, with the head of the chain. */
async function decide(environment: string, kinds: Decision['decision'][], signer = signerOf(first)) {
  let prev: Decision['prev'] = null;
  for (const [index, decision] of kinds.entries()) {
    const seq = index + 1;
    const envelope: Envelope = signDecision(
      {
        candidate: digestJson(`candidate ${index >> 1}`),
        evaluation: digestJson('evaluation'),
        project: 'fashion',
        model: 'fashion',
        environment,
        baseline: null,
        plan: digestJson('plan'),
        decision,
        approvers: [{ id: '3', name: 'vera', role: 'validator' }],
        policy: digestJson('policy'),
        change: '!1',
        seq,
        prev,
        time: `2026-01-0${seq}T00:00:00.000Z`,
      },
      signer,
    );
    prev = decisionDigest(envelope);
    await trusted.writeRecord(decisionKey('fashion', 'fashion', environment, seq), envelope);
    const head = { v: 1 as const, project: 'fashion', model: 'fashion', environment, seq, digest: prev };
    await trusted.writeRecord(headKey('fashion', 'fashion', environment), signHead(head, signer));
  }
}

beforeEach(async () => {
  store = `file://${join(root, `store-${++count}`)}`;
  trusted = createZone('trusted', await openStore(store, null));
  await decide('production', ['approved', 'promoted', 'approved', 'promoted']);
  await decide('staging', ['approved']);
});

async function run(
  command: (input: CommandInput) => Promise<number>,
  args: string[],
  options: Record<string, unknown> = {},
  pems = pemOf(first),
) {
  const printed: { text: string; data: unknown }[] = [];
  const input = {
    env: { PATH: process.env.PATH, CDL_TRUSTED_STORE: store, CDL_TRUSTED_KEYS: pems },
    console: {
      log: () => {},
      progress: () => {},
      signal: new AbortController().signal,
      print: (text: string, data: unknown) => void printed.push({ text, data }),
    },
    version: '0',
    cwd: root,
    options,
    args,
  } as unknown as CommandInput;
  try {
    await command(input);
    return { exit: 0, message: '', ...printed[0]! };
  } catch (error) {
    const { exit, message } = describeError(error);
    return { exit, message, text: '', data: null };
  }
}

const secondOf = async () => (await trusted.readRecord(decisionKey('fashion', 'fashion', 'production', 2)))!;
const remove = (key: string) => trusted.store.delete(`trusted/records/${key}.json`);

describe('cdl audit', () => {
  it('shows every decision and says that each chain is whole', async () => {
    const shown = await run(audit, ['show']);
    expect(shown.text.split('\n')).toHaveLength(5);
    expect(shown.text).toMatch(/fashion\.production +4 +2026-01-04T00:00:00\.000Z +promoted/);
    const verified = await run(audit, ['verify']);
    expect(verified).toMatchObject({ exit: 0, data: { decisions: 5 } });
    expect(verified.text).toContain('fashion.production  4 decisions, whole, end signed at 4');
    expect(verified.text).toContain('fashion.staging  1 decision, whole, end signed at 1');
  });

  it('exits 6 on a decision that was altered, is missing, came from elsewhere or is by another key', async () => {
    const key = (seq: number) => decisionKey('fashion', 'fashion', 'production', seq);
    const good = (await secondOf()).value as Envelope;
    const text = Buffer.from(good.payload, 'base64').toString().replace('promoted', 'approved');
    const stranger = signDecision(
      {
        ...(JSON.parse(Buffer.from(good.payload, 'base64').toString()) as { predicate: Decision }).predicate,
        candidate: digestJson('candidate 0'),
        evaluation: digestJson('evaluation'),
      },
      signerOf(generateKeyPairSync('ed25519').privateKey),
    );
    const other = (await trusted.readRecord(decisionKey('fashion', 'fashion', 'staging', 1)))!.value;
    for (const bad of [{ ...good, payload: Buffer.from(text).toString('base64') }, stranger, other, 'text']) {
      await trusted.writeRecord(key(2), bad);
      expect(await run(audit, ['verify'])).toMatchObject({ exit: 6 });
    }
    await remove(key(2));
    const gone = await run(audit, ['verify']);
    expect(gone).toMatchObject({ exit: 6 });
    expect(gone.message).toContain('fashion.production');
    expect((await run(audit, ['show'])).text).toContain('✗ fashion.production');
  });

  it('sees that the end was cut off by the signed head, and with it by what was kept elsewhere', async () => {
    const heads = join(root, 'heads.json');
    const { data } = await run(audit, ['verify']);
    await writeFile(heads, JSON.stringify(data));
    expect(await run(audit, ['verify'], { since: heads })).toMatchObject({ exit: 0 });
    await remove(decisionKey('fashion', 'fashion', 'production', 4));
    const cut = await run(audit, ['verify']);
    expect(cut).toMatchObject({ exit: 6 });
    expect(cut.message).toContain('had 4 decisions and has 3: the end was cut off');
    await remove(headKey('fashion', 'fashion', 'production'));
    expect(await run(audit, ['verify'])).toMatchObject({ exit: 0 });
    expect(await run(audit, ['verify'], { since: heads })).toMatchObject({ exit: 6 });
    for (let seq = 1; seq <= 3; seq++) await remove(decisionKey('fashion', 'fashion', 'production', seq));
    expect(await run(audit, ['verify'], { since: heads })).toMatchObject({ exit: 6 });
  });

  it('sees a whole chain that is gone as long as its head is there', async () => {
    await remove(decisionKey('fashion', 'fashion', 'staging', 1));
    expect(await run(audit, ['verify'])).toMatchObject({ exit: 6 });
  });

  it('needs to be told whose signatures count', async () => {
    expect(await run(audit, ['verify'], {}, '')).toMatchObject({ exit: 2 });
    expect((await run(audit, ['verfy'])).message).toContain('did you mean verify?');
  });
});

describe('decisions about data', () => {
  /** Appends approvals of a data set's versions as the bot does. */
  async function approveData(dataset: string, names: string[]) {
    let prev: Decision['prev'] = null;
    for (const [index, name] of names.entries()) {
      const seq = index + 1;
      const envelope = signDataDecision(
        {
          project: 'fashion',
          dataset,
          version: digestJson('version'),
          evidence: digestJson('evidence'),
          decision: 'approved',
          approver: { id: name, name, role: 'data' },
          verdict: 'pass',
          labels: null,
          policy: digestJson('policy'),
          change: '!4',
          seq,
          prev,
          time: `2026-02-0${seq}T00:00:00.000Z`,
        },
        signerOf(first),
      );
      prev = decisionDigest(envelope);
      await trusted.writeRecord(dataDecisionKey('fashion', dataset, seq), envelope);
      const head = { v: 1 as const, project: 'fashion', dataset, seq, digest: prev };
      await trusted.writeRecord(dataHeadKey('fashion', dataset), signHead(head, signerOf(first)));
    }
  }

  it('are shown, verified, compared with an earlier look and signed again like the others', async () => {
    await approveData('clothes', ['dora', 'dan']);
    const shown = (await run(audit, ['show'])).text.split('\n');
    expect(shown).toHaveLength(7);
    expect(shown[6]).toMatch(
      /^data clothes +2 +2026-02-02T00:00:00\.000Z +approved +\w{12} +!4 +dan \(data\)$/,
    );
    const verified = await run(audit, ['verify']);
    expect(verified).toMatchObject({ exit: 0, data: { decisions: 7 } });
    expect(verified.text).toContain('data clothes  2 decisions, whole, end signed at 2');
    const heads = join(root, 'data-heads.json');
    await writeFile(heads, JSON.stringify(verified.data));

    const rotated = await run(keys, ['rotate'], { out: join(root, `data-key-${count}.pem`) });
    const { publicKey } = rotated.data as { publicKey: string };
    expect(await run(audit, ['verify'], { since: heads }, publicKey)).toMatchObject({ exit: 0 });

    await remove(dataDecisionKey('fashion', 'clothes', 2));
    const cut = await run(audit, ['verify']);
    expect(cut).toMatchObject({ exit: 6 });
    expect(cut.message).toContain('data clothes had 2 decisions and has 1');
    await remove(dataHeadKey('fashion', 'clothes'));
    expect(await run(audit, ['verify'], { since: heads })).toMatchObject({ exit: 6 });
  });

  it('are taken for no decision about a candidate, and for none about another data set', async () => {
    await approveData('clothes', ['dora']);
    const { value } = (await trusted.readRecord(dataDecisionKey('fashion', 'clothes', 1)))!;
    for (const key of [
      decisionKey('fashion', 'fashion', 'testing', 1),
      dataDecisionKey('fashion', 'shoes', 1),
    ]) {
      await trusted.writeRecord(key, value);
      expect(await run(audit, ['verify'])).toMatchObject({ exit: 6 });
      await remove(key);
    }
    const { value: candidate } = (await trusted.readRecord(decisionKey('fashion', 'fashion', 'staging', 1)))!;
    await trusted.writeRecord(dataDecisionKey('fashion', 'clothes', 1), candidate);
    expect(await run(audit, ['verify'])).toMatchObject({ exit: 6 });
  });
});

describe('cdl keys rotate', () => {
  it('counts a single decision as one', async () => {
    for (const seq of [1, 2, 3, 4]) await remove(decisionKey('fashion', 'fashion', 'production', seq));
    await remove(headKey('fashion', 'fashion', 'production'));
    const rotated = await run(keys, ['rotate'], { out: join(root, `one-${count}.pem`) });
    expect(rotated.text).toMatch(/^1 decision carries the signature of/);
  });

  it('lets the old key go: every chain verifies with the new one alone, with the same digests', async () => {
    const out = join(root, `key-${count}.pem`);
    const before = (await run(audit, ['verify'])).data as { heads: unknown };
    const rotated = await run(keys, ['rotate'], { out });
    expect(rotated).toMatchObject({ exit: 0, data: { decisions: 5, signed: 7 } });
    expect((await stat(out)).mode & 0o777).toBe(0o600);
    const { publicKey } = rotated.data as { publicKey: string };
    expect(await run(audit, ['verify'], {}, publicKey)).toMatchObject({ exit: 0, data: before });
    expect(await run(audit, ['verify'])).toMatchObject({ exit: 0 });
    expect(rotated.text).not.toContain('PRIVATE');
    expect(rotated.text).toMatch(/^5 decisions carry the signature of \w{12} \(7 records written now\)/);
    // What was signed meanwhile gets its signature by running it again.
    await decide('late', ['approved']);
    expect(await run(audit, ['verify'], {}, publicKey)).toMatchObject({ exit: 6 });
    expect(await run(keys, ['rotate'], { key: out })).toMatchObject({ exit: 0, data: { signed: 2 } });
    expect(await run(audit, ['verify'], {}, publicKey)).toMatchObject({ exit: 0 });
  });

  it('signs nothing when a chain does not hold, and overwrites no key', async () => {
    const out = join(root, `key-${count}.pem`);
    await remove(decisionKey('fashion', 'fashion', 'production', 1));
    expect(await run(keys, ['rotate'], { out })).toMatchObject({ exit: 6 });
    expect(((await secondOf()).value as Envelope).signatures).toHaveLength(1);
    const kept = await readFile(out, 'utf8');
    expect(await run(keys, ['rotate'], { out })).toMatchObject({ exit: 2 });
    expect(await readFile(out, 'utf8')).toBe(kept);
  });
});
