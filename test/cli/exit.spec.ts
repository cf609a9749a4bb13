import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { decodeStepFailure } from '../../src/core/step-failure.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import { modelCode, openScratch, type Scratch, tinyConfig, tinyFiles } from '../steps/project.ts';
import { runCdl } from './run-cdl.ts';

let scratch: Scratch;
beforeAll(async () => {
  scratch = await openScratch();
});
afterEach(async () => {
  await scratch.write(tinyFiles());
  await rm(join(scratch.root, 'cdl.lock'), { force: true });
});
afterAll(() => scratch.remove());

interface Case {
  what: string;
  args: string[];
  exit: number;
  code: string;
  message: RegExp;
  files?: Record<string, string | Buffer>;
  env?: NodeJS.ProcessEnv;
}

const digest = `sha256:${'a'.repeat(64)}`;
/** The port of the discard service, where nothing listens. */
const nowhere = 'http://127.0.0.1:9/';

const cases: Case[] = [
  { what: 'an unknown command', args: ['trian'], exit: 2, code: 'usage', message: /did you mean train\?/ },
  ...[
    ['reproduce', '7'],
    ['reproduce', '--version', '7'],
  ].map((args) => ({
    what: `a version that is not there, as cdl ${args.join(' ')} asks for it`,
    args,
    exit: 3,
    code: 'input-missing',
    message: /no version 7 of sides/,
  })),
  {
    what: 'a repository of another user, as GitLab Runner clones it for an image that is not root',
    args: ['train', '--dataset', digest],
    // Git's own way to test this (its t/t0033-safe-directory.sh).
    env: { GIT_TEST_ASSUME_DIFFERENT_OWNER: '1' },
    exit: 3,
    code: 'file-missing',
    message: /git does not read .* because another user owns it$/,
  },
  { what: 'an unknown flag', args: ['train', '--modle', 'x'], exit: 2, code: 'usage', message: /--modle/ },
  {
    what: 'a flag without its value',
    args: ['train', '--model'],
    exit: 2,
    code: 'usage',
    message: /--model/,
  },
  {
    what: 'an argument too many',
    args: ['train', 'a', 'b'],
    exit: 2,
    code: 'usage',
    message: /too many arguments/,
  },
  {
    what: 'a parameter twice',
    args: ['train', 'a', '--model', 'b'],
    exit: 2,
    code: 'usage',
    message: /given twice/,
  },
  {
    what: 'a wrong choice',
    args: ['ingest', '--side', 'both'],
    exit: 2,
    code: 'usage',
    message: /train, test/,
  },
  {
    what: 'a digest that is none',
    args: ['train', '--dataset', 'x'],
    exit: 2,
    code: 'usage',
    message: /takes a digest/,
  },
  { what: 'a missing parameter', args: ['evaluate'], exit: 2, code: 'usage', message: /--candidate/ },
  {
    what: 'a wrong port',
    args: ['serve', '.', '--port', 'x'],
    exit: 2,
    code: 'usage',
    message: /0 to 65535, not x/,
  },
  {
    what: 'an unknown action of lock',
    args: ['lock', 'shwo'],
    exit: 2,
    code: 'usage',
    message: /did you mean show\?/,
  },
  {
    what: 'an unknown model',
    args: ['train', 'side'],
    exit: 3,
    code: 'model-unknown',
    message: /did you mean sides\?/,
  },
  {
    what: 'a step before its time',
    args: ['register'],
    exit: 3,
    code: 'input-missing',
    message: /has not run/,
  },
  {
    what: 'a wrong cdl.yaml, with every problem at its place',
    args: ['train'],
    files: { 'cdl.yaml': tinyConfig().replace('epochs', 'Epochs').replace('test: 0.2', 'tset: 0.2') },
    exit: 3,
    code: 'config-invalid',
    message: /cdl\.yaml:12:.*tset[\s\S]*cdl\.yaml:18:/,
  },
  {
    what: 'a source with another content',
    args: ['ingest'],
    files: { 'data/labels.idx': 'changed' },
    exit: 6,
    code: 'source-mismatch',
    message: /labels\.idx/,
  },
  {
    what: 'a source out of reach',
    args: ['ingest'],
    files: {
      'cdl.yaml': tinyConfig().replace(
        'file: [data/images.idx, data/labels.idx]',
        `https: ["${nowhere}images.idx", "${nowhere}labels.idx"]`,
      ),
    },
    exit: 75,
    code: 'source-unreachable',
    message: /127\.0\.0\.1:9/,
  },
  {
    what: 'a job without the trusted zone',
    args: ['ingest', '--side', 'test'],
    env: { CI: 'true', CDL_WORK_STORE: 'file:///tmp' },
    exit: 5,
    code: 'store-denied',
    message: /CDL_TRUSTED_STORE/,
  },
  {
    what: 'a deployment from a desk',
    args: ['deploy'],
    exit: 5,
    code: 'not-protected',
    message: /runs in CI/,
  },
  {
    what: 'a lock edited by hand',
    args: ['lock', 'verify'],
    files: { 'cdl.lock': 'version: 1\nmodels: {}\nmore: 1\n' },
    exit: 6,
    code: 'lock-invalid',
    message: /more/,
  },
  {
    what: 'a lock with conflict markers',
    args: ['status'],
    files: { 'cdl.lock': '<<<<<<< ours\nversion: 1\n=======\nversion: 1\n>>>>>>> theirs\n' },
    exit: 3,
    code: 'lock-conflict',
    message: /conflict markers/,
  },
  {
    what: 'a package that is nowhere',
    args: ['serve', digest],
    exit: 3,
    code: 'artifact-missing',
    message: /work: not there/,
  },
  {
    what: 'a store that is no store',
    args: ['ingest'],
    env: { CDL_WORK_STORE: 'ftp://example.com/x' },
    exit: 3,
    code: 'config-invalid',
    message: /ftp:/,
  },
];

describe('the exit code', () => {
  it.each(cases)('of $what is $exit', async ({ args, exit, code, message, files = {}, env = {} }) => {
    await scratch.write(files);
    const said = await runCdl([...args, '--json'], { cwd: scratch.root, env: { ...scratch.env, ...env } });
    expect(said.code, said.stdout + said.stderr).toBe(exit);
    const lines = said.stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(1);
    const { error } = JSON.parse(lines[0]!) as { error: Record<string, string> };
    expect(Object.keys(error)).toEqual(['code', 'message', 'hint']);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.hint).toMatch(/\w/);
    // Never the insides of the program for somebody's slip.
    expect(error.message).not.toMatch(/\n\s+at |ZodError|node:internal/);
  });

  it('comes with what is wrong and what to do next, on stderr', async () => {
    await scratch.write({ 'cdl.yaml': tinyConfig().replace('test: 0.2', 'tset: 0.2') });
    const said = await runCdl(['train'], { cwd: scratch.root, env: scratch.env });
    expect(said).toEqual({
      code: 3,
      stdout: '',
      stderr: [
        'cdl: cdl.yaml:12:12  datasets.halves.split.test is missing',
        'cdl.yaml:12:29  datasets.halves.split.tset is not a known key — did you mean test?',
        '  → correct the lines named above and run the command again',
        '',
      ].join('\n'),
    });
  });

  it('of a bot without settings is 2, and the variables it needs are named', async () => {
    const said = await runCdl(['bot'], { cwd: scratch.root, env: scratch.env });
    expect(said.code).toBe(2);
    expect(said.stderr).toMatch(/^not set: CDL_PROJECT, (CDL_\w+, )+CDL_\w+\n[\s\S]*bot\/README\.md/m);
  });

  it('outside a repository says so, and what to do', async () => {
    const { code, stderr } = await runCdl(['train'], { cwd: '/', env: scratch.env });
    expect(code).toBe(3);
    expect(stderr).toMatch(/not in a git repository\n {2}→ .*cdl init fashion/);
  });

  it('of a gate or rule that says no is 4, with the report on stdout', async () => {
    await scratch.write({ 'cdl.yaml': tinyConfig().replace('min_items: 50', 'min_items: 5000') });
    const options = { cwd: scratch.root, env: scratch.env };
    expect((await runCdl(['ingest'], options)).code).toBe(0);
    const said = await runCdl(['validate'], options);
    expect(said.code).toBe(4);
    expect(said.stdout).toContain('at least 5000 items');
  });

  it('of a job comes with a file that tells the bot why, until the step succeeds', async () => {
    const ci = {
      CI: 'true',
      CDL_WORK_STORE: pathToFileURL(join(scratch.root, '.cdl', 'store', 'work')).href,
      CDL_SOURCE_SECRET_KEY: 'do-not-tell-me',
    };
    const options = { cwd: scratch.root, env: { ...scratch.env, ...ci } };
    const path = join(scratch.root, '.cdl', 'failure.json');
    const told = async () => decodeStepFailure(await readFile(path).catch(() => Buffer.alloc(0)));
    expect((await runCdl(['register'], options)).code).toBe(3);
    expect(await told()).toMatchObject({
      step: 'register',
      message: expect.stringContaining('has not run'),
      hint: expect.stringContaining('add its job to needs:'),
    });
    expect((await runCdl(['ingest'], options)).code).toBe(0);
    expect(await told()).toBeNull();
    await scratch.write({ 'cdl.yaml': tinyConfig().replace('min_items: 50', 'min_items: 5000') });
    expect((await runCdl(['validate'], options)).code).toBe(4);
    expect(await told()).toMatchObject({
      step: 'validate',
      message: expect.stringMatching(/5000/),
      hint: null,
    });
    await scratch.write({ 'cdl.yaml': 'do-not-tell-me: 1\n' });
    expect((await runCdl(['validate'], options)).code).toBe(3);
    expect((await told())?.message).toMatch(/is not a known key/);
    expect((await told())?.message).not.toContain('do-not-tell-me');
  });
});

describe('--json', () => {
  it('prints one line for a step, whatever model code prints, and people read the rest on stderr', async () => {
    const options = { cwd: scratch.root, env: scratch.env };
    await scratch.write({ 'model.ts': `console.log('a line of the model');\n${modelCode}` });
    expect((await runCdl(['ingest', '--json'], options)).code).toBe(0);
    const said = await runCdl(['train', 'sides', '--json'], options);
    expect(said.code, said.stderr).toBe(0);
    expect(said.stdout.trimEnd().split('\n')).toHaveLength(1);
    expect(JSON.parse(said.stdout)).toMatchObject({
      step: 'train',
      subject: 'sides',
      cached: false,
      verdict: 'pass',
      outputs: { run: expect.stringMatching(/^sha256:/), checkpoint: expect.stringMatching(/^sha256:/) },
    });
    expect(said.stderr).toContain('a line of the model');
    expect(said.stderr).toContain('epoch 2');
    const again = JSON.parse((await runCdl(['train', '--json'], options)).stdout);
    expect(again).toMatchObject({ cached: true, outputs: JSON.parse(said.stdout).outputs });
  });

  it.each([['status'], ['doctor'], ['lock', 'show'], ['lock', 'verify']])(
    'prints one line for %s %s',
    async (...args) => {
      const said = await runCdl([...args.filter(Boolean), '--json'], { cwd: scratch.root, env: scratch.env });
      expect(said.code, said.stderr).toBe(0);
      expect(said.stdout.trimEnd().split('\n')).toHaveLength(1);
      expect(JSON.parse(said.stdout)).toBeTypeOf('object');
    },
  );
});

describe('doctor', () => {
  it('says of every engine why it is taken or not, and marks no problem on this machine', async () => {
    const said = await runCdl(['doctor'], { cwd: scratch.root, env: scratch.env });
    expect(said.code, said.stdout).toBe(0);
    expect(said.stdout).toMatch(/tfjs-node-gpu: (taken|not installed|installed, but does not load)/);
    expect(said.stdout).toMatch(/wasm: taken \(WebAssembly|tfjs-node(-gpu)?: taken \(native/);
    for (const name of [
      'node',
      'git',
      'project',
      'lock',
      'engine',
      'store work',
      'store trusted',
      'database',
      'decisions',
    ]) {
      expect(said.stdout).toMatch(new RegExp(`^[✓·] ${name} `, 'm'));
    }
    expect(said.stdout).toContain('a folder isolates nothing');
  });

  it('ends with 69 and says what is missing when something needed is broken', async () => {
    const programs = join(scratch.root, '..', 'old');
    await mkdir(programs, { recursive: true });
    await writeFile(
      join(programs, 'git'),
      '#!/bin/sh\n[ "$1" = --version ] && echo "git version 2.20.1" || exec /usr/bin/git "$@"\n',
    );
    await chmod(join(programs, 'git'), 0o755);
    const env = { ...scratch.env, PATH: `${programs}:${scratch.env.PATH}` };
    const said = await runCdl(['doctor'], { cwd: scratch.root, env });
    expect(said.code).toBe(69);
    expect(said.stdout).toMatch(/✗ git +git version 2\.20\.1; 2\.38 or newer is needed/);
  });
});

describe('secrets', () => {
  const secret = 'glpat-s3cr3t+with/special=chars';
  const forms = [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')];

  it.each([
    [
      'a store with the secret in its URL',
      ['ingest'],
      { CDL_WORK_STORE: `ftp://user:${encodeURIComponent(secret)}@x/${secret}` },
    ],
    ['an error message that repeats it', ['train', secret], {}],
    ['the same as JSON', ['train', secret, '--json'], {}],
    ['a flag that is wrong', ['train', `--${secret}`], {}],
    [
      'a database that does not answer',
      ['doctor'],
      { CDL_DATABASE: `postgres://u:${encodeURIComponent(secret)}@127.0.0.1:9/${secret}` },
    ],
    [
      'the same as JSON',
      ['doctor', '--json'],
      { CDL_DATABASE: `postgres://u:${encodeURIComponent(secret)}@127.0.0.1:9/${secret}` },
    ],
    ['a folder that cannot be made', ['ingest'], { CDL_WORK_STORE: `file:///dev/null/${secret}` }],
  ])('are not printed by %s', async (_what, args, more) => {
    const env = { ...scratch.env, CDL_BOT_TOKEN: secret, CDL_WORK_SECRET_KEY: secret, ...more };
    const { code, stdout, stderr } = await runCdl(args, { cwd: scratch.root, env });
    expect(code).not.toBe(0);
    for (const form of forms) expect(stdout + stderr).not.toContain(form);
    expect(stdout + stderr).toContain('[MASKED]');
  });
});

it('ends without a word when nobody reads on', async () => {
  const program = join(packageRoot(), 'bin', 'cdl.js');
  const { stderr, code } = await run('sh', ['-c', '"$0" "$1" --help | true', process.execPath, program], {
    cwd: scratch.root,
    env: scratch.env,
  });
  expect([stderr.toString(), code]).toEqual(['', 0]);
});
