import { rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../../src/core/digest.ts';
import { localVersion } from '../../../src/data/folder/base.ts';
import { moveRef, readRef } from '../../../src/data/folder/refs.ts';
import { copyVersions, fetchArtifact, hasVersion } from '../../../src/data/folder/transfer.ts';
import { blobKey, openLocalZone } from '../../../src/store/index.ts';
import type { LocalZone } from '../../../src/store/types.ts';
import { add, checkout, plant, seen } from './folder-place.ts';

let root: string;
let here: LocalZone;
let shared: LocalZone;
let there: LocalZone;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-transfer-'));
  [here, shared, there] = (await Promise.all(
    ['here', 'shared', 'there'].map((name) => openLocalZone(join(root, name))),
  )) as [LocalZone, LocalZone, LocalZone];
  plant(join(root, 'data'), {
    'a/small': { bytes: 'small', exec: true },
    large: { bytes: 'large'.repeat(50), exec: false },
    empty: { bytes: '', exec: false },
  });
});
afterEach(() => rm(root, { recursive: true, force: true }));

describe('sharing versions', () => {
  it('sends what is missing, with the versions before, and brings back one alone', async () => {
    const folder = join(root, 'data');
    const first = await add(here, folder);
    expect(await copyVersions(here, shared, first.version)).toBe(1);
    writeFileSync(join(folder, 'a', 'more'), 'more');
    const second = await add(here, folder, { previous: first.version });
    writeFileSync(join(folder, 'a', 'more'), 'still more');
    const third = await add(here, folder, { previous: second.version });
    expect(await copyVersions(here, shared, third.version)).toBe(2);
    expect(await copyVersions(here, shared, third.version)).toBe(0);
    for (const { version } of [first, second, third]) expect(await hasVersion(shared, version)).toBe(true);

    await fetchArtifact(there, shared, third.version);
    expect(await hasVersion(there, second.version)).toBe(false);
    await checkout(there, join(root, 'out'), third.version);
    expect(seen(join(root, 'out'))).toEqual(seen(folder));
  });

  it('keeps nothing that came with other bytes, and no version of it', async () => {
    const { version } = await add(here, join(root, 'data'));
    await copyVersions(here, shared, version);
    const [sha256] = [...(await localVersion(here, version))!.blobs.keys()];
    const path = shared.store.pathOf(blobKey('work', `sha256:${sha256!}`));
    rmSync(path);
    writeFileSync(path, 'other bytes');
    const fetched = fetchArtifact(there, shared, version);
    await expect(fetched).rejects.toMatchObject({ code: 'artifact-corrupt' });
    expect(await hasVersion(there, version)).toBe(false);
    expect(await there.hasBlob(`sha256:${sha256!}`)).toBe(false);
  });

  it('moves a ref forward for one of two that come after the same version, and tells the other', async () => {
    const folder = join(root, 'data');
    const base = await add(here, folder);
    await moveRef(here, 'data', base.version, { force: false, known: [here] });
    const next: Digest[] = [];
    for (const text of ['ours', 'theirs']) {
      writeFileSync(join(folder, 'a', 'small'), text);
      next.push((await add(here, folder, { previous: base.version })).version);
    }
    const done = await Promise.allSettled(
      next.map((version) => moveRef(here, 'data', version, { force: false, known: [here] })),
    );
    expect(done.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const lost = done.find((one) => one.status === 'rejected')!;
    expect(lost.reason).toMatchObject({ code: 'baseline-moved' });
    const won = next[done.findIndex(({ status }) => status === 'fulfilled')]!;
    expect((await readRef(here, 'data'))?.version).toBe(won);
  });
});
