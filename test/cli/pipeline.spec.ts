import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { init } from '../../src/cli/init.ts';
import { pipeline } from '../../src/cli/pipeline.ts';
import { call } from './in-process.ts';

const components = '$CI_SERVER_FQDN/cdl/ci-components';

describe('cdl pipeline', () => {
  let root: string;
  let place: { cwd: string; env: NodeJS.ProcessEnv };
  const file = () => readFile(join(root, '.gitlab-ci.yml'), 'utf8');
  const made = (options: object = {}) =>
    call<{ path: string; text: string; changed: boolean }>(pipeline, place, [], {
      forge: 'gitlab',
      components,
      ...options,
    });
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'cdl-pipeline-'));
    place = { cwd: root, env: { PATH: process.env.PATH, HOME: root, GIT_CONFIG_NOSYSTEM: '1' } };
    const options = { forge: 'gitlab', components, validator: ['vera'] };
    expect((await call(init, { ...place }, ['fashion', root], options)).code).toBe(0);
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  it('prints what cdl init wrote as long as cdl.yaml is the same', async () => {
    expect((await made()).value).toEqual({ path: '.gitlab-ci.yml', text: await file() });
    expect(await made({ write: true })).toMatchObject({ text: '.gitlab-ci.yml is as it should be' });
  });

  it('has the jobs that the data asks for by now, each after the one before, and what they need of runners', async () => {
    const path = join(root, 'cdl.yaml');
    const text = await readFile(path, 'utf8');
    const pictures = text
      .replace(/ {4}shape: .*\n/, '    item: image\n    clean: [{ mask: [camera] }]\n')
      .replace(
        / {4}sources:[\s\S]*? {4}split:/,
        '    sources: [{ file: photos, read: { format: image-folder } }]\n    split:',
      )
      .replace('    code: [ model.ts ]\n', '    code: [ model.ts ]\n    encode: { pixels: [28, 28, 1] }\n')
      .replace('train: { cpu: 2, memory: 4Gi }', 'train: { gpu: 1, cpu: 8, memory: 16Gi }');
    await writeFile(path, pictures);
    const said = await made({ write: true });
    expect(said, said.text).toMatchObject({ code: 0, value: { changed: true } });
    const [, document] = parseAllDocuments(await file());
    const { include } = document!.toJS() as {
      include: { component: string; inputs: { needs?: string[]; cpu?: string; tags?: string[] } }[];
    };
    const jobs = include.map(({ component, inputs }) => [/([a-z]+)@/.exec(component)![1], inputs] as const);
    const needs = (name: string) => jobs.find(([one]) => one === name)?.[1].needs;
    expect([needs('validate'), needs('transform'), needs('train')]).toEqual([
      ['clean'],
      ['validate'],
      ['transform'],
    ]);
    expect(jobs.find(([one]) => one === 'train')![1]).toMatchObject({ cpu: '8', tags: ['gpu'] });
  });

  it('says what is wrong with what it is asked', async () => {
    expect(await made({ forge: 'bitbucket' })).toMatchObject({
      code: 2,
      text: expect.stringContaining('gitlab, github'),
    });
    expect(await call(pipeline, place, ['fasion'], { forge: 'gitlab', components })).toMatchObject({
      code: 3,
      text: expect.stringContaining('did you mean fashion?'),
    });
  });
});
