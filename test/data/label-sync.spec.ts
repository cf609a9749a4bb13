import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { labelsSchema } from '../../src/core/project-labels.ts';
import { historyOf, votesAsOf } from '../../src/data/label-history.ts';
import { agreementOfVotes, readLabelRef, readLabelSet } from '../../src/data/label-set.ts';
import { openLabelStudio } from '../../src/data/label-studio.ts';
import { projectTitle, type SyncInput, syncLabels } from '../../src/data/label-sync.ts';
import { type Database, openDatabase } from '../../src/db/index.ts';
import { type LabelStudioStandIn, startLabelStudio } from '../../src/sandbox/label-studio.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import { annotate, type LabelServerUnderTest, scratchFolder, tasksOf } from '../contract/label-server.ts';

const scope = { project: 'acme/news', dataset: 'news', side: 'train' as const };
const classes = ['sport', 'business'];
const config = labelsSchema.parse({ project: 'News', annotations: 2 });
const item = (index: number) => digestBytes(`text ${index}`);

describe('the label sync', () => {
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let server: LabelStudioStandIn;
  let database: Database;
  let people: LabelServerUnderTest;
  let input: SyncInput;

  beforeAll(async () => {
    folder = await scratchFolder();
    await chmod(folder.path, 0o711);
    server = await startLabelStudio({
      tokens: new Map([
        ['one', 1],
        ['two', 2],
        ['nobody', null],
      ]),
    });
    database = await openDatabase({ url: null, folder: join(folder.path, 'db') });
    const person = (token: string) => ({ headers: { authorization: `Token ${token}` }, fields: {} });
    people = {
      url: server.url,
      token: 'one',
      people: [person('one'), person('two'), person('nobody')],
      dispose: server.close,
    };
    const zone = createZone('trusted', await openStore(`file:${join(folder.path, 'store')}`, null));
    input = {
      ...{ scope, config, kind: 'text', classes, database, zone },
      server: openLabelStudio({ url: server.url, token: 'one' }),
      now: () => new Date(),
    };
  });
  afterAll(async () => {
    await database?.close();
    await server?.close();
    await folder?.remove();
  });

  it('keeps every word, and gives the labels as of any moment again', async () => {
    const project = await input.server.ensureProject(projectTitle(config, 'train'), 'text', classes, false);
    const version = digestBytes('v1');
    await input.server.importTasks(
      project,
      Array.from({ length: 60 }, (_, index) => ({ item: item(index), version, content: `text ${index}` })),
    );
    const tasks = await tasksOf(input.server.listTasks(project));
    for (const task of tasks) {
      for (const one of [0, 1]) await annotate(people, one, { task: task.id }, ['sport']);
    }
    const first = await syncLabels(input);
    expect(first).toMatchObject({ tasks: 60, created: 120, updated: 0, deleted: 0, changed: true });
    expect(agreementOfVotes(await votesAsOf(database, scope))).toMatchObject({ items: 60, percent: 1 });

    // Nothing new: no line more, the same set.
    expect(await syncLabels(input)).toMatchObject({ created: 0, changed: false, labels: first.labels });
    const before = new Date();

    const [changed, gone] = (await tasksOf(input.server.listTasks(project))).flatMap(
      (one) => one.annotations,
    );
    await annotate(people, 0, { annotation: changed!.id }, ['business']);
    await annotate(people, 1, { annotation: gone!.id }, null);
    await annotate(people, 2, { task: tasks[1]!.id }, ['business']);
    const second = await syncLabels(input);
    expect(second).toMatchObject({ created: 1, updated: 1, deleted: 1, changed: true });
    expect(second.labels).not.toBe(first.labels);
    expect((await readLabelRef(input.zone, scope.project, 'news', 'train'))?.digest).toBe(second.labels);

    const lines = await historyOf(database, scope, item(0));
    expect(
      lines.map(({ kind, choices, previous, labeler }) => ({ kind, choices, previous, labeler })),
    ).toEqual([
      { kind: 'created', choices: ['sport'], previous: null, labeler: '1' },
      { kind: 'created', choices: ['sport'], previous: null, labeler: '2' },
      { kind: 'updated', choices: ['business'], previous: ['sport'], labeler: '1' },
      { kind: 'deleted', choices: [], previous: ['sport'], labeler: '2' },
    ]);
    expect((await historyOf(database, scope, item(1))).at(-1)).toMatchObject({ labeler: null, version });

    const then = (await readLabelSet(input.zone, first.labels)).votes;
    expect(await votesAsOf(database, scope, { time: before })).toEqual(then);
    expect(new Set(then.map((vote) => vote.version))).toEqual(new Set([version]));
    expect(await votesAsOf(database, scope, { seq: 120 })).toEqual(then);
    expect(agreementOfVotes(await votesAsOf(database, scope)).percent).toBeLessThan(1);
  });

  it('takes no task for gone because another was removed while it listed them', async () => {
    const many = labelsSchema.parse({ project: 'Many tasks' });
    const there = { ...scope, dataset: 'many' };
    const project = await input.server.ensureProject('Many tasks', 'text', classes, false);
    const version = digestBytes('v1');
    const tasks = Array.from({ length: 420 }, (_, index) => ({ item: item(index), version, content: 'x' }));
    await input.server.importTasks(project, tasks);
    const all = await tasksOf(input.server.listTasks(project));
    for (const index of [150, 200, 201, 399, 400, 419])
      await annotate(people, 0, { task: all[index]!.id }, ['sport']);
    const sync = () => syncLabels({ ...input, scope: there, config: many, server: removing });
    // Between two pages somebody removes a task of the first one.
    let doomed: number[] = [];
    const removing: typeof input.server = {
      ...input.server,
      async *listTasks(of) {
        let seen = 0;
        for await (const task of input.server.listTasks(of)) {
          if (++seen === 150 && doomed.length > 0) {
            const url = `${server.url}/api/tasks/${doomed.shift()}/`;
            const done = await fetch(url, { method: 'DELETE', headers: { authorization: 'Token one' } });
            expect(done.status).toBe(204);
          }
          yield task;
        }
      },
    };
    expect(await sync()).toMatchObject({ tasks: 420, created: 6 });
    doomed = [all[3]!.id, all[4]!.id];
    expect(await sync()).toMatchObject({ tasks: 418, created: 0, updated: 0, deleted: 0, changed: false });
    expect(doomed).toEqual([]);
    // Who never stops is waited for: nothing is written of what may be half of it.
    doomed = all.slice(10, 20).map(({ id }) => id);
    await expect(sync()).rejects.toMatchObject({
      retryable: true,
      message: expect.stringContaining('removed while they were listed'),
    });
    doomed = [];
    expect(await sync()).toMatchObject({ tasks: 413, deleted: 0 });
  });

  it('lets nobody change or remove a line of the history', async () => {
    for (const sql of [
      'delete from label_events',
      `update label_events set choices = '{x}'`,
      'truncate label_events',
      'truncate label_events_train',
    ]) {
      await expect(database.query(sql)).rejects.toThrow('append-only');
    }
  });

  it('takes nothing from a server where a labelled task names no item', async () => {
    const project = await input.server.ensureProject(projectTitle(config, 'train'), 'text', classes, false);
    await fetch(`${server.url}/api/projects/${project}/import`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Token one' },
      body: JSON.stringify([{ data: { content: 'stray' } }]),
    });
    const stray = (await tasksOf(input.server.listTasks(project))).at(-1)!;
    await annotate(people, 0, { task: stray.id }, ['sport']);
    const before = await readLabelRef(input.zone, scope.project, 'news', 'train');
    await expect(syncLabels(input)).rejects.toMatchObject({
      code: 'data-invalid',
      message: expect.stringContaining(String(stray.id)),
    });
    expect(await readLabelRef(input.zone, scope.project, 'news', 'train')).toEqual(before);
  });
});
