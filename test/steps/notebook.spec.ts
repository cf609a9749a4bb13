import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { UserError } from '../../src/core/error.ts';
import { listRuns } from '../../src/model/runs.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { notebookCommand } from '../../src/train/notebook.ts';
import { onnxFiles } from './onnx-project.ts';
import { openScratch, type Scratch } from './project.ts';

const papermill = process.env.CDL_PAPERMILL;
const all = { dataset: '', model: '', side: 'train' as const };
let scratch: Scratch | null = null;
afterEach(() => scratch?.remove());

const code = (source: string, tags: string[] = []) => ({
  cell_type: 'code',
  execution_count: null,
  metadata: { tags },
  outputs: [],
  source,
});
const notebook = (...cells: object[]) =>
  JSON.stringify({
    cells: [{ cell_type: 'markdown', metadata: {}, source: '# Nearest mean' }, ...cells],
    metadata: { kernelspec: { name: 'python3', display_name: 'Python 3', language: 'python' } },
    nbformat: 4,
    nbformat_minor: 4,
  });

/** The program of the ONNX project, started by a cell. */
const training = code(
  'import os, subprocess\nprint("rate", repr(rate), repr(name), repr(fast))\n' +
    'subprocess.run(["node", "train.mjs"], check=True, env={**os.environ})',
);
const defaults = code('rate = 0.1\nname = ""\nfast = False', ['parameters']);

async function trainBy(text: string) {
  const files = onnxFiles('{ epochs: 1, rate: 1.0e-7, name: "1e3", fast: true }');
  const config = String(files['cdl.yaml'])
    .replace('code: [train.mjs]', 'code: [train.mjs, train.ipynb]')
    .replace('[node, train.mjs], restarts: 1', '[train.ipynb]');
  scratch = await openScratch({ ...files, 'cdl.yaml': config, 'train.ipynb': text });
  const path = [dirname(papermill!), join(process.execPath, '..'), process.env.PATH].join(':');
  const ctx = await scratch.context({ PATH: path });
  await runStep(ingest, ctx, all);
  const work = await ctx.zone('work');
  const keptWith = async (run: Digest) => {
    const [file] = (await work.getArtifact(run)).files;
    return { name: file!.path, text: (await work.readBlob(file!.digest)).toString() };
  };
  return { ctx, work, keptWith };
}

describe.skipIf(!papermill)(
  `a notebook that trains${papermill ? '' : ' (skipped: CDL_PAPERMILL names no papermill, see test/services/papermill.sh)'}`,
  () => {
    it('gets the hyperparameters as what they are, and is kept with the run, with what its cells printed', async () => {
      const { ctx, keptWith } = await trainBy(notebook(defaults, training));
      const { outputs } = await runStep(train, ctx, all);
      const kept = await keptWith(outputs.run as Digest);
      expect(kept.name).toBe('notebook.ipynb');
      expect(kept.text).toContain("rate 1e-07 '1e3' True");
    });

    it('fails with the number of the cell and what it raised, and is kept with the failed run', async () => {
      const bad = code('raise ValueError("no\\x1b[31m good")');
      const { ctx, work, keptWith } = await trainBy(notebook(defaults, code('1 + 1'), bad, training));
      const error = await runStep(train, ctx, all).catch((problem: unknown) => problem);
      expect(error).toBeInstanceOf(UserError);
      expect((error as UserError).message).toMatch(
        /^cell 4 \(In \[\d+\]\) of train\.ipynb failed: ValueError: no.* good$/,
      );
      const [run] = await listRuns(work, 'tiny');
      expect(run!.facts).toMatchObject({ status: 'failed', reason: (error as UserError).message });
      expect((await keptWith(run!.digest)).text).toContain('ValueError');
    });
  },
);

describe('a notebook named as the training command', () => {
  it('must be among the code', async () => {
    const files = onnxFiles();
    const config = String(files['cdl.yaml']).replace('[node, train.mjs]', '[train.ipynb]');
    scratch = await openScratch({ ...files, 'cdl.yaml': config, 'train.ipynb': notebook() });
    const ctx = await scratch.context();
    await runStep(ingest, ctx, all);
    await expect(runStep(train, ctx, all)).rejects.toThrow(
      /train\.ipynb, which is not among the files of code/,
    );
  });

  it('is executed by papermill, with its options, and parameters that cannot be taken for them', () => {
    const command = notebookCommand(
      ['nb/a.ipynb', '--kernel', 'ir'],
      { a: -1, b: '--x', c: false },
      '/out.ipynb',
    );
    expect(command.slice(3)).toEqual([
      '--kernel',
      'ir',
      '-p',
      'a',
      '-1',
      '-r',
      'b',
      '--x',
      '-p',
      'c',
      'False',
      'nb/a.ipynb',
      '/out.ipynb',
    ]);
  });
});
