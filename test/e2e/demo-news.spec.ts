import { existsSync } from 'node:fs';
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

it.skipIf(why !== null)(
  `the news demo goes from a push to an answer, no worse than naive Bayes${why ? ` (skipped: ${why})` : ''}`,
  { timeout: 900_000 },
  async () => {
    const { stdout, stderr, code } = await run(process.execPath, [cli, 'demo', 'news', '--json'], {
      env: { ...process.env, TZ: 'UTC' },
    });
    expect(code, `${stdout}${stderr}`).toBe(0);
    const lines = stdout.toString().trimEnd().split('\n');
    const milestones = lines.map(
      (line) => JSON.parse(line) as { milestone: string; [field: string]: unknown },
    );
    expect(milestones.map((one) => one.milestone)).toEqual([
      ...['pushed', 'pipeline', 'registered', 'evaluated', 'reported', 'compared'],
      ...['approved', 'merged', 'deployed', 'predicted', 'labelled', 'done'],
    ]);
    const of = (name: string) => milestones.find((one) => one.milestone === name)!;
    const compared = of('compared');
    expect(Number(compared.network)).toBeGreaterThanOrEqual(Number(compared.naive_bayes));
    // Served answers are those of the evaluation, item by item.
    expect(of('predicted')).toMatchObject({
      v2: 200,
      seldon: 200,
      right: compared.network,
      own_text: 'sport',
    });
    // One article has two opinions at the end; the slip was corrected, so one more has a label than before.
    const labelled = of('labelled');
    expect(labelled.labelled).toBe(Number(labelled.items) - 1);
    expect(labelled.labelled_before).toBe(Number(labelled.items) - 2);
    expect(of('done')).toMatchObject({ undocumented_requests: 0 });
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
  expect(unknown.stderr.toString()).toContain('there is fashion, news');
  const missing = await run(process.execPath, [cli, 'demo', 'news', '--data', '/nowhere/bbc.zip'], { env });
  expect(missing.code).toBe(3);
  expect(missing.stderr.toString()).toContain('there is no /nowhere/bbc.zip');
});
