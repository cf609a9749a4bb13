import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCommit, resolveRef, updateRef } from '../../src/sandbox/git.ts';
import { commitActions, type TreeAction } from '../../src/sandbox/git-merge.ts';

let repository: string;
const git = (...args: string[]): string =>
  execFileSync('git', args, {
    cwd: repository,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();

const author = { name: 'Änne <x>', email: 'a@example.com', date: '2026-01-02T03:04:05.678+05:30' };
const by = { name: 'bot', email: 'b@example.com', date: '2026-01-02T03:04:05Z' };
const commit = (base: string | null, ...actions: TreeAction[]) =>
  commitActions(repository, base, actions, { message: 'one', author, by });
const create = (path: string, executable = false): TreeAction => ({
  action: 'create',
  path,
  content: Buffer.from([0xff, 0x0a, 0x22]),
  executable,
});

/** Mode and path of a line of `git ls-tree`. */
const shown = (line: string): string => line.replace(/ blob \w+\t/, ' ');

let first: string;
beforeAll(async () => {
  repository = mkdtempSync(join(tmpdir(), 'cdl-git-write-'));
  git('init', '-q', '--bare');
  first = await commit(null, create('a/"b" \\ ä.bin'), create('run.sh', true), create('left'));
});
afterAll(() => rmSync(repository, { recursive: true, force: true }));

describe('a commit by the API', () => {
  it('has the files, modes, people and times it was given, and leaves no ref behind', async () => {
    expect(git('ls-tree', '-r', '-z', first).split('\0').map(shown)).toEqual([
      '100644 a/"b" \\ ä.bin',
      '100644 left',
      '100755 run.sh',
      '',
    ]);
    expect(await readCommit(repository, first)).toMatchObject({
      parents: [],
      author: { name: 'Änne x', date: '2026-01-02T03:04:05+05:30' },
      committer: { name: 'bot' },
      message: 'one\n',
    });
    expect(git('for-each-ref')).toBe('');
  });

  it('moves, removes and changes files one after the other', async () => {
    const next = await commit(
      first,
      { action: 'move', path: 'moved', previousPath: 'run.sh', content: null },
      { action: 'delete', path: 'left' },
      { action: 'chmod', path: 'a/"b" \\ ä.bin', executable: true },
      create('left/is a folder now'),
      { action: 'update', path: 'left/is a folder now', content: Buffer.from('x'), executable: null },
    );
    expect(git('ls-tree', '-r', '-z', next).split('\0').map(shown)).toEqual([
      '100755 a/"b" \\ ä.bin',
      '100644 left/is a folder now',
      '100755 moved',
      '',
    ]);
    expect(git('cat-file', 'blob', `${next}:left/is a folder now`)).toBe('x');
    expect(git('rev-parse', `${next}^`)).toBe(first);
  });

  it.each([
    ['outside', create('../x'), /path is invalid/],
    ['in .git', create('a/.Git/config'), /path is invalid/],
    ['below a file', create('left/x'), /path is invalid/],
    ['where a folder is', create('a'), /path is invalid/],
    ['over a file', create('left'), /already exists/],
    ['to a file that is not there', { action: 'delete', path: 'x' } as const, /doesn't exist/],
  ])('is refused for what is %s', async (_what, action, message) => {
    await expect(commit(first, action)).rejects.toThrow(message);
  });
});

describe('a ref', () => {
  it('moves from where it is alone, and from nowhere when it is not there', async () => {
    expect(await updateRef(repository, 'refs/heads/x/y', first, null)).toBe(true);
    expect(await updateRef(repository, 'refs/heads/x/y', first, null)).toBe(false);
    const second = await commit(first, create('second'));
    expect(await updateRef(repository, 'refs/heads/x/y', second, second)).toBe(false);
    expect(await updateRef(repository, 'refs/heads/x/y', second, first)).toBe(true);
    expect(git('rev-parse', 'refs/heads/x/y')).toBe(second);
    // A branch where a folder of branches is, and below a branch.
    expect(await updateRef(repository, 'refs/heads/x', first, null)).toBe(false);
    expect(await updateRef(repository, 'refs/heads/x/y/z', first, null)).toBe(false);
    git('pack-refs', '--all');
    expect(await updateRef(repository, 'refs/heads/x/y', first, second)).toBe(true);
    expect(await resolveRef(repository, 'refs/heads/x/y')).toBe(first);
    expect(existsSync(join(repository, 'refs/heads/x/y.lock'))).toBe(false);
  });

  it('is left alone while git has its lock', async () => {
    expect(await updateRef(repository, 'refs/heads/busy', first, null)).toBe(true);
    writeFileSync(join(repository, 'refs/heads/busy.lock'), '');
    expect(await updateRef(repository, 'refs/heads/busy', await commit(first, create('z')), first)).toBe(
      false,
    );
    expect(existsSync(join(repository, 'refs/heads/busy.lock'))).toBe(true);
  });
});
