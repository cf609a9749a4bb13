import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { withResources } from '../../src/cli/init.ts';
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
