import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { diff, gitEnv, gitText, log } from '../../src/sandbox/git.ts';
import { mergedTree } from '../../src/sandbox/git-merge.ts';
import { readingOf } from '../../src/sandbox/git-read.ts';

const folder = await mkdtemp(join(tmpdir(), 'cdl-git-read-'));

it('says of commits and their changes what git says', async () => {
  try {
    await gitText(folder, ['init', '--quiet', '--bare', '.']);
    const tree = async (lines: string) => gitText(folder, ['mktree'], { input: lines });
    const blob = (text: string) => gitText(folder, ['hash-object', '-w', '--stdin'], { input: text });
    const [one, two] = [await blob('one\ntwo\nthree\n'), await blob('one\ntwo\nfour\n')];
    const trees = [
      await tree(`100644 blob ${one}\ta\n100644 blob ${one}\told name\n`),
      await tree(`100644 blob ${two}\ta\n100755 blob ${one}\tnew name\n`),
    ];
    const commit = (of: number, message: string, zone: string, parents: string[]) =>
      gitText(folder, ['commit-tree', trees[of]!, ...parents.flatMap((parent) => ['-p', parent])], {
        input: message,
        env: {
          GIT_AUTHOR_NAME: 'Ada Łovelace <x',
          GIT_AUTHOR_EMAIL: 'ada@example.com',
          GIT_AUTHOR_DATE: `1700000000 ${zone}`,
          GIT_COMMITTER_NAME: 'Vera',
          GIT_COMMITTER_EMAIL: '',
          GIT_COMMITTER_DATE: '1700003600 +0000',
        },
      });
    const root = await commit(0, 'first', '-0330', []);
    const next = await commit(1, 'second\n\nparent of none\n\n', '+0545', [root]);
    const merge = await commit(1, '', '+0000', [root, next]);
    const reading = readingOf(folder, gitEnv());
    for (const id of [root, next, merge]) {
      expect(await reading.commit(id)).toEqual((await log(folder, ['-1', id]))[0]);
    }
    expect(await reading.commit(trees[0]!)).toBeNull();
    expect(await reading.commit('1'.repeat(40))).toBeNull();
    expect(await mergedTree(folder, root, next)).toBe(trees[1]);
    expect(await mergedTree(folder, next, root)).toBe(trees[1]);
    expect(
      (await diff(folder, root, next)).map(({ kind, oldPath, newPath }) => [kind, oldPath, newPath]),
    ).toEqual([
      ['modified', 'a', 'a'],
      ['renamed', 'old name', 'new name'],
    ]);
    expect((await diff(folder, root, next))[0]?.diff).toMatch(
      /^@@ -1,3 \+1,3 @@\n one\n two\n-three\n\+four/,
    );
    expect(await diff(folder, next, merge)).toEqual([]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
