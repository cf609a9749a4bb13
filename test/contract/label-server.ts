import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { openLabelStudio, type Task } from '../../src/data/label-studio.ts';

/** A server to test against, and two people who label there. */
export interface LabelServerUnderTest {
  url: string;
  token: string;
  /** Headers and fields with which this person's annotations are made. */
  people: { headers: Record<string, string>; fields: Record<string, unknown> }[];
  dispose(): Promise<void>;
}

/** Annotates as a person does: through the annotation API. */
export async function annotate(
  server: LabelServerUnderTest,
  person: number,
  place: { task: number } | { annotation: string },
  choices: readonly string[] | null,
): Promise<string> {
  const { headers, fields } = server.people[person]!;
  const result = [{ from_name: 'label', to_name: 'content', type: 'choices', value: { choices } }];
  const path =
    'task' in place ? `/api/tasks/${place.task}/annotations/` : `/api/annotations/${place.annotation}/`;
  const method = 'task' in place ? 'POST' : choices === null ? 'DELETE' : 'PATCH';
  const answer = await fetch(server.url + path, {
    method,
    headers: { ...(choices !== null && { 'content-type': 'application/json' }), ...headers },
    ...(choices === null ? {} : { body: JSON.stringify({ result, ...fields }) }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return choices === null ? '' : String(((await answer.json()) as { id: number }).id);
}

/** All tasks of a project. */
export async function tasksOf(tasks: AsyncIterable<Task>): Promise<Task[]> {
  const all: Task[] = [];
  for await (const task of tasks) all.push(task);
  return all;
}

/** What a label server must do for us, whoever wrote it. */
export function labelServerContract(name: string, start: () => Promise<LabelServerUnderTest>): void {
  describe(name, () => {
    let server: LabelServerUnderTest;
    const version = digestBytes('version');
    const classes = ['sport', 'R&D "new" <x>'];

    beforeAll(async () => {
      server = await start();
    }, 400_000);
    afterAll(() => server?.dispose());

    const open = () => openLabelStudio(server);

    it('makes a project once, and finds it again by its exact title', async () => {
      const one = await open().ensureProject('Texts', 'text', classes, false);
      expect(await open().ensureProject('Texts', 'text', classes, false)).toBe(one);
      expect(await open().ensureProject('Texts of others', 'text', classes, false)).not.toBe(one);
      // Other classes correct the page that is there.
      expect(await open().ensureProject('Texts', 'text', [...classes, 'third'], true)).toBe(one);
    });

    it('takes tasks without labels, and gives them back page by page', async () => {
      const project = await open().ensureProject('Many', 'text', classes, false);
      const items = Array.from({ length: 450 }, (_, index) => ({
        item: digestBytes(String(index)),
        version,
        content: `text ${index} <b>&`,
      }));
      await open().importTasks(project, items);
      const tasks = await tasksOf(open().listTasks(project));
      expect(tasks.map(({ item }) => item)).toEqual(items.map(({ item }) => item));
      expect(tasks[3]).toMatchObject({ version, content: 'text 3 <b>&', annotations: [], imported: 0 });
      await open().refreshTask(tasks[3]!, 'https://example.org/3');
      const [again] = (await tasksOf(open().listTasks(project))).filter(({ id }) => id === tasks[3]!.id);
      expect(again).toMatchObject({ item: tasks[3]!.item, version, content: 'https://example.org/3' });
    });

    it('tells what people chose, changed and took back, lists of choices included', async () => {
      const project = await open().ensureProject('Choices', 'text', classes, true);
      await open().importTasks(project, [{ item: digestBytes('x'), version, content: 'x' }]);
      const [task] = await tasksOf(open().listTasks(project));
      const first = await annotate(server, 0, { task: task!.id }, ['sport']);
      const second = await annotate(server, 1, { task: task!.id }, [classes[1]!, 'sport']);
      const read = async () => (await tasksOf(open().listTasks(project)))[0]!.annotations;
      const before = await read();
      expect(before.map(({ id, choices }) => [id, choices])).toEqual(
        expect.arrayContaining([
          [first, ['sport']],
          [second, [classes[1], 'sport']],
        ]),
      );
      expect(new Set(before.map(({ labeler }) => labeler)).size).toBe(2);
      await annotate(server, 0, { annotation: first }, [classes[1]!]);
      const after = (await read()).find(({ id }) => id === first)!;
      expect(after.choices).toEqual([classes[1]]);
      expect(after.at > before.find(({ id }) => id === first)!.at).toBe(true);
      await annotate(server, 1, { annotation: second }, null);
      expect((await read()).map(({ id }) => id)).toEqual([first]);
    });

    it('calls the webhook, with the secret it was given, for every change', async () => {
      const heard: { action: string; secret: unknown }[] = [];
      const hears = new EventEmitter();
      const hook = createServer((request, response) => {
        let body = '';
        request.on('data', (chunk) => {
          body += String(chunk);
        });
        request.on('end', () => {
          heard.push({ action: String(JSON.parse(body).action), secret: request.headers['x-cdl-token'] });
          response.end('{}');
          hears.emit('heard');
        });
      });
      hook.listen(0, '127.0.0.1');
      await once(hook, 'listening');
      const url = `http://127.0.0.1:${(hook.address() as AddressInfo).port}/labels`;
      try {
        const project = await open().ensureProject('Hooked', 'text', classes, false);
        await open().ensureWebhook(project, url, { 'x-cdl-token': 'old' });
        await open().ensureWebhook(project, url, { 'x-cdl-token': 'new' });
        await open().importTasks(project, [{ item: digestBytes('h'), version, content: 'h' }]);
        const [task] = await tasksOf(open().listTasks(project));
        const until = async (count: number) => {
          while (heard.length < count) await once(hears, 'heard');
        };
        const annotation = await annotate(server, 0, { task: task!.id }, ['sport']);
        await until(1);
        await annotate(server, 0, { annotation }, [classes[1]!]);
        await until(2);
        await annotate(server, 0, { annotation }, null);
        await until(3);
        expect(heard).toEqual([
          { action: 'ANNOTATION_CREATED', secret: 'new' },
          { action: 'ANNOTATION_UPDATED', secret: 'new' },
          { action: 'ANNOTATIONS_DELETED', secret: 'new' },
        ]);
      } finally {
        hook.closeAllConnections();
        hook.close();
      }
    });

    it('refuses a wrong token, and says which variable to look at', async () => {
      const wrong = openLabelStudio({ url: server.url, token: 'wrong' });
      await expect(wrong.ensureProject('Texts', 'text', classes, false)).rejects.toMatchObject({
        code: 'labels-denied',
        hint: expect.stringContaining('CDL_LABEL_STUDIO_TOKEN'),
      });
    });
  });
}

/** A temporary folder that is removed again. */
export async function scratchFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'cdl-labels-'));
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 10 }) };
}
