import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Candidate } from '../../src/core/candidate.ts';
import { digestBytes } from '../../src/core/digest.ts';
import { createEntry, emptyLock, type Lock, parseLock, renderLock, withEntry } from '../../src/core/lock.ts';
import { parseProject } from '../../src/core/project.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import { openScratch, type Scratch, writeLauncher } from '../steps/project.ts';
import { runCdl, startCdl } from './run-cdl.ts';

describe('cdl init', () => {
  let folder: string;
  let env: NodeJS.ProcessEnv;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-init-'));
    env = { PATH: process.env.PATH, HOME: folder, GIT_CONFIG_NOSYSTEM: '1' };
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const cdl = (...args: string[]) => runCdl(args, { cwd: folder, env });

  it('says how to get into the project only from elsewhere', async () => {
    const said = await cdl('init', 'fashion', 'shop');
    expect(said.stdout).toContain('  cd shop\n');
    await rm(join(folder, 'shop'), { recursive: true });
    const here = await cdl('init', 'fashion', '.');
    expect(here.stdout).toMatch(/Next:\n {2}cdl ingest/);
  });

  it('makes a committed project that git alone can go on with, also where nobody told git a name', async () => {
    const said = await cdl('init', 'fashion', 'shop', '--validator', 'vera', 'max', '--json');
    expect(said.code, said.stderr).toBe(0);
    const root = join(folder, 'shop');
    expect(JSON.parse(said.stdout)).toEqual({
      folder: root,
      files: ['.gitattributes', '.gitignore', '.gitlab-ci.yml', 'README.md', 'cdl.yaml', 'model.ts'],
      validators: ['vera', 'max'],
    });
    const git = async (...args: string[]) =>
      (await run('git', args, { cwd: root, env })).stdout.toString().trim();
    expect(await git('status', '--porcelain')).toBe('');
    expect(await git('branch', '--show-current')).toBe('main');
    expect(await git('rev-list', '--count', 'HEAD')).toBe('1');
    expect(await git('config', 'merge.cdl-lock.driver')).toBe('cdl lock merge %O %A %B');
    const text = await readFile(join(root, 'cdl.yaml'), 'utf8');
    expect(parseProject(text).roles.validator).toEqual(['vera', 'max']);
    expect(text, 'comments stay').toContain('# Read from the default branch only');
    const pipeline = await readFile(join(root, '.gitlab-ci.yml'), 'utf8');
    expect(pipeline).toContain('model: fashion');
    expect(pipeline).not.toContain('__');
  });

  it('takes the components from where it is told, whatever characters that has', async () => {
    await cdl('init', 'fashion', '--components', "git.example.com/$&/$'/kit");
    expect(await readFile(join(folder, 'fashion', '.gitlab-ci.yml'), 'utf8')).toContain(
      "component: git.example.com/$&/$'/kit/train@",
    );
  });

  it('fills an empty clone, and keeps its git folder', async () => {
    await run('git', ['init', '--quiet', join(folder, 'clone')], { env });
    await run('git', ['-C', join(folder, 'clone'), 'remote', 'add', 'origin', 'https://x.invalid/y.git'], {
      env,
    });
    expect((await cdl('init', 'fashion', 'clone')).code).toBe(0);
    const remote = await run('git', ['remote', 'get-url', 'origin'], { cwd: join(folder, 'clone'), env });
    expect(remote.stdout.toString()).toBe('https://x.invalid/y.git\n');
  });

  it('refuses a folder that holds something, and a file of that name, and touches neither', async () => {
    await mkdir(join(folder, 'full'));
    await writeFile(join(folder, 'full', 'thesis.tex'), 'years of work');
    await writeFile(join(folder, 'file'), 'years of work');
    for (const [name, message] of [
      ['full', 'is not empty'],
      ['file', 'is not a folder'],
      ['file/inside', 'cannot be used'],
    ] as const) {
      const said = await cdl('init', 'fashion', name);
      expect(said.code, name).toBe(2);
      expect(said.stderr).toContain(message);
    }
    expect(await readdir(join(folder, 'full'))).toEqual(['thesis.tex']);
    expect(await readFile(join(folder, 'file'), 'utf8')).toBe('years of work');
  });

  it('leaves nothing behind when it fails on the way', async () => {
    const programs = join(folder, 'programs');
    await mkdir(programs);
    await writeFile(
      join(programs, 'git'),
      '#!/bin/sh\n[ "$1" != add ] && exec /usr/bin/env -i PATH="$OLD" git "$@"\necho no space left >&2\nexit 1\n',
    );
    await chmod(join(programs, 'git'), 0o755);
    await mkdir(join(folder, 'empty'));
    env = { ...env, OLD: env.PATH, PATH: `${programs}:${env.PATH}` };
    for (const name of ['new', 'empty']) {
      const said = await cdl('init', 'fashion', name);
      expect(said.code).not.toBe(0);
      expect(said.stderr).toContain('no space left');
    }
    expect((await readdir(folder)).sort()).toEqual(['empty', 'programs']);
    expect(await readdir(join(folder, 'empty'))).toEqual([]);
  });

  it('names the examples it has when it has another', async () => {
    const said = await cdl('init', 'fashoin');
    expect(said.code).toBe(2);
    expect(said.stderr).toMatch(/there is fashion.* did you mean fashion\?/);
    expect(await readdir(folder)).toEqual([]);
  });
});

const digest = (text: string) => digestBytes(Buffer.from(text));
const entry = (model: string, seed: string) => {
  const candidate: Candidate = {
    model,
    code: digest(`code ${seed}`),
    config: digest('config'),
    dataset: digest('dataset'),
    transform: null,
    checkpoint: digest(`checkpoint ${seed}`),
    package: digest(`package ${seed}`),
  };
  return createEntry(candidate, digest(`evaluation ${seed}`), { version: 3, run: digest(`run ${seed}`) });
};
const start: Lock = withEntry(
  withEntry(emptyLock, 'sides', 'production', entry('sides', 'a')),
  'sides',
  'staging',
  entry('sides', 'a'),
);
const set = (lock: Lock, environment: string, seed: string) =>
  renderLock(withEntry(lock, 'sides', environment, entry('sides', seed)));

describe('cdl lock and cdl status', () => {
  let scratch: Scratch;
  beforeAll(async () => {
    scratch = await openScratch();
    const programs = await writeLauncher(join(scratch.root, '..'), packageRoot());
    scratch.env.PATH = `${programs}:${scratch.env.PATH}`;
    await scratch.write({ 'cdl.lock': renderLock(start), '.gitattributes': 'cdl.lock merge=cdl-lock\n' });
    await scratch.git('add', '--all');
    await scratch.git('commit', '--quiet', '--message', 'lock');
    await scratch.git('config', 'merge.cdl-lock.driver', 'cdl lock merge %O %A %B');
  });
  afterAll(() => scratch.remove());
  const cdl = (...args: string[]) => runCdl(args, { cwd: scratch.root, env: scratch.env });

  /** Two branches that change the lock, and what git makes of them. */
  async function merge(ours: string, theirs: string) {
    await scratch.git('checkout', '--quiet', '--force', '-B', 'ours', 'main');
    await scratch.write({ 'cdl.lock': ours });
    await scratch.git('commit', '--quiet', '--all', '--message', 'ours');
    await scratch.git('checkout', '--quiet', '-B', 'theirs', 'main');
    await scratch.write({ 'cdl.lock': theirs });
    await scratch.git('commit', '--quiet', '--all', '--message', 'theirs');
    await scratch.git('checkout', '--quiet', 'ours');
    const merged = await run('git', ['merge', '--no-edit', 'theirs'], {
      cwd: scratch.root,
      env: scratch.env,
    });
    const text = await readFile(join(scratch.root, 'cdl.lock'), 'utf8');
    if (merged.code !== 0) await scratch.git('merge', '--abort');
    return { ok: merged.code === 0, text, said: merged.stdout.toString() + merged.stderr.toString() };
  }

  it('show and verify say what is there', async () => {
    const shown = JSON.parse((await cdl('lock', 'show', '--json')).stdout);
    expect(shown.entries).toMatchObject([
      { model: 'sides', environment: 'production', info: { version: 3 } },
      { model: 'sides', environment: 'staging' },
    ]);
    expect((await cdl('lock', 'show')).stdout).toContain('sides.production  version 3');
    expect((await cdl('lock', 'verify')).stdout).toBe('cdl.lock: 2 entries, each the digest of its lines\n');
  });

  it('verify refuses an entry in which one digest was exchanged, and says where', async () => {
    const text = renderLock(start);
    await scratch.write({ 'cdl.lock': text.replace(digest('code a'), digest('code b')) });
    const said = await cdl('lock', 'verify');
    await scratch.write({ 'cdl.lock': text });
    expect(said.code).toBe(6);
    expect(said.stderr).toMatch(/cdl\.lock:\d+:\d+ {2}sides\.production says candidate/);
  });

  it("merge, as git's own merge driver, takes whole entries from both sides", async () => {
    const merged = await merge(set(start, 'production', 'b'), set(start, 'staging', 'c'));
    expect(merged.ok, merged.said).toBe(true);
    const lock = parseLock(merged.text);
    expect(lock.models.sides!.production).toEqual(entry('sides', 'b'));
    expect(lock.models.sides!.staging).toEqual(entry('sides', 'c'));
  });

  it('merge leaves a conflict to people when both sides changed one entry, and never a mixture', async () => {
    const other = withEntry(start, 'sides', 'staging', entry('sides', 'd'));
    const merged = await merge(set(start, 'production', 'b'), set(other, 'production', 'c'));
    expect(merged.ok).toBe(false);
    expect(merged.said).toContain('both sides changed sides.production');
    expect(parseLock(merged.text).models.sides!.production).toEqual(entry('sides', 'b'));
    // What theirs alone changed is not lost to who keeps the file.
    expect(parseLock(merged.text).models.sides!.staging).toEqual(entry('sides', 'd'));
  });

  it('doctor says in a clone, which brings no settings along, how git is to merge it', async () => {
    expect((await cdl('doctor')).stdout).toMatch(/^✓ lock merge +git merges cdl.lock by whole entries$/m);
    const clone = join(scratch.root, '..', 'clone');
    await scratch.git('clone', '--quiet', scratch.root, clone);
    const said = await runCdl(['doctor'], { cwd: clone, env: scratch.env });
    expect(said.code, said.stdout).toBe(0);
    const [, command] = /^· lock merge .*\n +→ git config (\S+ '.*')$/m.exec(said.stdout)!;
    expect(command).toBe("merge.cdl-lock.driver 'cdl lock merge %O %A %B'");
  });

  it('merge takes exactly three files', async () => {
    for (const files of [[], ['a'], ['a', 'b'], ['a', 'b', 'c', 'd']]) {
      expect((await cdl('lock', 'merge', ...files)).code).toBe(2);
    }
  });

  it('status says what the lock has, that nothing is live, and that this checkout is another one', async () => {
    const said = await cdl('status');
    expect(said.code, said.stderr).toBe(0);
    expect(said.stdout).toMatch(
      /sides\.production\n {2}lock {3}version 3, candidate \w+\n {2}live {3}nothing\n {2}next {3}code or/,
    );
    const { models } = JSON.parse((await cdl('status', '--json')).stdout);
    expect(models).toMatchObject([{ model: 'sides', codeChanged: true, live: null, liveKnown: true }]);
  });

  it('status --drift says what does not agree, and exits with the code of damage', async () => {
    const said = await cdl('status', '--drift', '--json');
    expect(said.code, said.stderr).toBe(6);
    const { drift } = JSON.parse(said.stdout);
    const found = drift.map((one: { what: string }) => one.what).join('\n');
    expect(found).toContain('version 3 of cdl.lock is not in the registry');
    expect(found).toContain('nothing is live');
    const { stdout } = await cdl('status', '--drift');
    expect(stdout).toContain('things do not agree.');
    expect(stdout).toContain('sides.production: version 3 of cdl.lock is not in the registry\n  next ');
  });

  it('status admits what it cannot know', async () => {
    const said = await runCdl(['status'], { cwd: scratch.root, env: { ...scratch.env, CI: 'true' } });
    expect(said.stdout).toContain('unknown (no access to the trusted zone from here)');
  });
});

describe('cdl serve', () => {
  let scratch: Scratch;
  let packaged: string;
  beforeAll(async () => {
    scratch = await openScratch();
    for (const step of ['ingest', 'train', 'package']) {
      const said = await runCdl([step, '--json'], { cwd: scratch.root, env: scratch.env });
      if (said.code !== 0) throw new Error(said.stderr);
      packaged = JSON.parse(said.stdout).outputs.package;
    }
  });
  afterAll(() => scratch.remove());

  it('answers both protocols with a package that the steps made, and ends with 0 on SIGTERM', async () => {
    const options = { cwd: scratch.root, env: scratch.env };
    const { child, said, ended } = startCdl(['serve', packaged, '--port', '0', '--json'], options);
    const ready = new Promise<{ url: string }>((resolve, reject) => {
      child.stdout.on('data', () => said.stdout.includes('\n') && resolve(JSON.parse(said.stdout)));
      child.on('exit', () => reject(new Error(said.stderr)));
    });
    try {
      const { url } = await ready;
      const bright = Array.from({ length: 16 }, (_, pixel) => (pixel % 4 < 2 ? 230 : 10));
      const post = async (path: string, body: unknown) => {
        const response = await fetch(`${url}${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });
        expect(response.status, path).toBe(200);
        return (await response.json()) as Record<string, unknown>;
      };
      const input = { name: 'input', shape: [1, 4, 4], datatype: 'UINT8', data: bright };
      const v2 = await post('/v2/models/sides/infer', { inputs: [input] });
      const outputs = v2.outputs as { name: string; data: unknown[] }[];
      expect(outputs.find((one) => one.name === 'label')!.data).toEqual([
        expect.stringMatching(/^(left|right)$/),
      ]);
      const v1 = await post('/api/v1.0/predictions', {
        data: { tensor: { shape: [1, 4, 4], values: bright } },
      });
      expect(JSON.stringify(v1)).toContain('left');
    } finally {
      child.kill('SIGTERM');
    }
    expect((await ended).code, said.stderr).toBe(0);
  });

  it('says what it wants when nothing is named', async () => {
    const said = await runCdl(['serve'], { cwd: scratch.root, env: scratch.env });
    expect([said.code, said.stderr]).toEqual([2, expect.stringContaining('name a package, or --model')]);
    const none = await runCdl(['serve', '--model', 'sides'], { cwd: scratch.root, env: scratch.env });
    expect([none.code, none.stderr]).toEqual([3, expect.stringContaining('no entry sides.production')]);
  });
});
