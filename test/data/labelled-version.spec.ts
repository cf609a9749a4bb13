import { EventEmitter, once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { labelsSchema } from '../../src/core/project-labels.ts';
import { pushItems, taskContent } from '../../src/data/label-push.ts';
import type { LabelSet, Vote } from '../../src/data/label-set.ts';
import { openLabelStudio } from '../../src/data/label-studio.ts';
import { hookHeader, watchLabels } from '../../src/data/label-watch.ts';
import { buildLabelled, compareLabels, labelsOfVersion } from '../../src/data/labelled-version.ts';
import type { RawItem } from '../../src/data/raw-item.ts';
import { readRawItems, writeShards } from '../../src/data/shards.ts';
import { startLabelStudio } from '../../src/sandbox/label-studio.ts';
import { createZone, openStore, type Zone } from '../../src/store/index.ts';
import { tasksOf } from '../contract/label-server.ts';

const classes = ['sport', 'business'];
const items: RawItem[] = Array.from({ length: 6 }, (_, index) => {
  const bytes = Buffer.from(`text ${index}`);
  const attributes = { path: `${index}.txt` };
  return { id: digestBytes(bytes), bytes, extension: 'txt', label: index === 5 ? 1 : null, attributes };
});

let serial = 0;
function vote(item: RawItem, labeler: string, choice: string): Vote {
  serial += 1;
  return {
    item: item.id,
    annotation: `s#${serial}`,
    labeler,
    choices: [choice],
    at: '2026-01-01T00:00:00.000Z',
  };
}

/** Both say sport of the first four. */
const agreed = items.slice(0, 4).flatMap((item) => ['s@1', 's@2'].map((who) => vote(item, who, 'sport')));

function setOf(votes: Vote[]): LabelSet {
  return { v: 1, project: 'p', dataset: 'news', side: 'train', votes };
}

describe('a labelled version', () => {
  let folder: string;
  let zone: Zone;
  let dataset: Digest;
  const config = labelsSchema.parse({ project: 'News', annotations: 2 });
  const build = (votes: Vote[], changes: Partial<typeof config> = {}) => {
    const input = {
      dataset,
      labels: digestBytes('set'),
      set: setOf(votes),
      config: { ...config, ...changes },
    };
    return buildLabelled('news', input, zone);
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-labelled-'));
    zone = createZone('work', await openStore(`file:${join(folder, 'store')}`, null));
    const shards = join(folder, 'shards');
    await mkdir(shards);
    const sorted = [...items].sort((a, b) => (a.id < b.id ? -1 : 1));
    const names = await writeShards(sorted, shards, classes);
    await writeFile(join(shards, 'quarantine.jsonl'), '');
    await writeFile(join(shards, 'classes.json'), JSON.stringify(classes));
    const files = [];
    for (const path of [...names, 'quarantine.jsonl', 'classes.json']) {
      files.push({ path, ...(await zone.putFile(join(shards, path))) });
    }
    const meta = { v: 2, side: 'train', count: 6, classes, perClass: [0, 1], quarantined: {} };
    dataset = await zone.putArtifact({ kind: 'dataset', name: 'news-train', files, parents: [], meta });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('is the same for the same labels, in whatever order they come', async () => {
    const one = await build(agreed);
    expect((await build([...agreed].reverse())).digest).toBe(one.digest);
    expect(one).toMatchObject({ count: 6, unlabelled: 1, perClass: [4, 1], refused: null });
    expect((await zone.getArtifact(one.digest)).parents).toEqual([dataset]);
    expect(one.labelers).toEqual([
      ['1', 4],
      ['2', 4],
    ]);
  });

  it('and what is told of it alter with a changed and with a conflicting label', async () => {
    const before = await build(agreed);
    const changed = agreed.map((one) =>
      one.item === items[0]!.id ? { ...one, choices: ['business'] } : one,
    );
    const after = await build(changed);
    expect(after.digest).not.toBe(before.digest);
    const labels = (digest: Digest) => labelsOfVersion(zone, digest, classes);
    expect(compareLabels(await labels(before.digest), await labels(after.digest))).toEqual({
      added: 0,
      removed: 0,
      changed: [['sport', 'business', 1]],
    });
    const [first, ...rest] = agreed;
    const conflict = [{ ...first!, choices: ['business'] }, ...rest];
    const aside = await build(conflict);
    expect(aside).toMatchObject({ count: 5, perClass: [3, 1] });
    expect(aside.conflicts).toEqual([
      {
        item: items[0]!.id,
        choices: [
          ['business', 1],
          ['sport', 1],
        ],
      },
    ]);
    expect((await zone.getArtifact(aside.digest)).meta.quarantined).toEqual({ 'labelers-disagree': 1 });
    expect(await build(conflict, { conflicts: 'unlabelled' })).toMatchObject({ count: 6, unlabelled: 2 });
    const strict = await build(conflict, { min_agreement: 0.8 });
    expect(strict.refused).toContain('less than labels.min_agreement 0.8');
  });

  it('sets votes aside for items that an earlier version had, and no others', async () => {
    const stranger = { ...items[0]!, id: digestBytes('stranger') };
    const first = await zone.getArtifact(dataset);
    // The next version lacks one that was labelled; the first one is still there.
    const shards = join(folder, 'next');
    await mkdir(shards);
    const kept = items.filter((item) => item !== items[3]).sort((a, b) => (a.id < b.id ? -1 : 1));
    const names = await writeShards(kept, shards, classes);
    await writeFile(join(shards, 'quarantine.jsonl'), '');
    await writeFile(join(shards, 'classes.json'), JSON.stringify(classes));
    const files = [];
    for (const path of [...names, 'quarantine.jsonl', 'classes.json']) {
      files.push({ path, ...(await zone.putFile(join(shards, path))) });
    }
    const next = await zone.putArtifact({ ...first, files, meta: { ...first.meta, count: 5 } });
    const make = (votes: Vote[]) =>
      buildLabelled('news', { dataset: next, labels: digestBytes('set'), set: setOf(votes), config }, zone);
    const pushed = agreed.map((one) => ({ ...one, version: dataset }));
    expect(await make(pushed)).toMatchObject({ count: 5, goneVotes: 2, perClass: [3, 1], unlabelled: 1 });
    // Of a version that is no longer stored, nobody can say what it had.
    const old = { ...vote(stranger, 's@1', 'sport'), version: digestBytes('collected as garbage') };
    expect(await make([...pushed, old])).toMatchObject({ goneVotes: 3 });
    for (const wrong of [{}, { version: dataset }, { version: next }]) {
      await expect(make([...pushed, { ...vote(stranger, 's@1', 'sport'), ...wrong }])).rejects.toMatchObject({
        code: 'data-invalid',
        message: expect.stringContaining('about 1 items'),
      });
    }
  });

  it('is not made of labels that are about an unknown item', async () => {
    const stranger = { ...items[0]!, id: digestBytes('stranger') };
    await expect(build([...agreed, vote(stranger, 's@1', 'sport')])).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining(stranger.id),
    });
  });

  it('begins with one task an item that has no label, pushed once', async () => {
    const server = await startLabelStudio({ tokens: new Map([['one', 1]]) });
    try {
      const open = openLabelStudio({ url: server.url, token: 'one' });
      const project = await open.ensureProject('News', 'text', classes, false);
      await zone.saveArtifact(dataset, join(folder, 'push'));
      const options = { kind: 'text', version: dataset, store: zone, now: new Date() } as const;
      const push = () => pushItems(open, project, readRawItems(join(folder, 'push')), options);
      expect([await push(), await push()]).toEqual([
        { added: 5, renewed: 0 },
        { added: 0, renewed: 0 },
      ]);
      const tasks = await tasksOf(open.listTasks(project));
      expect(new Set(tasks.map(({ content }) => content))).toEqual(
        new Set(['text 0', 'text 1', 'text 2', 'text 3', 'text 4']),
      );
      expect(tasks.every(({ version, annotations }) => version === dataset && annotations.length === 0)).toBe(
        true,
      );
    } finally {
      await server.close();
    }
  });
});

describe('pictures for labelers', () => {
  const picture = (bytes: Buffer, extension = 'png'): RawItem => ({
    id: digestBytes(bytes),
    label: null,
    bytes,
    extension,
    attributes: {},
  });
  const many = async function* (pictures: RawItem[]) {
    yield* pictures;
  };
  /** Signs as S3 does, as far as anybody looks: by date and life. */
  const linking = (at: () => Date) => ({
    putBlob: async (bytes: unknown) => ({ digest: digestBytes(bytes as Buffer), size: 1 }),
    async linkBlob(digest: Digest, { seconds, type }: { seconds: number; type: string }) {
      const date = at()
        .toISOString()
        .replace(/[-:]|\.\d+/g, '');
      const query = new URLSearchParams({
        'X-Amz-Date': date,
        'X-Amz-Expires': String(seconds),
        'response-content-type': type,
      });
      return `https://store.example/work/${digest}?${query}`;
    },
  });

  it('are links that are renewed before they run out, and nobody’s work is lost by it', async () => {
    const server = await startLabelStudio({ tokens: new Map([['one', 1]]) });
    try {
      const open = openLabelStudio({ url: server.url, token: 'one' });
      const project = await open.ensureProject('Pictures', 'image', classes, false);
      const pictures = [picture(Buffer.from('one')), picture(Buffer.from('two'), 'jpg')];
      let now = new Date('2026-03-01T00:00:00Z');
      const push = () =>
        pushItems(open, project, many(pictures), {
          kind: 'image',
          version: digestBytes('v'),
          store: linking(() => now),
          now,
        });
      expect(await push()).toEqual({ added: 2, renewed: 0 });
      const before = await tasksOf(open.listTasks(project));
      expect(before[0]!.content).toContain('response-content-type=image%2Fpng');
      now = new Date('2026-03-04T00:00:00Z');
      expect(await push()).toEqual({ added: 0, renewed: 0 });
      now = new Date('2026-03-05T00:00:00Z');
      expect(await push()).toEqual({ added: 0, renewed: 2 });
      const after = await tasksOf(open.listTasks(project));
      expect(after.map(({ id, item }) => [id, item])).toEqual(before.map(({ id, item }) => [id, item]));
      for (const { content } of after) expect(content).toContain('X-Amz-Date=20260305T000000Z');
    } finally {
      await server.close();
    }
  });

  it('travel inside the task where the store has no links, when they are small pictures', async () => {
    const inline = { ...linking(() => new Date()), linkBlob: async () => null };
    const content = (bytes: Buffer, extension: string) =>
      taskContent(picture(bytes, extension), 'image', inline);
    expect(await content(Buffer.from('a'), 'png')).toBe('data:image/png;base64,YQ==');
    await expect(content(Buffer.alloc(3 << 20), 'png')).rejects.toThrow('cannot be shown');
    await expect(content(Buffer.from('a'), 'exe')).rejects.toThrow('cannot be shown');
  });
});

describe('the watch for labels', () => {
  it('looks at the start and at each webhook with the secret, and stops when told', async () => {
    const stop = new AbortController();
    const looked = new EventEmitter();
    let looks = 0;
    const first = once(looked, 'look');
    const watch = await watchLabels({
      seconds: 3600,
      hook: { host: '127.0.0.1', port: 0, secret: 'right' },
      signal: stop.signal,
      async look() {
        looks += 1;
        looked.emit('look');
      },
    });
    await first;
    const call = (secret: string) =>
      fetch(`http://127.0.0.1:${watch.port}/`, {
        method: 'POST',
        headers: { [hookHeader]: secret },
        body: '{}',
      });
    expect((await call('wrong')).status).toBe(401);
    expect(looks).toBe(1);
    const second = once(looked, 'look');
    expect((await call('right')).status).toBe(200);
    await second;
    expect(looks).toBe(2);
    stop.abort();
    await watch.ended;
  });
});
