import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runs } from '../../src/cli/runs.ts';
import { digestBytes } from '../../src/core/digest.ts';
import { runPrefix } from '../../src/model/runs.ts';
import { call, withoutDigests } from './in-process.ts';
import { openRegistryPlace, type RegistryPlace } from './registry-place.ts';

const golden = (name: string) => join(import.meta.dirname, '../golden/runs', name);
const options = { number: '20', format: 'csv' };
const short = (digest: string) => digest.slice(7, 15);

let place: RegistryPlace;
let made: string[];
const cdl = <T = unknown>(args: (string | string[])[], more: object = {}) =>
  call<T>(runs, { cwd: place.scratch.root, env: place.env }, args, { ...options, ...more });

beforeAll(async () => {
  place = await openRegistryPlace();
  const at = (day: number) => `2026-01-0${day}T10:00:00.000Z`;
  const one = await place.version({ seed: 1, accuracy: 0.8, startedAt: at(1) });
  await place.scratch.write({ 'lib/scale.ts': 'export const scale = 127;\n' });
  await place.scratch.git('commit', '--quiet', '--all', '--message', 'another, "scale"');
  const two = await place.train({ seed: 2, accuracy: 0.9, startedAt: at(2), hidden: 8 });
  const reason =
    'the training command ended with exit code 1:\nTraceback:\n  in train.py\n\u001b[31mValueError: no good';
  const bad = await place.train({
    seed: 3,
    accuracy: 0,
    startedAt: at(3),
    more: { status: 'failed', reason, metrics: {}, epochs: [], best_epoch: null },
  });
  made = [one.run, two.run, bad.run];
  // Jobs of any branch may write here: what is no run is passed over.
  const work = await (await place.scratch.context(place.env)).zone('work');
  const stray = digestBytes('no such artifact');
  await work.writeRecord(`${runPrefix('tiny')}${stray.slice(7)}.json`, { run: stray });
});
afterAll(() => place.scratch.remove());

describe('cdl runs', () => {
  it('lists trainings newest first, those that failed with the reason', async () => {
    const said = await cdl<{ count: number; runs: { digest: string; status: string }[] }>(['ls', []]);
    expect(said.value.runs.map(({ digest, status }) => [digest, status])).toEqual([
      [made[2], 'failed'],
      [made[1], 'done'],
      [made[0], 'done'],
    ]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('ls.txt'));
    expect((await cdl(['ls', []], { number: '1' })).text).toContain('and 2 more: --number 3');
  });

  it('shows one with its metrics by epoch, by the beginning of its digest or by its version', async () => {
    const said = await cdl<{ runs: { digest: string }[] }>(['show', [short(made[0]!)]]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('show.txt'));
    expect((await cdl<typeof said.value>(['show', ['v1']])).value.runs[0]!.digest).toBe(made[0]);
    const failed = (await cdl(['show', [short(made[2]!)]])).text;
    expect(failed).toContain('failed: the training command ended with exit code 1\n');
    expect(failed).toMatch(/\n\nthe training command ended with exit code 1:\nTraceback:\n {2}in train.py\n/);
    expect(failed).not.toContain('\u001b');
    expect((await cdl(['show', ['v9']])).text).toContain('sides has no version 9');
    expect((await cdl(['show', ['00000000']])).code).toBe(3);
  });

  it('sets side by side what differs, and nothing else', async () => {
    const said = await cdl<{ values: { name: string; values: unknown[] }[] }>([
      'compare',
      made.slice(0, 2).map(short),
    ]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('compare.txt'));
    const names = said.value.values.map((one) => one.name);
    expect(names).toContain('hyperparameters.hidden');
    expect(names).not.toContain('hyperparameters.epochs');
  });

  it('ranks by a metric, the lowest loss or the highest of others, and never one that failed', async () => {
    type Best = { metric: string; order: string; runs: { run: string; value: number }[] };
    const usual = (await cdl<Best>(['best', []])).value;
    expect([usual.metric, usual.order]).toEqual(['validationAccuracy', 'highest']);
    expect(usual.runs.map(({ run }) => run)).toEqual([made[1], made[0]]);
    const loss = (await cdl<Best>(['best', []], { metric: 'validationLoss', number: '1' })).value;
    expect([loss.order, loss.runs.map(({ run }) => run)]).toEqual(['lowest', [made[1]]]);
    const asWord = (await cdl<Best>(['best', ['validationLoss', short(made[0]!)]])).value;
    expect([asWord.metric, asWord.runs.map(({ run }) => run)]).toEqual(['validationLoss', [made[0]]]);
    for (const wrong of [cdl(['best', []], { metric: 'validationLos' }), cdl(['best', ['validationLos']])])
      expect((await wrong).text).toContain('did you mean validationLoss?');
  });

  it('tells how two differ, down to the files between their commits', async () => {
    const said = await cdl(['diff', made.slice(0, 2).map(short)]);
    await expect(`${withoutDigests(said.text)}\n`).toMatchFileSnapshot(golden('diff.txt'));
    expect(said.value).toMatchObject({ code: ['M lib/scale.ts'], weights: [{ largest: 0.0625 }] });
  });

  it('exports what spreadsheets and programs read back', async () => {
    const wide = parse((await cdl(['export', []])).text, { columns: true }) as Record<string, string>[];
    expect(
      wide.map((row) => [
        row.run,
        row.status,
        row['hyperparameters.hidden'],
        row['metrics.validationAccuracy'],
      ]),
    ).toEqual([
      [made[2], 'failed', '4', ''],
      [made[1], 'done', '8', '0.9'],
      [made[0], 'done', '4', '0.8'],
    ]);
    const said = await cdl(['export', [short(made[0]!)]], { format: 'steps', out: 'curves.csv' });
    expect(said.text).toBe('1 run in curves.csv');
    const curves = await readFile(join(place.scratch.root, 'curves.csv'), 'utf8');
    expect(parse(curves, { columns: true })).toContainEqual({
      run: made[0],
      at: 'epoch',
      epoch: '2',
      step: '16',
      metric: 'validationAccuracy',
      value: '0.8',
    });
    const lines = (await cdl(['export', []], { format: 'jsonl' })).text
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({
      digest: made[2],
      facts: { reason: expect.stringContaining('no good') },
    });
  });
});
