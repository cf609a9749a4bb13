import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHistory, type History } from '../../src/forge/git-history.ts';
import { type ObjectReader, openObjects } from '../../src/forge/git-objects.ts';

let folder: string;
let objects: ObjectReader;
let history: History;
let commits: string[];

const git = (args: readonly string[], input = ''): string =>
  execFileSync('git', args, { cwd: folder, input, encoding: 'utf8' }).trim();

/** Commits of a history that branches and merges; the last two have no ancestor in common with the others. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cdl-history-'));
  git(['init', '-q', '--bare']);
  let random = 7;
  const below = (limit: number) => {
    random = (random * 48271) % 2147483647;
    return random % limit;
  };
  const lines: string[] = [];
  for (let at = 1; at <= 60; at++) {
    // Some in the same second.
    lines.push(
      `commit refs/heads/c${at}`,
      `mark :${at}`,
      `committer t <t@example.com> ${1e9 + (at >> 1)} +0000`,
    );
    lines.push('data 1', 'x');
    const last = at <= 58 ? at - 1 : at === 60 ? 1 : 0;
    if (last > 0) {
      const parents =
        at <= 58 ? [at - 1 - below(Math.min(last, 6)), at - 1 - below(Math.min(last, 9))] : [59];
      const [first, second] = parents as [number, number?];
      lines.push(`from :${first}`);
      if (second !== undefined && second !== first && below(3) === 0) lines.push(`merge :${second}`);
    }
    lines.push('');
  }
  git(['fast-import', '--quiet'], `${lines.join('\n')}\n`);
  const names = git(['for-each-ref', '--format=%(refname:short) %(objectname)']).split('\n');
  const byName = new Map(names.map((line) => line.split(' ') as [string, string]));
  commits = Array.from({ length: 60 }, (_, at) => byName.get(`c${at + 1}`)!);
  objects = openObjects(folder, { PATH: process.env.PATH ?? '' });
  history = createHistory(objects);
});
afterAll(() => {
  objects.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('the common ancestor of two commits', () => {
  it('is the one that git finds, wherever there is only one that is best', async () => {
    let walked = 0;
    for (let a = 0; a < 60; a += 5) {
      for (let b = 1; b < 60; b += 9) {
        const base = await history.mergeBase(commits[a]!, commits[b]!);
        const all = execFileSync('git', ['merge-base', '--all', commits[a]!, commits[b]!], {
          cwd: folder,
          encoding: 'utf8',
        });
        const expected = all.trim().split('\n');
        if (base === undefined) expect(expected.length).toBeGreaterThan(1);
        else {
          walked++;
          expect([base]).toEqual(expected);
        }
      }
    }
    expect(walked).toBeGreaterThan(50);
  });

  it('is null where there is none, and left to git where a commit is not there', async () => {
    expect(await history.mergeBase(commits[3]!, commits[59]!)).toBeNull();
    expect(await history.mergeBase(commits[3]!, 'a'.repeat(40))).toBeUndefined();
    expect(await history.mergeBase(commits[3]!, commits[3]!)).toBe(commits[3]);
  });
});
