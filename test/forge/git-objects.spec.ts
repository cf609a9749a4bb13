import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ObjectReader, openObjects } from '../../src/forge/git-objects.ts';
import { openRefs } from '../../src/forge/git-refs.ts';
import { createTrees } from '../../src/forge/git-trees.ts';
import { createProject, createToken, createUser } from '../../src/sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/server.ts';

let folder: string;
let objects: ObjectReader;
let head: string;
let sandbox: Sandbox;
let repository: string;
let access: { url: string; header: string };
const large = randomBytes(3_000_000);

const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cdl-objects-'));
  const work = join(folder, 'work');
  git(folder, 'init', '-q', '-b', 'main', work);
  mkdirSync(join(work, 'a/b c'), { recursive: true });
  writeFileSync(join(work, 'a/b c/ä.txt'), 'deep\n');
  writeFileSync(join(work, 'a/empty'), '');
  writeFileSync(join(work, 'large.bin'), large);
  writeFileSync(join(work, 'run.sh'), 'true\n', { mode: 0o755 });
  symlinkSync('run.sh', join(work, 'link'));
  git(work, 'add', '-A');
  git(work, 'commit', '-qm', 'start');
  head = git(work, 'rev-parse', 'HEAD');
  objects = openObjects(work, { PATH: process.env.PATH ?? '' });
  sandbox = await startSandbox({ folder: join(folder, 'sandbox') });
  const owner = createUser(sandbox.world, { username: 'olga', name: 'Olga' });
  const project = await createProject(sandbox.world, { namespace: 'acme', path: 'a', owner, from: work });
  repository = project.repository;
  const { token } = createToken(sandbox.world, owner);
  const basic = Buffer.from(`oauth2:${token}`).toString('base64');
  access = { url: `${sandbox.url}/acme/a.git`, header: `Authorization: Basic ${basic}` };
});
afterAll(async () => {
  objects?.close();
  await sandbox?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('objects of a repository', () => {
  it('are listed as git lists them: folders, blanks, other alphabets, links and modes', async () => {
    const files = (await createTrees(objects).files(head))!;
    const listed = git(join(folder, 'work'), 'ls-tree', '-r', '-z', '--full-tree', head);
    const lines = files.map(({ mode, oid, path }) => `${mode} blob ${oid}\t${path}`);
    expect(lines).toEqual(listed.split('\0').filter(Boolean));
  });

  it('are read whole, many at once and in any order, by one process that starts again after its end', async () => {
    const trees = createTrees(objects);
    const files = (await trees.files(head))!;
    const sizes = async () =>
      Promise.all(files.map(async ({ oid }) => (await objects.read(oid))!.bytes.length));
    const first = await sizes();
    objects.close();
    expect(await sizes()).toEqual(first);
    const bytes = await trees.blob(files.find((file) => file.path === 'large.bin')!.oid);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      createHash('sha256').update(large).digest('hex'),
    );
    expect(await objects.read('0'.repeat(40))).toBeNull();
    expect(await objects.read(`${head}\n${head}`)).toBeNull();
    expect(await trees.files('1'.repeat(40))).toBeNull();
    await expect(trees.blob(head)).rejects.toMatchObject({ retryable: true });
  });
});

describe('branches of a remote, asked for over HTTP', () => {
  it('are those of git, also of names that begin alike and after git has packed them', async () => {
    for (const name of ['main-2', 'exp/a', 'exp/a-b'])
      git(repository, 'update-ref', `refs/heads/${name}`, 'main');
    const reader = (await openRefs(access))!;
    for (let pass = 0; pass < 2; pass++) {
      const main = git(repository, 'rev-parse', 'main');
      expect(await reader.heads('')).toEqual(
        new Map(['exp/a', 'exp/a-b', 'main', 'main-2'].map((name) => [name, main])),
      );
      expect([...(await reader.heads('main')).keys()]).toEqual(['main', 'main-2']);
      expect(await reader.heads('none')).toEqual(new Map());
      git(repository, 'pack-refs', '--all');
    }
    const stranger = { ...access, header: 'Authorization: Basic eDp5' };
    await expect(openRefs(stranger)).rejects.toMatchObject({ code: 'forge-denied' });
  });

  it('are left to git where the server speaks an older protocol', async () => {
    const old: Server = createServer((_request, response) => {
      response.end('001e# service=git-upload-pack\n0000');
    });
    await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(old.address() as AddressInfo).port}/acme/a.git`;
    expect(await openRefs({ url, header: 'Authorization: Basic eA==' })).toBeNull();
    old.close();
  });
});
