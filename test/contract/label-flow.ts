import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { openLabelStudio } from '../../src/data/label-studio.ts';
import { type Database, openDatabase } from '../../src/db/index.ts';
import { runCdl } from '../cli/run-cdl.ts';
import { openScratch, type Scratch } from '../steps/project.ts';
import { zipOf } from '../steps/text-project.ts';
import { annotate, type LabelServerUnderTest, tasksOf } from './label-server.ts';

const texts = Array.from({ length: 24 }, (_, index) => `text number ${index} about ${index % 3}`);

async function files(): Promise<Record<string, string | Buffer>> {
  const lines = texts.map((text) => JSON.stringify({ text })).join('\n');
  const zip = await zipOf([{ path: 'items.jsonl', text: `${lines}\n` }]);
  const config = `version: 1
project: words
requirements: { problem: what a text is about, owner: tests }
datasets:
  texts:
    item: text
    classes: [food, sport]
    sources:
      - file: [data/texts.zip]
        sha256: ${digestBytes(zip).slice('sha256:'.length)}
        read: { format: jsonl, text: text }
    split: { key: texts-1, test: 0.25, validation: 0.2 }
    labels: { project: Words of the flow }
models:
  words: { data: texts, code: [model.ts] }
`;
  return { 'cdl.yaml': config, 'model.ts': 'export {};\n', '.gitignore': '.cdl/\n', 'data/texts.zip': zip };
}

interface Said {
  verdict: string;
  summary: string;
  outputs: Record<string, string>;
}

/** From a data version without labels to a labelled one, with the programs people use. */
export function labelFlowContract(name: string, start: () => Promise<LabelServerUnderTest>): void {
  describe(`labelling by way of ${name}`, () => {
    let server: LabelServerUnderTest;
    let scratch: Scratch;
    let database: Database;
    let env: NodeJS.ProcessEnv;

    beforeAll(async () => {
      server = await start();
      scratch = await openScratch(await files());
      env = { ...scratch.env, CDL_LABEL_STUDIO_URL: server.url, CDL_LABEL_STUDIO_TOKEN: server.token };
      // Kept open, so that it need not start anew for each command.
      database = await openDatabase({ url: null, folder: join(scratch.env.CDL_CACHE!, 'database') });
    }, 400_000);
    afterAll(async () => {
      await database?.close();
      await scratch?.remove();
      await server?.dispose();
    });

    const cdl = async (...args: string[]): Promise<Said> => {
      const { code, stdout, stderr } = await runCdl([...args, '--json'], { cwd: scratch.root, env });
      if (code !== 0 && code !== 4) throw new Error(`cdl ${args.join(' ')}: ${code}\n${stdout}${stderr}`);
      return JSON.parse(stdout.trim().split('\n').at(-1)!) as Said;
    };
    const tasks = async () => {
      const open = openLabelStudio(server);
      const project = await open.ensureProject('Words of the flow', 'text', ['food', 'sport'], false);
      return tasksOf(open.listTasks(project));
    };
    const report = async () => (await scratch.context()).handover.readReport('label', 'texts');

    it('gives people what has no label, takes what they say, and makes the same version of the same labels', {
      timeout: 120_000,
    }, async () => {
      await cdl('ingest', 'texts');
      const pushed = await cdl('label', 'texts');
      expect(pushed).toMatchObject({ verdict: 'warn', outputs: { labelled: '0' } });
      const given = await tasks();
      expect(given.length).toBeGreaterThan(10);
      expect(given.length).toBeLessThan(texts.length);
      for (const { content } of given) expect(texts).toContain(content);

      const [first, second, third] = given;
      const word = await annotate(server, 0, { task: first!.id }, ['sport']);
      await annotate(server, 0, { task: second!.id }, ['food']);
      await annotate(server, 1, { task: third!.id }, ['food']);
      expect(await cdl('labels', 'sync', '--once')).toMatchObject({ created: 3, changed: true });
      const one = await cdl('label', 'texts');
      expect(one.outputs).toMatchObject({ items: String(given.length), labelled: '3' });
      expect(await tasks()).toHaveLength(given.length);
      // Asked again, nobody has said anything new.
      expect(await cdl('labels', 'sync', '--once')).toMatchObject({ created: 0, changed: false });
      expect((await cdl('label', 'texts')).outputs).toEqual(one.outputs);

      await annotate(server, 0, { annotation: word }, ['food']);
      await annotate(server, 1, { task: second!.id }, ['sport']);
      expect(await cdl('labels', 'sync', '--once')).toMatchObject({ created: 1, updated: 1 });
      const two = await cdl('label', 'texts');
      expect(two.outputs.dataset).not.toBe(one.outputs.dataset);
      expect(two).toMatchObject({ verdict: 'warn', outputs: { labelled: '2' } });
      const facts = Object.fromEntries(
        (await report())!.blocks.flatMap((block) => (block.kind === 'facts' ? block.facts : [])),
      );
      expect(facts).toMatchObject({ 'Labelers disagree': '1', 'sport → food': '1' });

      const history = await runCdl(['labels', 'history', first!.item!, '--dataset', 'texts', '--json'], {
        cwd: scratch.root,
        env,
      });
      expect(JSON.parse(history.stdout)).toMatchObject([
        { kind: 'created', choices: ['sport'] },
        { kind: 'updated', choices: ['food'], previous: ['sport'] },
      ]);
      // The labels of then give the version of then, whatever was said since.
      const then = await cdl('label', 'texts', '--labels', one.outputs.labels!);
      expect(then.outputs.dataset).toBe(one.outputs.dataset);
    });

    it('is nothing that the pipeline of a change may do', async () => {
      const ci = {
        ...env,
        GITLAB_CI: 'true',
        CI_PROJECT_PATH: 'acme/words',
        CI_PIPELINE_SOURCE: 'merge_request_event',
        CI_MERGE_REQUEST_IID: '1',
        CI_COMMIT_SHA: await scratch.git('rev-parse', 'HEAD'),
        CI_COMMIT_REF_NAME: 'x',
        CI_COMMIT_REF_PROTECTED: 'false',
        CI_DEFAULT_BRANCH: 'main',
        CI_PIPELINE_ID: '1',
        CI_PROJECT_ID: '1',
        CI_SERVER_URL: 'http://127.0.0.1:9',
        CI_JOB_ID: '1',
      };
      for (const args of [
        ['label', 'texts'],
        ['labels', 'sync', '--dataset', 'texts', '--once'],
      ]) {
        const { code, stderr } = await runCdl(args, { cwd: scratch.root, env: ci });
        expect(code, stderr).not.toBe(0);
        expect(stderr).toMatch(/only protected jobs may|does not run in the pipeline of a change/);
      }
    });
  });
}
