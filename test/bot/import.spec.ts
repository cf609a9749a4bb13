import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importIndex, rebuildIndex } from '../../bot/import.ts';
import {
  type Candidate,
  createZone,
  type Database,
  type Digest,
  decisionKey,
  digestJson,
  evaluationKey,
  keyId,
  openDatabase,
  openStore,
  signDecision,
  versionKey,
  type Zone,
} from '../../src/index.ts';
import { keepSteps } from '../../src/model/run-steps.ts';
import { factsWith } from './facts.ts';

const digest = (name: string): Digest => digestJson(name);
const candidate: Candidate = {
  model: 'm',
  code: digest('code'),
  config: digest('config'),
  dataset: digest('dataset'),
  transform: null,
  checkpoint: digest('checkpoint'),
  package: digest('package'),
};

describe('the index of the store', () => {
  let folder: string;
  let database: Database;
  let work: Zone;
  let trusted: Zone;
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const keys = new Map([[keyId(publicKey), publicKey]]);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-import-'));
    database = await openDatabase({ url: null, folder: join(folder, 'database') });
    work = createZone('work', await openStore(`file://${folder}/store/work`, null));
    trusted = createZone('trusted', await openStore(`file://${folder}/store/trusted`, null));
    const facts = {
      ...{ model: 'm', code: candidate.code, config: candidate.config, seconds: 12, gpus: 2, who: 'dana' },
      started_at: '2026-01-02T03:04:05.000Z',
      hyperparameters: { epochs: 2 },
      metrics: { loss: 0.5 },
    };
    const run = await work.putArtifact({
      kind: 'run',
      name: 'm',
      files: await keepSteps(work, [
        { step: 5, epoch: 1, metrics: { loss: 1 } },
        { step: 10, epoch: 1, metrics: { loss: 0.8 } },
      ]),
      parents: [candidate.dataset],
      meta: {
        ...facts,
        epochs: [
          { epoch: 1, step: 10, metrics: { loss: 0.75 } },
          { epoch: 2, step: 20, metrics: { loss: 0.5 } },
        ],
      },
    });
    await work.writeRecord(`runs/p/${run.slice(7)}.json`, { run });
    await work.writeRecord(versionKey('p', 'm', 1), {
      v: 1,
      project: 'p',
      model: 'm',
      version: 1,
      candidate,
      run,
    });
    // A change's pipeline may write anything here, also what PostgreSQL has no place for.
    const odd = await work.putArtifact({
      kind: 'run',
      name: 'm',
      files: [],
      parents: [],
      meta: { ...facts, who: '\0', epochs: [] },
    });
    await work.writeRecord(`runs/p/${odd.slice(7)}.json`, { run: odd });
    await work.writeRecord(`runs/p/${'f'.repeat(64)}.json`, { run: 'nonsense' });
    await work.writeRecord(versionKey('p', 'm', 2), { version: 'two' });
    const envelope = signDecision(
      {
        candidate: digest('candidate'),
        evaluation: digest('evaluation'),
        project: 'p',
        model: 'm',
        environment: 'production',
        baseline: null,
        plan: digest('plan'),
        decision: 'approved',
        approvers: [{ id: '7', name: 'vera', role: 'validator' }],
        policy: digest('policy'),
        change: '!1',
        seq: 1,
        prev: null,
        time: '2026-01-02T03:04:06.000Z',
      },
      { id: keyId(publicKey), key: privateKey },
    );
    await trusted.writeRecord(decisionKey('p', 'm', 'production', 1), envelope);
  });
  afterAll(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  });

  it('takes over what is new once, and skips what is no run or version', async () => {
    const sources = { database, work, trusted, keys };
    expect(await importIndex(sources, 'p')).toEqual({ runs: 1, versions: 1, evaluations: 0, decisions: 1 });
    expect(await importIndex(sources, 'p')).toEqual({ runs: 0, versions: 0, evaluations: 0, decisions: 0 });
    expect(await database.query('select step::int, value from run_metrics order by step')).toEqual([
      { step: 5, value: 1 },
      { step: 10, value: 0.75 },
      { step: 20, value: 0.5 },
    ]);
    const asked = `select facts->>'who' as who, facts->>'status' as status,
      (facts->>'seconds')::float8 * (facts->>'gpus')::int as cost from runs`;
    expect(await database.query(asked)).toEqual([{ who: 'dana', status: 'done', cost: 24 }]);
    expect(await database.query('select version from versions')).toEqual([{ version: 1 }]);
  });

  it('is filled again from the store after it was emptied', async () => {
    await database.query('truncate runs, run_metrics, versions, evaluations, decisions');
    expect(await importIndex({ database, work, trusted, keys }, 'p')).toMatchObject({
      runs: 1,
      decisions: 1,
    });
    expect(await database.query('select decision, change from decisions')).toEqual([
      { decision: 'approved', change: '!1' },
    ]);
  });

  it('rebuilt from nothing, is what it was', async () => {
    const sources = { database, work, trusted, keys };
    await importIndex(sources, 'p');
    const names = ['runs', 'run_metrics', 'versions', 'evaluations', 'decisions'];
    const all = async () =>
      Promise.all(
        names.map(async (name) =>
          (await database.query<{ row: unknown }>(`select to_jsonb(t) as row from ${name} t`)).map(
            ({ row }) => JSON.stringify(row),
          ),
        ),
      );
    const before = (await all()).map((rows) => rows.sort());
    await database.query(
      `insert into runs select 'sha256:gone', project, model, name, created_at, config, metrics, parents, facts from runs`,
    );
    const told: string[] = [];
    expect(await rebuildIndex(sources, (project) => told.push(project))).toMatchObject({
      p: { runs: 1, versions: 1, decisions: 1 },
    });
    expect(told).toContain('p');
    expect((await all()).map((rows) => rows.sort())).toEqual(before);
  });

  it('reads a record again only when it is new, is another one, or its row is gone', async () => {
    const read: string[] = [];
    const counting: Zone = {
      ...trusted,
      readRecord: (key) => {
        read.push(key);
        return trusted.readRecord(key);
      },
    };
    const look = async (project = 'p') => {
      read.length = 0;
      const { evaluations, decisions } = await importIndex(
        { database, work, trusted: counting, keys },
        project,
      );
      return { evaluations, decisions, read: [...read].sort() };
    };
    const evaluate = async (name: string, project: string) => {
      const { evaluation } = factsWith().answer!;
      const artifact = await trusted.putArtifact({
        kind: 'evaluation',
        name: 'm',
        files: [],
        parents: [digest(name)],
        meta: { ...evaluation, project, candidate: digest(name) } as never,
      });
      const key = evaluationKey(digest(`question ${name}`));
      await trusted.writeRecord(key, { evaluation: artifact });
      return key;
    };
    const first = await evaluate('first', 'p');
    const others = await evaluate('of another project', 'q');
    expect(await look()).toEqual({ evaluations: 1, decisions: 0, read: [first, others].sort() });
    // What is in the index, and what is another project's, costs a listing.
    const nothing = { evaluations: 0, decisions: 0, read: [] };
    expect(await look()).toEqual(nothing);
    const second = await evaluate('second', 'p');
    expect(await look()).toEqual({ evaluations: 1, decisions: 0, read: [second] });
    expect(await look('q')).toMatchObject({ evaluations: 1 });
    await database.query('truncate evaluations, decisions');
    expect(await look()).toMatchObject({ evaluations: 2, decisions: 1 });
    expect(await look()).toEqual(nothing);
    // A decision that is another than it was is looked at, though its number is known.
    const key = decisionKey('p', 'm', 'production', 1);
    const good = (await trusted.readRecord(key))!;
    await trusted.writeRecord(key, { ...(good.value as object), signatures: [] });
    for (let i = 0; i < 2; i++) await expect(look()).rejects.toMatchObject({ code: 'decision-invalid' });
    await trusted.writeRecord(key, good.value as never);
    expect(await look()).toEqual(nothing);
  });

  it('refuses a decision that no trusted key signed', async () => {
    await database.query('truncate decisions');
    await expect(importIndex({ database, work, trusted, keys: new Map() }, 'p')).rejects.toMatchObject({
      code: 'decision-invalid',
    });
  });
});
