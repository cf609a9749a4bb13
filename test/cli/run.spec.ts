import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { runHere } from '../../src/cli/run.ts';
import { run } from '../../src/exec/run.ts';
import { mostSnapshots, snapshotRefs, takeSnapshot } from '../../src/exec/snapshot.ts';
import { reproduce } from '../../src/steps/reproduce.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { openScratch, type Scratch } from '../steps/project.ts';
import { call } from './in-process.ts';

let scratch: Scratch;
afterEach(() => scratch.remove());

interface Told {
  commit: string;
  run: string;
  verdict: string;
  steps: { step: string; cached: boolean }[];
}
const cdlRun = () => call<Told>(runHere, { cwd: scratch.root, env: scratch.env }, []);

/** Branch, index with its times, and what git sees of the worktree. */
async function stateOfUser(): Promise<unknown[]> {
  return [
    await scratch.git('rev-parse', 'HEAD'),
    await scratch.git('symbolic-ref', 'HEAD'),
    await readFile(join(scratch.root, '.git', 'index'), 'base64'),
    (await stat(join(scratch.root, '.git', 'index'))).mtimeMs,
    await scratch.git('--no-optional-locks', 'status', '--porcelain'),
  ];
}

describe('cdl run', () => {
  it('trains what was never committed, which cdl reproduce makes again bit by bit', async () => {
    scratch = await openScratch();
    await scratch.write({ 'lib/scale.ts': 'export const scale = 127;\n', 'lib/new.ts': 'export {};\n' });
    await scratch.git('add', 'lib/scale.ts');
    await scratch.write({ 'lib/scale.ts': 'export const scale = 100;\n' });
    const before = await stateOfUser();
    const said = await cdlRun();
    expect([said.code, said.value.verdict], said.text).toEqual([0, 'pass']);
    expect(said.value.steps.map(({ step }) => step)).toEqual(['ingest', 'validate', 'train']);
    expect(await stateOfUser()).toEqual(before);
    expect(await scratch.git('show', `${said.value.commit}:lib/scale.ts`)).toContain('100');

    // A second one is looked up, and the worktree may go.
    const again = await cdlRun();
    expect(await scratch.git('diff', said.value.commit, again.value.commit)).toBe('');
    expect(again.value).toMatchObject({ run: said.value.run, commit: said.value.commit });
    expect(again.value.steps.at(-1)).toMatchObject({ step: 'train', cached: true });
    await scratch.git('update-ref', '-d', `${snapshotRefs}/${said.value.commit}`);
    await scratch.git('checkout', '--quiet', 'HEAD', '--', '.');
    await scratch.git('gc', '--quiet', '--prune=now');
    const asked = { model: '', version: 0, run: said.value.run, environment: 'production', tolerance: 0 };
    const rebuilt = await runStep(reproduce, await scratch.context(), asked);
    expect(rebuilt.outputs.verdict).toBe('bit-identical');
  });

  it('stops at the step that says no, with its report', async () => {
    scratch = await openScratch();
    const config = await readFile(join(scratch.root, 'cdl.yaml'), 'utf8');
    await scratch.write({ 'cdl.yaml': config.replace('min_items: 50', 'min_items: 5000') });
    const said = await cdlRun();
    expect([said.code, said.value.steps.at(-1)?.step, said.value.run]).toEqual([4, 'validate', null]);
    expect(said.text).toContain('5000');
  });
});

describe('a snapshot of a worktree', () => {
  it('is HEAD where nothing differs, the same commit for the same files, and without what git ignores', async () => {
    scratch = await openScratch();
    const head = await scratch.git('rev-parse', 'HEAD');
    expect(await takeSnapshot(scratch.root, scratch.env)).toEqual({
      commit: head,
      isNew: false,
      untracked: [],
    });
    await scratch.write({ 'new.txt': 'new\n', '.cdl/secret': 'ignored\n' });
    const one = await takeSnapshot(scratch.root, scratch.env);
    expect(one).toEqual(await takeSnapshot(scratch.root, scratch.env));
    expect(one).toMatchObject({ isNew: true, untracked: ['new.txt'] });
    expect(await scratch.git('diff', '--name-status', head, one.commit)).toBe('A\tnew.txt');
    expect(await scratch.git('for-each-ref', '--format=%(refname)', snapshotRefs)).toBe(
      `${snapshotRefs}/${one.commit}`,
    );
  });

  it('lets go of the oldest, and never of its own', async () => {
    scratch = await openScratch();
    const names = Array.from({ length: mostSnapshots + 5 }, (_, at) => `${snapshotRefs}/${at}`);
    const head = await scratch.git('rev-parse', 'HEAD');
    const input = names.map((name) => `create ${name} ${head}\n`).join('');
    await run('git', ['update-ref', '--stdin'], { cwd: scratch.root, input });
    await scratch.write({ 'new.txt': 'new\n' });
    const { commit } = await takeSnapshot(scratch.root, scratch.env);
    const kept = (await scratch.git('for-each-ref', '--format=%(refname)', snapshotRefs)).split('\n');
    expect(kept).toHaveLength(mostSnapshots);
    expect(kept).toContain(`${snapshotRefs}/${commit}`);
  });

  it('refuses new files that are data by their weight, naming the largest', async () => {
    scratch = await openScratch();
    // A file with a hole: its size counts, and takes no disk.
    await writeFile(join(scratch.root, 'huge.bin'), '');
    await truncate(join(scratch.root, 'huge.bin'), 300 * 2 ** 20);
    await expect(takeSnapshot(scratch.root, scratch.env)).rejects.toThrow(
      /weigh 300 MiB, the largest is huge.bin/,
    );
  });
});
