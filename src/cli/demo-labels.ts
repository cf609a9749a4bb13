import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestBytes, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { openLabelStudio, type Task } from '../data/label-studio.ts';
import { run } from '../exec/run.ts';
import { startLabelStudio } from '../sandbox/label-studio.ts';
import type { Story } from './story.ts';

/** Articles that nobody has labelled, and what is known of them all the same: so that the labelers of a demo can read. */
export interface Unlabelled {
  texts: readonly string[];
  /** Index into `classes` of each text. */
  y: readonly number[];
  classes: readonly string[];
}

/** A machine where the chapter may happen. */
export interface LabelPlace {
  /** Exists and is empty. */
  folder: string;
  /** PATH of the programs. */
  path: string;
}

const title = 'Articles of the day';

/**
 * Two labelers read articles that have no label: they agree about all but one, where one of them errs, and one corrects a
 * slip. What the demo acts is the two people; all else are the programs that work with Label Studio.
 */
export async function labelArticles(story: Story, place: LabelPlace, articles: Unlabelled): Promise<void> {
  const standIn = await startLabelStudio({
    tokens: new Map([
      ['lena', 1],
      ['luca', 2],
    ]),
  });
  try {
    await story.chapter('Lena and Luca label articles that nobody has labelled yet', async (detail) => {
      const cdl = await openProject(place, articles, { url: standIn.url, token: 'lena' });
      detail('cdl ingest, cdl label: the articles go to Label Studio');
      await cdl('ingest');
      await cdl('label');
      const server = openLabelStudio({ url: standIn.url, token: 'lena' });
      const project = await server.ensureProject(title, 'text', articles.classes, false);
      const tasks: Task[] = [];
      for await (const task of server.listTasks(project)) tasks.push(task);
      detail(`two people read ${tasks.length} articles`);
      const section = (task: Task) => articles.classes[articles.y[articles.texts.indexOf(task.content)]!]!;
      const other = (name: string) => articles.classes.find((one) => one !== name)!;
      const slips: string[] = [];
      for (const [index, task] of tasks.entries()) {
        const right = section(task);
        const lena = await annotate(standIn.url, 'lena', task.id, index === 1 ? other(right) : right);
        await annotate(standIn.url, 'luca', task.id, index === 0 ? other(right) : right);
        if (index === 1) slips.push(lena);
      }
      detail('cdl labels sync, cdl label: their words become a labelled version');
      await cdl('labels', 'sync', '--once');
      const before = await cdl('label');
      await annotate(standIn.url, 'lena', tasks[1]!.id, section(tasks[1]!), slips[0]);
      await cdl('labels', 'sync', '--once');
      const after = await cdl('label');
      const agreement = await cdl('labels', 'agreement');
      const count = (said: Said) => Number(said.outputs?.labelled);
      story.milestone('labelled', {
        items: tasks.length,
        labelled_before: count(before),
        labelled: count(after),
        dataset: after.outputs?.dataset,
        alpha: agreement.alpha,
      });
      return {
        text: [
          `${tasks.length} articles, two votes each; Krippendorff's alpha ${Number(agreement.alpha).toFixed(3)}`,
          `${count(before)} got a label; then Lena corrected a slip, and it was ${count(after)} (history and both versions are kept)`,
          `one article they disagree about is set aside; labelled version ${shortDigest(after.outputs!.dataset as `sha256:${string}`)}`,
        ].join('\n'),
        value: null,
      };
    });
  } finally {
    await standIn.close();
  }
}

interface Said {
  outputs?: Record<string, string>;
  alpha?: number | null;
}

/** A project whose data set has no labels of its own; returns what runs `cdl` in it. */
async function openProject(
  { folder, path }: LabelPlace,
  { texts, classes }: Unlabelled,
  server: { url: string; token: string },
): Promise<(...args: string[]) => Promise<Said>> {
  const root = join(folder, 'articles');
  await mkdir(root, { recursive: true });
  const rows = `${texts.map((text) => JSON.stringify({ text })).join('\n')}\n`;
  await writeFile(join(root, 'articles.jsonl'), rows);
  await writeFile(
    join(root, 'cdl.yaml'),
    `version: 1
project: newsroom
requirements: { problem: which section an article belongs to, owner: news desk }
datasets:
  articles:
    item: text
    classes: [${classes.join(', ')}]
    sources:
      - file: [articles.jsonl]
        sha256: ${digestBytes(Buffer.from(rows)).slice('sha256:'.length)}
        read: { format: jsonl, text: text }
    split: { key: newsroom-1, test: 0.2 }
    labels: { project: ${title}, annotations: 2, resolve: unanimous }
models:
  news: { data: articles, code: [model.ts] }
`,
  );
  await writeFile(join(root, 'model.ts'), 'export {};\n');
  const env = {
    PATH: path,
    HOME: folder,
    CDL_CACHE: join(folder, 'cache'),
    CDL_LABEL_STUDIO_URL: server.url,
    CDL_LABEL_STUDIO_TOKEN: server.token,
  };
  const git = await run('git', ['init', '--quiet'], { cwd: root, env });
  if (git.code !== 0) throw new UserError('not-available', git.stderr.toString());
  return async (...args) => {
    const done = await run(process.execPath, [process.argv[1]!, ...args, '--json'], { cwd: root, env });
    if (done.code !== 0 && done.code !== 4) throw new UserError('data-invalid', done.stderr.toString());
    return JSON.parse(done.stdout.toString().trim().split('\n').at(-1)!) as Said;
  };
}

/** Says as one person which class a task is of; `annotation` changes an earlier word. Returns the annotation's id. */
async function annotate(
  url: string,
  token: string,
  task: number,
  choice: string,
  annotation?: string,
): Promise<string> {
  const path =
    annotation === undefined ? `/api/tasks/${task}/annotations/` : `/api/annotations/${annotation}/`;
  const result = [{ from_name: 'label', to_name: 'content', type: 'choices', value: { choices: [choice] } }];
  const answer = await fetch(url + path, {
    method: annotation === undefined ? 'POST' : 'PATCH',
    headers: { authorization: `Token ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ result }),
  });
  if (!answer.ok)
    throw new UserError('not-available', `Label Studio: ${answer.status} ${await answer.text()}`);
  return String(((await answer.json()) as { id: number }).id);
}
