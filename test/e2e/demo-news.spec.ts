import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';

const root = packageRoot();
const cli = join(root, 'bin', 'cdl.js');
const archive = resolve(process.env.CDL_SHARED ?? join(root, '../shared'), 'data/bbc/bbc-fulltext.zip');
const why = !process.env.CDL_DEMO_NEWS
  ? 'CDL_DEMO_NEWS is not set'
  : existsSync(archive)
    ? null
    : `${archive} is not here`;
const python = process.env.CDL_TORCH;
const whyNoTorch = why ?? (python ? null : 'CDL_TORCH, a Python with torch and onnx, is not set');

/** What the demo passed, a line each. */
async function milestonesOf(demo: string, env: NodeJS.ProcessEnv) {
  const { stdout, stderr, code } = await run(process.execPath, [cli, 'demo', demo, '--json'], { env });
  expect(code, `${stdout}${stderr}`).toBe(0);
  const lines = stdout.toString().trimEnd().split('\n');
  const milestones = lines.map((line) => JSON.parse(line) as { milestone: string; [field: string]: unknown });
  const of = (name: string) => milestones.find((one) => one.milestone === name)!;
  return { names: milestones.map((one) => one.milestone), of };
}

/** The network is no worse than naive Bayes, and served answers are those of its evaluation, item by item. */
function expectRightAnswers(of: (milestone: string) => Record<string, unknown>): void {
  const compared = of('compared');
  expect(Number(compared.network)).toBeGreaterThanOrEqual(Number(compared.naive_bayes));
  expect(of('predicted')).toMatchObject({
    v2: 200,
    seldon: 200,
    right: compared.network,
    own_text: 'sport',
  });
}

it.skipIf(why !== null)(
  `the news demo goes from a push to an answer, no worse than naive Bayes${why ? ` (skipped: ${why})` : ''}`,
  { timeout: 900_000 },
  async () => {
    const { names, of } = await milestonesOf('news', { ...process.env, TZ: 'UTC' });
    expect(names).toEqual([
      ...['pushed', 'pipeline', 'registered', 'evaluated', 'reported', 'compared'],
      ...['approved', 'merged', 'deployed', 'predicted', 'labelled', 'done'],
    ]);
    expectRightAnswers(of);
    // One article has two opinions at the end; the slip was corrected, so one more has a label than before.
    const labelled = of('labelled');
    expect(labelled.labelled).toBe(Number(labelled.items) - 1);
    expect(labelled.labelled_before).toBe(Number(labelled.items) - 2);
    expect(of('done')).toMatchObject({ undocumented_requests: 0 });
  },
);

it.skipIf(whyNoTorch !== null)(
  `the same network in PyTorch goes the same way, from a push to ONNX that answers${whyNoTorch ? ` (skipped: ${whyNoTorch})` : ''}`,
  { timeout: 900_000 },
  async () => {
    const bin = await mkdtemp(join(tmpdir(), 'cdl-python-'));
    try {
      // The environment has a python3, whatever the one that CDL_TORCH names is called.
      await writeFile(join(bin, 'python3'), `#!/bin/sh\nexec '${python}' "$@"\n`, { mode: 0o755 });
      const env = { ...process.env, TZ: 'UTC', PATH: `${bin}:${process.env.PATH}` };
      const { names, of } = await milestonesOf('news-torch', env);
      expect(names).toEqual([
        ...['pushed', 'pipeline', 'registered', 'evaluated', 'reported', 'compared'],
        ...['approved', 'merged', 'deployed', 'predicted', 'done'],
      ]);
      expectRightAnswers(of);
      expect(of('done')).toMatchObject({ undocumented_requests: 0 });
    } finally {
      await rm(bin, { recursive: true, force: true });
    }
  },
);

it('the demo says plainly when the articles cannot be had, and which demos there are', async () => {
  const env = {
    ...process.env,
    CDL_SHARED: '/nowhere',
    CDL_CACHE: '/nowhere',
    HTTPS_PROXY: '',
    https_proxy: '',
  };
  const unknown = await run(process.execPath, [cli, 'demo', 'weather'], { env });
  expect(unknown.code).toBe(2);
  expect(unknown.stderr.toString()).toContain('there is fashion, news, news-torch, tune');
  const missing = await run(process.execPath, [cli, 'demo', 'news', '--data', '/nowhere/bbc.zip'], { env });
  expect(missing.code).toBe(3);
  expect(missing.stderr.toString()).toContain('there is no /nowhere/bbc.zip');
});
