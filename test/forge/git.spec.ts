import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { type Mirror, openMirror } from '../../src/forge/git.ts';
import { openObjects } from '../../src/forge/git-objects.ts';

let folder: string;
let remote: string;
let work: string;
let mirror: Mirror;
const author = { name: 'bot', email: 'bot@example.com' };

const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();

function commitFile(path: string, text: string, branch: string): string {
  writeFileSync(join(work, path), text);
  git(work, 'add', '-A');
  git(work, 'commit', '-qm', `change ${path}`);
  git(work, 'push', '-q', 'origin', `HEAD:${branch}`);
  return git(work, 'rev-parse', 'HEAD');
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cdl-mirror-'));
  remote = join(folder, 'remote.git');
  work = join(folder, 'work');
  git(folder, 'init', '-q', '--bare', '-b', 'main', remote);
  git(folder, 'init', '-q', '-b', 'main', work);
  git(work, 'remote', 'add', 'origin', remote);
  commitFile('model.ts', 'export {}\n', 'main');
  mirror = await openMirror({
    folder: join(folder, 'mirror'),
    access: { url: remote, header: 'Authorization: Basic eA==' },
    path: process.env.PATH ?? '',
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a mirror of the repository', () => {
  it('reads trees, files and code digests of any commit, fetching what it lacks', async () => {
    const head = commitFile('.hidden', 'x', 'main');
    expect((await mirror.readTree(head)).map((file) => file.path)).toEqual(['.hidden', 'model.ts']);
    expect(await mirror.readFile(head, 'model.ts')).toBe('export {}\n');
    expect(await mirror.readFile(head, 'absent')).toBeNull();
    expect(await mirror.codeFiles(head, ['*'])).toEqual([
      { path: '.hidden', mode: '100644', digest: digestBytes('x') },
      { path: 'model.ts', mode: '100644', digest: digestBytes('export {}\n') },
    ]);
  });

  it('never shows a commit before the files that came with it', async () => {
    const mirrored = join(folder, 'mirror');
    const reader = openObjects(mirrored, { PATH: process.env.PATH ?? '' });
    // Names of files in many folders: as many trees to bring, all after the commit.
    for (let n = 0; n < 40; n++) {
      mkdirSync(join(work, `many/${n}`), { recursive: true });
      writeFileSync(join(work, `many/${n}/file`), `${n}`);
    }
    const head = commitFile('last', 'x', 'main');
    const tree = git(work, 'rev-parse', 'HEAD:many/39');
    const loose = () => git(mirrored, 'count-objects');
    const before = loose();
    let there = false;
    const fetched = mirror.fetch().finally(() => {
      there = true;
    });
    while (!there && !(await reader.read(head))) await new Promise(setImmediate);
    expect((await reader.read(tree))?.type).toBe('tree');
    await fetched;
    reader.close();
    expect(loose()).toBe(before);
    git(work, 'rm', '-rqf', 'many', 'last');
    commitFile('.hidden', 'x', 'main');
  });

  it('puts one commit on top of exactly the parent, and none when the bytes are there', async () => {
    const parent = git(work, 'rev-parse', 'HEAD');
    const commit = { branch: 'main', parent, files: { 'cdl.lock': 'version: 1\n' }, message: 'lock', author };
    expect(await mirror.fastForward(commit)).toBe('pushed');
    const head = await mirror.head('main');
    expect(git(remote, 'rev-parse', 'main^')).toBe(parent);
    expect(git(remote, 'log', '-1', '--format=%an %s', 'main')).toBe('bot lock');
    expect(await mirror.fastForward(commit)).toBe('same');
    expect(await mirror.head('main')).toBe(head);
    expect(await mirror.codeFiles(head!, ['**'])).toHaveLength(2);
    expect(git(join(folder, 'mirror'), 'for-each-ref', 'refs/cdl')).toBe('');
  });

  it('leaves a branch alone that moved', async () => {
    const parent = git(work, 'rev-parse', 'HEAD');
    const commit = { branch: 'main', parent, files: { 'cdl.lock': 'other\n' }, message: 'lock', author };
    const before = await mirror.head('main');
    expect(await mirror.fastForward(commit)).toBe('moved');
    expect(await mirror.head('main')).toBe(before);
  });

  it('makes a branch once', async () => {
    const commit = git(work, 'rev-parse', 'HEAD');
    await mirror.ensureBranch('cdl/revert', commit);
    await mirror.ensureBranch('cdl/revert', (await mirror.head('main'))!);
    expect(await mirror.head('cdl/revert')).toBe(commit);
  });
});
