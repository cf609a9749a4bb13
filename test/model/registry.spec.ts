import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Candidate } from '../../src/core/candidate.ts';
import { versionKey } from '../../src/core/claim.ts';
import { digestBytes } from '../../src/core/digest.ts';
import { buildPackage } from '../../src/model/package.ts';
import { dropVersions, listVersions, registerVersion } from '../../src/model/registry.ts';
import { noteRun, runDigests, runRecord } from '../../src/model/runs.ts';
import { createZone, openStore, type Zone } from '../../src/store/index.ts';

let folder: string;
let zone: Zone;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-registry-'));
  zone = createZone('work', await openStore(`file:${folder}/store`, null));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const candidate = (n: number): Candidate => ({
  model: 'm',
  code: digestBytes(`code ${n}`),
  config: digestBytes('config'),
  dataset: digestBytes('dataset'),
  transform: null,
  checkpoint: digestBytes('checkpoint'),
  package: digestBytes('package'),
});
const run = digestBytes('run');

test('numbers versions from 1, and knows a candidate again', async () => {
  const register = (n: number) =>
    registerVersion(zone, { project: 'p/a', model: 'm', candidate: candidate(n), run });
  expect(await register(1)).toEqual({ version: 1, existed: false });
  expect(await register(2)).toEqual({ version: 2, existed: false });
  expect(await register(1)).toEqual({ version: 1, existed: true });
  expect((await listVersions(zone, 'p/a', 'm')).map((one) => one.candidate.code)).toEqual(
    [1, 2].map((n) => candidate(n).code),
  );
  expect(await listVersions(zone, 'p', 'm')).toEqual([]);
});

test('gives each candidate one number and each number one candidate, however many register at once', async () => {
  let project = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 10 }),
      async (who) => {
        const name = `race-${++project}`;
        const results = await Promise.all(
          who.map(async (n) => ({
            n,
            // A zone each, as separate jobs have.
            ...(await registerVersion(createZone('work', await openStore(`file:${folder}/store`, null)), {
              project: name,
              model: 'm',
              candidate: candidate(n),
              run,
            })),
          })),
        );
        const versionOf = new Map(results.map((one) => [one.n, one.version]));
        for (const one of results) expect(one.version).toBe(versionOf.get(one.n));
        const distinct = new Set(who).size;
        expect([...versionOf.values()].sort()).toEqual(Array.from({ length: distinct }, (_, i) => i + 1));
        expect(results.filter((one) => !one.existed).length).toBe(distinct);
        expect((await listVersions(zone, name, 'm')).length).toBe(distinct);
      },
    ),
    { numRuns: 20 },
  );
});

test('passes over records that are no versions, without giving out their numbers', async () => {
  const entry = { project: 'junk', model: 'm', candidate: candidate(1), run };
  await zone.writeRecord(versionKey('junk', 'm', 1), { v: 1, nonsense: true });
  await zone.writeRecord(versionKey('junk', 'm', 2), { ...entry, v: 1, version: 7 });
  expect(await registerVersion(zone, entry)).toEqual({ version: 3, existed: false });
  expect((await listVersions(zone, 'junk', 'm')).map((one) => one.version)).toEqual([3]);
});

test('drops versions with their trainings, but none that was registered again since it was looked at', async () => {
  const project = 'drop';
  const runs = [1, 2, 3].map((n) => digestBytes(`run ${n}`));
  for (const [index, one] of runs.entries()) {
    await noteRun(zone, project, one);
    await registerVersion(zone, { project, model: 'm', candidate: candidate(index + 1), run: one });
  }
  // A fourth one of the first training.
  await registerVersion(zone, { project, model: 'm', candidate: candidate(4), run: runs[0]! });
  const seen = [];
  for await (const { key, modified } of zone.listRecords(versionKey(project, 'm', 1).replace(/[^/]*$/, '')))
    seen.push({ version: seen.length + 1, key, modified, run: runs[seen.length % 3]! });
  expect(seen.map(({ key }) => key)).toEqual([1, 2, 3, 4].map((n) => versionKey(project, 'm', n)));
  await expect.poll(() => Date.now()).toBeGreaterThan(seen[3]!.modified);
  const again = await registerVersion(zone, { project, model: 'm', candidate: candidate(2), run: runs[1]! });
  expect(again).toEqual({ version: 2, existed: true });
  expect(await dropVersions(zone, project, 'm', seen.slice(0, 3))).toEqual([1, 3]);
  expect((await listVersions(zone, project, 'm')).map(({ version }) => version)).toEqual([2, 4]);
  // The training of version 1 is that of version 4.
  expect((await runDigests(zone, project)).sort()).toEqual([runs[0], runs[1]].sort());
  expect(await dropVersions(zone, project, 'm', seen.slice(0, 1))).toEqual([]);
});

test('a training stays of which another version is registered while its last one is dropped', async () => {
  // Before the versions that are left are listed, after that, or after the record of the training is gone.
  for (const moment of ['listed', 'asked', 'gone'] as const) {
    const project = `meanwhile-${moment}`;
    const record = runRecord(project, run);
    await noteRun(zone, project, run);
    await registerVersion(zone, { project, model: 'm', candidate: candidate(1), run });
    const made = Date.now();
    await expect.poll(() => Date.now()).toBeGreaterThan(made + 1);
    let left = 1;
    const register = async () => {
      if (left-- > 0) await registerVersion(zone, { project, model: 'm', candidate: candidate(2), run });
    };
    const slow: Zone = {
      ...zone,
      async *listRecords(prefix) {
        yield* zone.listRecords(prefix);
        if (moment === 'listed' && prefix === record) await register();
      },
      async deleteRecord(key, age) {
        if (moment === 'asked' && key === record) await register();
        const done = await zone.deleteRecord(key, age);
        if (moment === 'gone' && key === record) await register();
        return done;
      },
    };
    expect(await dropVersions(slow, project, 'm', [{ version: 1, run, modified: Date.now() }])).toEqual([1]);
    expect(left, moment).toBe(0);
    expect((await listVersions(zone, project, 'm')).map((one) => one.run)).toEqual([run]);
    expect(await runDigests(zone, project), moment).toEqual([run]);
  }
});

test('a package of the same parts has the same bytes, and an incomplete checkpoint is named', async () => {
  const from = join(folder, 'checkpoint');
  await mkdir(from);
  await writeFile(join(from, 'model.json'), '{}');
  const made = await Promise.all(
    ['one', 'two'].map(async (name) => {
      const target = join(folder, name);
      await mkdir(target);
      return target;
    }),
  );
  const parts = { checkpointFolder: from, code: 'export {}', folder: made[0]! };
  await expect(buildPackage({ ...parts, manifest: {} })).rejects.toMatchObject({
    code: 'artifact-missing',
    message: expect.stringContaining('weights.bin'),
  });
  await writeFile(join(from, 'weights.bin'), 'w');
  await writeFile(join(from, 'optimizer.bin'), 'not shipped');
  const files = await buildPackage({ ...parts, manifest: { b: 1, a: 2 } });
  expect(files).toEqual(['code.mjs', 'model.json', 'signature.json', 'weights.bin']);
  await buildPackage({ ...parts, manifest: { a: 2, b: 1 }, folder: made[1]! });
  for (const file of files)
    expect(await readFile(join(made[1]!, file))).toEqual(await readFile(join(made[0]!, file)));
});
