import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { models } from '../../src/cli/models.ts';
import { candidateDigest } from '../../src/core/candidate.ts';
import { versionKey } from '../../src/core/claim.ts';
import type { Digest } from '../../src/core/digest.ts';
import { listVersions } from '../../src/model/registry.ts';
import { listRuns } from '../../src/model/runs.ts';
import { blobKey } from '../../src/store/key.ts';
import type { FileObjectStore } from '../../src/store/types.ts';
import { call, withoutDigests } from './in-process.ts';
import { openRegistryPlace, type RegistryPlace } from './registry-place.ts';

const golden = (name: string) => join(import.meta.dirname, '../golden/models', name);
const options = { number: '20' };

let place: RegistryPlace;
let cwd: string;
const packages: Digest[] = [];
const cdl = <T = unknown>(args: (string | string[])[], more: object = {}, env = place.env) =>
  call<T>(models, { cwd, env }, args, { ...options, ...more });

beforeAll(async () => {
  place = await openRegistryPlace();
  cwd = place.scratch.root;
  const at = (day: number) => `2026-01-0${day}T10:00:00.000Z`;
  const one = await place.version({ seed: 1, accuracy: 0.8, startedAt: at(1) });
  const first = await place.evaluated(one.candidate, 0.78, null);
  await place.decide(one.candidate, first, 'approved');
  await place.decide(one.candidate, first, 'promoted');
  const two = await place.version({ seed: 2, accuracy: 0.9, startedAt: at(2), hidden: 8 });
  const second = await place.evaluated(two.candidate, 0.88, candidateDigest(one.candidate));
  await place.decide(two.candidate, second, 'approved');
  await place.decide(two.candidate, second, 'promoted');
  await place.live(2, two.candidate, second);
  await place.lock(2, two.candidate, second, two.run);
  const three = await place.version({ seed: 3, accuracy: 0.91, startedAt: at(3), hidden: 8 });
  await place.evaluated(three.candidate, 0.9, candidateDigest(two.candidate));
  packages.push(...[one, two, three].map(({ candidate }) => candidate.package));
});
afterAll(() => place.scratch.remove());

describe('cdl models', () => {
  it('lists versions with the names that lock, decisions and live state give them', async () => {
    const said = await cdl<{ versions: { version: number; names: string[] }[] }>(['ls']);
    expect(said.value.versions.map(({ version, names }) => [version, names])).toEqual([
      [3, ['candidate']],
      [2, ['production']],
      [1, ['previous']],
    ]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('ls.txt'));
  });

  it('takes what serves from the lock where decisions cannot be verified, and says so', async () => {
    const said = await cdl(['ls'], {}, { ...place.env, CDL_TRUSTED_KEYS: '' });
    expect(said.text).toMatch(/2 {2}production/);
    expect(said.text).toContain('names are told by cdl.lock and the registry alone');
    expect(said.text).not.toContain('previous');
  });

  it('shows weights, environment, dependencies, metrics and decisions of a version, by number, name or digest', async () => {
    const said = await cdl<{ version: number; candidate: string; dependencies: object[] }>([
      'show',
      ['production'],
    ]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('show.txt'));
    expect(said.value.dependencies).toEqual([
      { path: 'package-lock.json', digest: expect.stringMatching(/^sha256:/) },
    ]);
    for (const what of ['2', 'v2', said.value.candidate.slice(7, 15), said.value.candidate])
      expect((await cdl<{ version: number }>(['show', [what]])).value.version, what).toBe(2);
  });

  it('says which versions and names there are when there is not the one asked for', async () => {
    const said = await cdl(['show', ['prodction']]);
    expect(said.code).toBe(3);
    expect(said.text).toContain('did you mean production?');
    expect(said.text).toContain('it has 1, 2, 3 and the names previous, production, candidate');
    expect((await cdl(['shwo', []])).text).toContain('did you mean show?');
  });

  it('compares two versions: parts, weights, hyperparameters, metrics on the same withheld items', async () => {
    const said = await cdl(['diff', ['previous', 'production']]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('diff.txt'));
    expect(said.value).toMatchObject({
      from: 1,
      to: 2,
      parts: [{ name: 'checkpoint' }, { name: 'package' }],
      weights: [{ name: 'dense/kernel', largest: 0.0625 }],
      config: [
        { name: 'hyperparameters.hidden', from: 4, to: 8 },
        { name: 'seed', from: 1, to: 2 },
      ],
    });
    expect((await cdl<object>(['diff', ['candidate']])).value).toMatchObject({ from: 2, to: 3 });
  });

  it('traces a version to its data, commit and pipeline', async () => {
    const said = await cdl(['lineage', ['1']]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('lineage.txt'));
  });

  it('pulls package, checkpoint and record into a new folder, and into no other', async () => {
    const said = await cdl(['pull', ['previous']], { out: 'before' });
    expect(said.text).toContain('sides version 1: package, checkpoint, sbom.cdx.json and version.json');
    expect((await readdir(join(cwd, 'before'), { recursive: true })).sort()).toEqual([
      'checkpoint',
      'checkpoint/model.json',
      'checkpoint/weights.bin',
      'package',
      'package/package.json',
      'sbom.cdx.json',
      'version.json',
    ]);
    expect(JSON.parse(await readFile(join(cwd, 'before', 'version.json'), 'utf8'))).toMatchObject({
      version: 1,
      names: ['previous'],
      parts: { package: packages[0] },
    });
    expect((await cdl(['pull', ['2']], { out: 'before' })).text).toContain('before is not empty');
    const zone = await (await place.scratch.context(place.env)).zone('work');
    const [record] = await listVersions(zone, 'tiny', 'sides');
    const bytes = await zone.putBlob('{"seed":666}');
    const paths = ['package/package.json', 'sbom.cdx.json'];
    const evil = await zone.putArtifact({
      kind: 'sbom',
      name: 'sides',
      files: paths.map((path) => ({ path, ...bytes })),
      parents: [],
      meta: {},
    });
    const key = versionKey('tiny', 'sides', 1);
    await zone.writeRecord(key, { ...record, sbom: { artifact: evil, components: 1 } });
    expect((await cdl(['pull', ['previous']], { out: 'again' })).code).toBe(0);
    const packaged = await readFile(join(cwd, 'again', 'package', 'package.json'), 'utf8');
    expect(packaged, 'is what its digest says, whatever a bill of materials brings along').toBe('{"seed":1}');
    await zone.writeRecord(key, record);
    expect(await readdir(cwd), 'nothing half-written').not.toContainEqual(
      expect.stringContaining('.cdl-pull'),
    );
  });

  it('verifies every byte, and says which one of which version is another now', async () => {
    const whole = await cdl<{ problems: object[] }>(['verify', []]);
    expect([whole.code, whole.value.problems]).toEqual([0, []]);
    await expect(`${withoutDigests(whole.text)}\n`).toMatchFileSnapshot(golden('verify.txt'));

    const ctx = await place.scratch.context(place.env);
    const work = await ctx.zone('work');
    const [file] = (await work.getArtifact(packages[1]!)).files;
    const path = (work.store as FileObjectStore).pathOf(blobKey('work', file!.digest));
    const bytes = await readFile(path);
    await chmod(path, 0o644);
    await writeFile(path, bytes.toString().replace('2', '9'));
    const broken = await cdl<{ problems: { version: number }[] }>(['verify', []]);
    expect([broken.code, broken.value.problems.map((one) => one.version)]).toEqual([6, [2]]);
    expect(broken.text).toContain('is corrupt: package.json: ');
    expect((await cdl(['verify', ['1', '3']])).code).toBe(0);
    expect((await cdl(['pull', ['2']], { out: 'never' })).code).toBe(6);
    expect(await readdir(cwd)).not.toContain('never');
  });

  it('prunes what nothing holds on to: nothing at first, and with --delete for good, runs included', async () => {
    interface Pruned {
      versions: { version: number; reasons: string[] }[];
    }
    await place.version({ seed: 4, accuracy: 0.92, startedAt: '2026-01-04T10:00:00.000Z' });
    const going = (pruned: Pruned) =>
      pruned.versions.filter(({ reasons }) => reasons.length === 0).map(({ version }) => version);
    expect(going((await cdl<Pruned>(['prune'])).value)).toEqual([]);
    const policy = { keep: '1', days: '0' };
    const dry = await cdl<Pruned>(['prune'], policy);
    expect(going(dry.value)).toEqual([3]);
    expect(dry.text).toContain('nothing was removed: cdl models prune --delete');
    expect(dry.text).toMatch(/1 .*stays: previous, .*decided about/);
    const numbers = async () =>
      (await cdl<{ versions: { version: number }[] }>(['ls'])).value.versions.map((one) => one.version);
    expect(await numbers()).toEqual([4, 3, 2, 1]);
    // Of another branch, where it is what a model starts from.
    const config = await readFile(join(cwd, 'cdl.yaml'), 'utf8');
    await place.scratch.git('switch', '--quiet', '--create', 'other');
    await place.scratch.write({ 'cdl.yaml': `${config}# from: { version: sides/v3 }\n` });
    await place.scratch.git('commit', '--quiet', '--message', 'from', 'cdl.yaml');
    await place.scratch.git('switch', '--quiet', '-');
    const held = await cdl<Pruned>(['prune'], policy);
    expect(going(held.value)).toEqual([]);
    expect(held.text).toMatch(/3 .*stays: a model starts from it/);
    await place.scratch.git('branch', '--quiet', '-D', 'other');
    await place.scratch.git('reflog', 'expire', '--expire=now', '--all');
    const ctx = await place.scratch.context(place.env);
    const before = await listRuns(await ctx.zone('work'), 'tiny');
    const said = await cdl(['prune'], { ...policy, delete: true });
    expect(said.code, said.text).toBe(0);
    expect(await numbers()).toEqual([4, 2, 1]);
    expect(await listRuns(await ctx.zone('work'), 'tiny')).toHaveLength(before.length - 1);
    expect((await cdl(['prune'], { keep: '0' })).text).toContain('--keep takes a whole number from 1 on');
  });
});
