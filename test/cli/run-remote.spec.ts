import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exitOf } from '../../src/cli/follow.ts';
import { openLogLines } from '../../src/cli/log-lines.ts';
import { parseRemote, runBranches } from '../../src/cli/remote.ts';
import { runHere } from '../../src/cli/run.ts';
import { runs } from '../../src/cli/runs.ts';
import { createCiEngine } from '../../src/sandbox/ci/engine.ts';
import type { Runner } from '../../src/sandbox/runner/run.ts';
import { anyRunner, ownRunner } from '../sandbox/ci-server.ts';
import { openRig, type Rig } from '../sandbox/forge-rig.ts';
import { tinyConfig } from '../steps/project.ts';
import { call } from './in-process.ts';

const made = `sha256:${'5'.repeat(64)}`;

let rig: Rig;
let runner: Runner;
let clone: string;
beforeAll(async () => {
  rig = await openRig({
    engine: (world) =>
      createCiEngine(world, { runners: [anyRunner], path: process.env.PATH ?? '', holdMs: 2000 }),
  });
  runner = await ownRunner(rig.sandbox.world);
  clone = await rig.clone('developer');
  await rig.git(clone, 'remote', 'set-url', 'origin', `${rig.sandbox.url}/team/demo.git`);
  await write({ 'cdl.yaml': tinyConfig(), '.gitignore': '.cdl/\n' });
});
afterAll(async () => {
  await runner.stop();
  await rig.close();
});

async function write(files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) await writeFile(join(clone, path), text);
}

/** A pipeline as the starter's, for cdl_task: train alone, of one job. */
const pipelineOf = (script: string) => `spec:
  inputs:
    cdl_task: { default: push }
---
workflow:
  rules:
    - if: '"$[[ inputs.cdl_task ]]" == "train" && $CI_COMMIT_BRANCH != $CI_DEFAULT_BRANCH'
train:
  script:
${script
  .split('\n')
  .map((line) => `    - ${JSON.stringify(line)}`)
  .join('\n')}
  artifacts: { paths: [.cdl] }
`;

interface Told {
  pipeline: string;
  state: string;
  commit: string;
  runs: string[];
}

function cdl(command: typeof runHere, args: (string | string[])[], options: object, console: object = {}) {
  const env = { ...rigEnv(), CDL_FORGE_TOKEN: rig.people.developer.token.token };
  return call<Told>(command, { cwd: clone, env }, args, { to: 'origin', ...options }, console);
}
const rigEnv = (): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  HOME: rig.folder,
  GIT_CONFIG_NOSYSTEM: '1',
});
async function branches(): Promise<number> {
  const { json } = await rig.call('developer', 'GET', `/projects/${rig.project.id}/repository/branches`);
  return (json as { name: string }[]).filter(({ name }) => name.startsWith(runBranches)).length;
}
const pipelines = () => rig.project.pipelines.size;

describe('cdl run --remote', () => {
  it('runs what was never committed on the runners, shows the log as it grows, and leaves no branch', async () => {
    const lines: string[] = [];
    const shares: number[] = [];
    await write({
      'new.txt': 'never committed\n',
      '.gitlab-ci.yml': pipelineOf(
        `cat new.txt\necho "epoch 1 of 2, loss 0.5; 50 %" | tr ';' ':'\nmkdir .cdl\necho '{"run": "${made}"}' > .cdl/sides.train.outputs.json`,
      ),
    });
    const head = await rig.git(clone, 'rev-parse', 'HEAD');
    const index = await readFile(join(clone, '.git', 'index'), 'base64');
    const said = await cdl(
      runHere,
      [],
      { remote: true },
      {
        log: (line: string) => lines.push(line),
        progress: (_: string, share: number) => shares.push(share),
      },
    );
    expect([said.code, said.value?.state], `${said.text}\n${lines.join('\n')}`).toEqual([0, 'success']);
    expect(lines).toContain('train │ never committed');
    expect(shares).toContain(0.5);
    expect(said.value.runs).toEqual([made]);
    expect(await branches()).toBe(0);
    expect(pipelines()).toBe(1);
    expect(await rig.git(clone, 'rev-parse', 'HEAD')).toBe(head);
    expect(await readFile(join(clone, '.git', 'index'), 'base64')).toBe(index);
  });

  it('ends with the exit code of the job that failed', async () => {
    await write({ '.gitlab-ci.yml': pipelineOf('echo no good\nexit 6') });
    const said = await cdl(runHere, [], { remote: true });
    expect([said.code, said.value.state]).toEqual([6, 'failed']);
    expect(await branches()).toBe(0);
  });

  it('lets the pipeline go on when it is stopped, says how to follow it again, and tidies up then', async () => {
    const go = join(rig.folder, 'go');
    await write({
      '.gitlab-ci.yml': pipelineOf(`echo waiting\nwhile [ ! -e ${go} ]; do sleep 0.1; done\necho went on`),
    });
    const stop = new AbortController();
    const stopped = await cdl(
      runHere,
      [],
      { remote: true },
      {
        signal: stop.signal,
        log: (line: string) => line === 'train │ waiting' && stop.abort(),
      },
    );
    const [, again] = /cdl runs follow (\d+)/.exec(stopped.text)!;
    expect(stopped.code).toBe(130);
    expect(await branches()).toBe(1);
    await writeFile(go, '');
    const lines: string[] = [];
    const said = await cdl(runs, ['follow', [again!]], {}, { log: (line: string) => lines.push(line) });
    expect([said.code, said.value.state], lines.join('\n')).toEqual([0, 'success']);
    expect(lines).toContain('train │ went on');
    expect(await branches()).toBe(0);
  });

  it('says what is missing: a token, a remote, a pipeline that takes the task', async () => {
    await write({ '.gitlab-ci.yml': 'train: { script: [echo hello] }\n' });
    expect((await cdl(runHere, [], { remote: true })).text).toMatch(/cdl_task/);
    expect(await branches()).toBe(0);
    expect((await cdl(runHere, [], { remote: true, to: 'elsewhere' })).text).toContain('no remote elsewhere');
    const bare = await call(runHere, { cwd: clone, env: rigEnv() }, [], { remote: true, to: 'origin' });
    expect([bare.code, bare.text]).toEqual([2, expect.stringContaining('CDL_FORGE_TOKEN is not set')]);
    expect((await cdl(runs, ['follow', ['4711']], {})).text).toContain('4711 is no pipeline of this project');
  });
});

describe('the log of a job', () => {
  it('is shown as plain lines, whatever a terminal would make of it and wherever the pieces end', () => {
    const log = [
      'section_start:1700000000:step_script\r\x1b[0K\x1b[0;m\x1b[32;1m$ cdl train\x1b[0;m',
      '2026-01-02T03:04:05.123456Z 01O epoch 1: loss 0.5',
      ' 10 %\r 20 %\r\x1b[K 30 %',
      'title \x1b]0;owned\x07and \u202ebidi',
      'ö',
    ].join('\n');
    const bytes = Buffer.from(log);
    const wanted = ['$ cdl train', 'epoch 1: loss 0.5', ' 30 %', 'title and bidi', 'ö'];
    for (const piece of [1, 7, bytes.length]) {
      const lines = openLogLines();
      const seen: string[] = [];
      for (let at = 0; at < bytes.length; at += piece)
        seen.push(...lines.push(bytes.subarray(at, at + piece)));
      expect([...seen, ...lines.end()]).toEqual(wanted);
      expect(lines.size).toBe(bytes.length);
    }
  });

  it('tells the exit code, and a pipeline that failed without one may be tried again', () => {
    expect(exitOf('success', [])).toBe(0);
    expect(exitOf('canceled', [{ exit: 1 }])).toBe(130);
    expect(exitOf('failed', [{ exit: 3 }, { exit: 4 }])).toBe(3);
    expect(exitOf('failed', [{ exit: null }])).toBe(75);
  });
});

describe('the URL of a git remote', () => {
  it.each([
    ['https://gitlab.example.com/acme/fashion.git', 'https://gitlab.example.com', 'acme/fashion'],
    ['http://ada:secret@localhost:8929/a/b/c', 'http://localhost:8929', 'a/b/c'],
    ['git@gitlab.example.com:acme/fashion.git', 'https://gitlab.example.com', 'acme/fashion'],
    ['ssh://git@gitlab.example.com:2222/acme/fashion.git', 'https://gitlab.example.com', 'acme/fashion'],
  ])('%s names server and project', (url, server, path) => {
    expect(parseRemote(url)).toEqual({ server, path });
  });

  it('that is a path names none', () => {
    for (const url of ['/srv/git/fashion.git', '../fashion', 'file:///srv/git/fashion.git', 'C:/fashion']) {
      expect(parseRemote(url)).toBeNull();
    }
  });
});
