import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { writeExample } from '../../src/cli/init.ts';
import { withResources, withSearch } from '../../src/cli/pipeline-steps.ts';
import { packageRoot } from '../../src/exec/root.ts';

it('what a model asks for under resources: becomes inputs and a runner tag of its jobs', async () => {
  const starter = await readFile(join(packageRoot(), 'templates', '.gitlab-ci.yml'), 'utf8');
  const pipeline = withResources(starter, {
    train: { gpu: 1, cpu: 6, memory: '24Gi' },
    evaluate: { gpu: 0, cpu: 3, memory: '5Gi' },
  });
  const inputsOf = (component: string) => pipeline.split(`/${component}@`)[1]!.split('- component:')[0]!;
  expect(inputsOf('train')).toMatch(/cpu: "6"\n {6}memory: 24Gi\n {6}tags: \[gpu\]/);
  expect(inputsOf('evaluate')).toMatch(/cpu: "3"\n {6}memory: 5Gi\n/);
  expect(inputsOf('evaluate')).not.toContain('tags');
  expect(inputsOf('package')).not.toMatch(/cpu|memory/);
});

it('a search gets what training gets, between what comes before it and train, shared by several jobs', async () => {
  const read = (name: string) => readFile(join(packageRoot(), 'templates', name), 'utf8');
  const gitlab = withResources(withSearch(await read('.gitlab-ci.yml'), 'validate', 3), {
    train: { gpu: 1, cpu: 6, memory: '24Gi' },
    evaluate: { gpu: 0, cpu: 1, memory: '2Gi' },
  });
  const inputsOf = (name: string) => gitlab.split(`/${name}@`)[1]!.split('- component:')[0]!;
  const asked = '      cpu: "6"\n      memory: 24Gi\n      tags: [gpu]\n';
  expect(inputsOf('tune')).toContain(`      parallel: 3\n      needs: [validate]\n${asked}`);
  expect(inputsOf('train')).toContain(`      needs: [tune]\n${asked}`);
  expect(inputsOf('train')).not.toContain('parallel');
  expect(gitlab).toContain('ingest → validate → tune → train → package');

  const { jobs } = parse(withSearch(await read('github-workflow.yml'), 'validate', 3));
  expect(jobs.tune.steps.at(-2)).toEqual({ run: 'cdl tune', env: { CDL_PARAM_MODEL: '__MODEL__' } });
  expect(jobs.tune['runs-on']).toBe(jobs.train['runs-on']);
  expect([jobs.tune.needs, jobs.train.needs]).toEqual(['validate', 'tune']);
});

it.each(['gitlab', 'github'])(
  'the pipeline of %s for raw items cleans before validate on both sides, transforms before train, and is otherwise the same',
  async (forge) => {
    const folder = await mkdtemp(join(tmpdir(), 'cdl-init-'));
    try {
      const options = { version: '1.0.0', components: 'cdl/components', validators: [], forge };
      const path = forge === 'gitlab' ? '.gitlab-ci.yml' : '.github/workflows/cdl.yml';
      const read = async (example: string) => {
        await writeExample(example, join(folder, example), options);
        return readFile(join(folder, example, path), 'utf8');
      };
      const [fashion, news] = [await read('fashion'), await read('news')];
      const needs = (text: string) =>
        Object.fromEntries(
          forge === 'gitlab'
            ? [...text.matchAll(/\/([\w-]+)@1\.0\.0\n((?: {4}.*\n)+)/g)].map(([, name, body]) => [
                /job-name: (.*)/.exec(body!)?.[1] ?? name,
                /needs: \[(.*)\]/.exec(body!)?.[1],
              ])
            : Object.entries((parse(text) as { jobs: Record<string, { needs?: string }> }).jobs).map(
                ([name, job]) => [name, job.needs],
              ),
        );
      const { clean, validate, transform, train, ...rest } = needs(news);
      expect({ clean, validate, transform, train }).toEqual({
        clean: 'ingest',
        validate: 'clean',
        transform: 'validate',
        train: 'transform',
      });
      expect(rest).toMatchObject({
        'clean-test': 'ingest-test',
        'validate-test': 'clean-test',
        evaluate: 'validate-test',
      });
      const { 'clean-test': _clean, 'validate-test': _validate, ...same } = rest;
      const before = { evaluate: 'ingest-test', validate: 'ingest', train: 'validate' };
      expect({ ...same, ...before }).toEqual(needs(fashion));
      expect(news).toContain('ingest → clean → validate → transform → train');
      expect(news).toContain('ingest-test → clean-test → validate-test → evaluate');
      expect(news.match(forge === 'gitlab' ? /side: test/g : /CDL_PARAM_SIDE: test/g)).toHaveLength(3);
      expect(fashion).not.toContain('clean');
      expect(fashion).not.toContain('transform');
      if (forge === 'github')
        expect(news).toMatch(/run: cdl transform\n {8}env:\n {10}CDL_PARAM_MODEL: news/);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
);
