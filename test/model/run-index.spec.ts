import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { UpstreamError } from '../../src/core/error.ts';
import { listRunLines } from '../../src/model/run-index.ts';
import { listRuns, noteRun } from '../../src/model/runs.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import { artifactKey } from '../../src/store/key.ts';

it('what was read of a run once is not read again, and which runs there are is what the store says', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-runs-'));
  try {
    const store = await openStore(pathToFileURL(join(folder, 'store')).href, null);
    const zone = createZone('work', store, {});
    const read: string[] = [];
    const watched = {
      ...zone,
      getArtifact: (digest: Parameters<typeof zone.getArtifact>[0]) => {
        read.push(digest);
        return zone.getArtifact(digest);
      },
    };
    const make = async (model: string, day: number) => {
      const run = await zone.putArtifact({
        kind: 'run',
        name: model,
        files: [],
        parents: [],
        meta: {
          model,
          code: digestBytes('code'),
          config: digestBytes('config'),
          started_at: `2026-01-0${day}T10:00:00.000Z`,
          seconds: 1,
          epochs: [{ epoch: 1, step: 1, metrics: { loss: 0.5 } }],
        },
      });
      await noteRun(zone, 'a b', run);
      return run;
    };
    const list = async (model?: string) =>
      (await listRunLines(watched, 'a b', folder, model)).map(({ digest }) => digest);
    const [one, two] = [await make('x', 1), await make('y', 2)];
    expect(await list()).toEqual([two, one]);
    expect(await list('x')).toEqual([one]);
    expect(read.length).toBe(2);

    // A process that was killed while it wrote; then another run; and one whose record is gone.
    const file = join(folder, 'runs-2', 'a%20b.jsonl');
    expect(await readFile(file, 'utf8')).not.toContain('epochs');
    await appendFile(file, '{"digest":"sha256:12');
    const three = await make('x', 3);
    expect(await list()).toEqual([three, two, one]);
    expect(await list()).toEqual([three, two, one]);
    expect(read.length).toBe(3);
    await store.delete(`work/records/runs/a b/${two.slice(7)}.json.json`);
    expect(await list()).toEqual([three, one]);
    expect((await listRuns(zone, 'a b')).map(({ digest }) => digest)).toEqual([three, one]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it('a long first look tells how far it is, reads what runs share once, and goes on where it was stopped', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-runs-'));
  try {
    const zone = createZone('work', await openStore(pathToFileURL(join(folder, 'store')).href, null), {});
    const dataset = await zone.putArtifact({ kind: 'dataset', name: 'd', files: [], parents: [], meta: {} });
    for (let at = 0; at < 40; at++) {
      const meta = {
        model: 'm',
        code: dataset,
        config: dataset,
        started_at: '2026-01-01T10:00:00Z',
        seconds: at,
      };
      await noteRun(
        zone,
        'p',
        await zone.putArtifact({ kind: 'run', name: 'm', files: [], parents: [dataset], meta }),
      );
    }
    const read: string[] = [];
    const watched = (most: number) => ({
      ...zone,
      getArtifact: (digest: Parameters<typeof zone.getArtifact>[0]) => {
        if (read.push(digest) > most) throw new Error('stopped');
        return zone.getArtifact(digest);
      },
    });
    const shares: number[] = [];
    const progress = (done: number, of: number) => shares.push(done / of);
    const cut = listRunLines(watched(30), 'p', folder, undefined, progress);
    await expect(cut).rejects.toThrow('stopped');
    expect(shares.length).toBeGreaterThan(0);
    const before = read.length;
    const lines = await listRunLines(watched(1000), 'p', folder, undefined, progress);
    expect(lines.map(({ dataset: of }) => of)).toEqual(Array(40).fill(dataset));
    expect(shares.at(-1)).toBe(1);
    expect(read.length - before, 'runs that were not read yet, and their data once').toBeLessThanOrEqual(25);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it('what a run is made of is not there only where the store says so, not where it did not answer', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-runs-'));
  try {
    const store = await openStore(pathToFileURL(join(folder, 'store')).href, null);
    const zone = createZone('work', store, {});
    const dataset = await zone.putArtifact({ kind: 'dataset', name: 'd', files: [], parents: [], meta: {} });
    const checkpoint = await zone.putArtifact({
      kind: 'checkpoint',
      name: 'c',
      files: [],
      parents: [],
      meta: {},
    });
    const source = await zone.putArtifact({ kind: 'source', name: 's', files: [], parents: [], meta: {} });
    const meta = {
      model: 'm',
      code: dataset,
      config: dataset,
      started_at: '2026-01-01T10:00:00Z',
      seconds: 1,
    };
    const parents = [dataset, checkpoint, source];
    await noteRun(zone, 'p', await zone.putArtifact({ kind: 'run', name: 'm', files: [], parents, meta }));
    await store.delete(artifactKey('work', checkpoint));
    await store.put(artifactKey('work', source), 'damaged');
    const away = {
      ...zone,
      getArtifact: async (digest: Parameters<typeof zone.getArtifact>[0]) => {
        if (digest === dataset)
          throw new UpstreamError('store', 'the store does not answer', { retryable: true });
        return zone.getArtifact(digest);
      },
    };
    await expect(listRunLines(away, 'p', folder)).rejects.toThrow('does not answer');
    const lines = await listRunLines(zone, 'p', folder);
    expect(lines).toMatchObject([{ dataset, checkpoint: null, source: null }]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
