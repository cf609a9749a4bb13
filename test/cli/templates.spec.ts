import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { examples } from '../../src/cli/init.ts';
import { parseProject } from '../../src/core/project.ts';
import { packageRoot } from '../../src/exec/root.ts';

const names = await examples();

/** A text with the settings that stand in it as comments; what is no setting stays a comment. */
const withSettings = (text: string) => text.replaceAll(/^( *)# ([a-z_]+: \S.*)$/gm, '$1$2');

describe.each(names)('cdl.yaml of the example %s', (name) => {
  const read = () => readFile(join(packageRoot(), 'templates', name, 'cdl.yaml'), 'utf8');

  it('can be read as it is shipped', async () => {
    const project = parseProject(await read());
    expect(Object.keys(project.models)).toHaveLength(1);
    expect(project.approvals.data).toBeUndefined();
  });

  it('can be read with every setting that it shows as a comment', async () => {
    const project = parseProject(withSettings(await read()));
    const [data] = Object.values(project.datasets);
    expect(data).toMatchObject({ poll: { propose: true }, test_version: expect.stringMatching(/^sha256:/) });
    expect(data!.labels?.annotations).toBe(data!.item === 'text' ? 2 : undefined);
    expect(project.approvals.data).toEqual({ required: 1 });
    expect(project.roles.data).toHaveLength(1);
    expect(project.triggers).toEqual([{ branches: ['exp/*'], task: 'train' }]);
  });
});

it('news and news-torch stem alike: each example is whole, so that the file stands in both', async () => {
  const [one, other] = await Promise.all(
    ['news', 'news-torch'].map((name) => readFile(join(packageRoot(), 'templates', name, 'stem.ts'), 'utf8')),
  );
  expect(other).toBe(one);
});
