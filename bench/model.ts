import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TuneConfig } from '../src/core/project-tune.ts';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import { bundleModel } from '../src/model/bundle.ts';
import { drawChart } from '../src/report/chart.ts';
import { openLocalZone } from '../src/store/index.ts';
import { decide, rungs, type TrialState } from '../src/train/asha.ts';
import { trainByCommand } from '../src/train/command.ts';
import { openEventTail } from '../src/train/event-tail.ts';
import { launchHere } from '../src/train/launch.ts';
import { permutation, seededRandom } from '../src/train/random.ts';
import { settingsOf } from '../src/train/tuning.ts';
import { pools, searchItems } from './model-pool.ts';
import type { Row } from './row.ts';
import { backendRates } from './train.ts';

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
const ratio = (name: string, value: number, unit: string, baseline: number | null): Row => ({
  name,
  value,
  unit,
  baseline,
  ratio: baseline === null ? null : value / baseline,
});

/** Steps of the training that is run bare and by the contract: some ten seconds. */
const steps = 3500;
const pairs = 5;

/** Seconds of a training by `train.command`, beside the same program started by hand; in turns, medians of the pairs. */
async function benchContract(folder: string): Promise<Row[]> {
  const script = join(packageRoot(), 'bench', 'model-train.mjs');
  const environment = { PATH: process.env.PATH ?? '' };
  const bare: number[] = [];
  const ours: number[] = [];
  for (let at = 0; at < pairs; at++) {
    let since = performance.now();
    const done = await run(process.execPath, [script, String(steps)], { env: environment });
    if (done.code !== 0) throw new Error(done.stderr.toString());
    bare.push((performance.now() - since) / 1000);
    const scratch = join(folder, `contract-${at}`);
    await mkdir(scratch);
    since = performance.now();
    const messages = trainByCommand(
      {
        command: [process.execPath, script],
        launch: launchHere,
        folder: packageRoot(),
        scratch,
        environment,
        job: {
          v: 1,
          model: 'bench',
          hyperparameters: { steps },
          seed: 1,
          classes: ['a', 'b'],
          data: {
            shape: [1],
            type: 'uint8',
            train: { items: '', labels: '', count: 0 },
            validation: { items: '', labels: '', count: 0 },
          },
          output: join(scratch, 'output'),
          pretrained: null,
          resume: null,
          resources: { gpu: 0, cpu: 1, memory: '1Gi' },
        },
        restarts: 0,
        limits: { grace: 30, disk: 2 ** 30, events: 2 ** 28 },
      },
      new AbortController().signal,
    );
    for await (const _ of messages);
    ours.push((performance.now() - since) / 1000);
  }
  return [
    ratio('training by the command contract, beside the bare script', median(ours), 's', median(bare)),
    ratio(
      '… its overhead in each of the pairs: median, beside the goal',
      median(ours.map((value, at) => (value / bare[at]! - 1) * 100)),
      '%',
      1,
    ),
  ];
}

/** Seconds to read 10 000 metric points from a trainer's events and store them with a run. */
async function benchPoints(folder: string): Promise<Row> {
  const points = 10_000;
  const path = join(folder, 'events.jsonl');
  const lines = Array.from({ length: points }, (_, at) =>
    JSON.stringify({ kind: 'epoch', epoch: at + 1, step: at + 1, metrics: { loss: 1 / (at + 1) } }),
  );
  await writeFile(path, `${lines.join('\n')}\n`);
  const zone = await openLocalZone(join(folder, 'points'));
  const seconds: number[] = [];
  for (let time = 0; time < 5; time++) {
    const since = performance.now();
    const tail = await openEventTail(path, 2 ** 28);
    const epochs: { epoch: number; step: number; metrics: Record<string, number> }[] = [];
    for await (const event of tail.rest()) {
      if (event.kind === 'epoch')
        epochs.push({ epoch: event.epoch, step: event.step ?? 0, metrics: event.metrics });
    }
    await tail.close();
    if (epochs.length !== points) throw new Error(`${epochs.length} of ${points} points`);
    await zone.putArtifact({
      kind: 'run',
      name: 'bench',
      files: [],
      parents: [],
      meta: { epochs, started_at: new Date().toISOString() },
    });
    seconds.push((performance.now() - since) / 1000);
  }
  return ratio(
    '10 000 metric points: read, checked, stored with the run; beside the goal',
    median(seconds),
    's',
    0.2,
  );
}

/**
 * The targets, fixed by 40 configurations drawn with a seed of their own (1000), trained for 27 epochs: what the fourth best of
 * them came to, and what the best did.
 */
const targets = [0.853, 0.857];
const seeds = [1, 2, 3, 4, 5];

/** The fashion example: collected, its training side unpacked, its code bundled; and how long `cdl train` takes again. */
async function fashion(folder: string): Promise<{ data: string; code: string; cached: number }> {
  const cdl = join(packageRoot(), 'bin', 'cdl.js');
  const project = join(folder, 'fashion');
  const cache = process.env.CDL_CACHE ?? join(homedir(), '.cache', 'cdl');
  const env = { ...process.env, HOME: folder, CDL_CACHE: cache };
  const call = async (cwd: string, ...args: string[]) => {
    const done = await run(process.execPath, [cdl, ...args], { cwd, env });
    if (done.code !== 0) throw new Error(`cdl ${args[0]}: ${done.stderr}`);
  };
  await call(folder, 'init', 'fashion', project);
  for (const step of ['ingest', 'validate', 'train']) await call(project, step);
  const again: number[] = [];
  for (let time = 0; time < 5; time++) {
    const since = performance.now();
    await call(project, 'train');
    again.push((performance.now() - since) / 1000);
  }
  const outputs = JSON.parse(await readFile(join(project, '.cdl', 'clothes.ingest.outputs.json'), 'utf8'));
  const zone = await openLocalZone(join(project, '.cdl', 'store', 'work'));
  const data = join(folder, 'data');
  await zone.saveArtifact(outputs.dataset, data);
  const code = join(folder, 'model.mjs');
  await writeFile(code, await bundleModel(project, 'model.ts'));
  return { data, code, cached: median(again) };
}

/** What a search came to: after each epoch the samples trained so far, and the best validation accuracy. */
type Searched = [samples: number, best: number][];

/** The pool of configurations, each trained to its end once, by two processes. */
async function trainPool(data: string, code: string, name: keyof typeof pools): Promise<number[][]> {
  const child = join(packageRoot(), 'dist', 'bench', 'model-search.js');
  const pool: number[][] = [];
  const trained = [0, 1].map(async (first) => {
    const done = await run(process.execPath, [child, data, code, name, String(first), '2'], {
      env: process.env,
    });
    if (done.code !== 0) throw new Error(done.stderr.toString());
    for (const line of done.stdout.toString().trim().split('\n')) {
      const { id, accuracies } = JSON.parse(line) as { id: number; accuracies: number[] };
      pool[id] = accuracies;
    }
  });
  await Promise.all(trained);
  return pool;
}

/** Has a search train epochs of configurations one after the other; `more` says what each came to. */
function searchBy(go: (more: (accuracy: number) => void) => void): Searched {
  let best = 0;
  const curve: Searched = [];
  go((accuracy) => {
    best = Math.max(best, accuracy);
    curve.push([(curve.length + 1) * searchItems, best]);
  });
  return curve;
}

/** Asynchronous successive halving by one worker, as `cdl tune` decides; what was promoted trains on from where it was. */
function halving(searched: TuneConfig, curves: readonly number[][]): Searched {
  const settings = settingsOf(searched);
  const levels = rungs(settings);
  const trials: (TrialState & { losses: number[] })[] = [];
  return searchBy((more) => {
    for (;;) {
      const next = decide(trials, settings);
      if (next.kind === 'new' && trials.length === curves.length) return;
      if (next.kind === 'new') trials.push({ id: trials.length, losses: [], state: 'waiting' });
      const trial = next.kind === 'new' ? trials.at(-1)! : trials[next.trial]!;
      const rung = trial.losses.length;
      for (const accuracy of curves[trial.id]!.slice(levels[rung - 1] ?? 0, levels[rung])) more(accuracy);
      trial.losses.push(1 - curves[trial.id]![levels[rung]! - 1]!);
    }
  });
}

/**
 * Both searches over one pool of configurations, in an order of each seed's own: what a search would have seen is what these
 * trainings, each run once, really came to. A search that never meets a target counts with all it trained.
 */
async function benchSearch(data: string, code: string, name: keyof typeof pools): Promise<Row[]> {
  const pool = await trainPool(data, code, name);
  const found = seeds.map((seed) => {
    const order = [...permutation(pool.length, seededRandom('bench', seed))];
    const curves = order.map((id) => pool[id]!);
    return {
      asha: halving(pools[name], curves),
      random: searchBy((more) => {
        for (const curve of curves) for (const accuracy of curve) more(accuracy);
      }),
    };
  });
  const finals = pool.map((curve) => Math.max(...curve));
  const samplesOf = (curve: Searched) => curve.at(-1)![0];
  const end = Math.max(...found.map(({ random }) => samplesOf(random)));
  const bestAt = (curve: Searched, samples: number) => curve.findLast(([at]) => at <= samples)?.[1];
  const series = (['asha', 'random'] as const).map((search) => ({
    name: search === 'asha' ? 'ASHA' : 'random search',
    points: Array.from({ length: 240 }, (_, at): [number, number] => {
      const samples = ((at + 1) * end) / 240;
      return [samples / 1e6, median(found.map((one) => bestAt(one[search], samples) ?? 0))];
    }).filter(([, best]) => best > 0),
  }));
  const picture = await drawChart({
    kind: 'lines',
    title: `Best validation accuracy so far, median of ${seeds.length} orders of ${pool.length} configurations, ${name} space`,
    x: 'million samples trained',
    y: 'accuracy',
    series,
  });
  await writeFile(join(packageRoot(), 'bench', `search-${name}.png`), picture);
  return targets.flatMap((target) => {
    const until = (curve: Searched) => curve.find(([, best]) => best >= target)?.[0] ?? samplesOf(curve);
    const met = (search: 'asha' | 'random') => found.filter((one) => one[search].at(-1)![1] >= target).length;
    const able = finals.filter((best) => best >= target).length;
    return [
      ratio(
        `${name} space: samples trained until validation accuracy ${target} (${able} of ${pool.length} configurations come to it), median of ${seeds.length} seeds: ASHA (met with ${met('asha')}), beside random search (met with ${met('random')})`,
        median(found.map(({ asha }) => until(asha))),
        'samples',
        median(found.map(({ random }) => until(random))),
      ),
      ratio(
        `… ${name} space, ${target}: ASHA ÷ random search of each seed, median, beside the goal`,
        median(found.map(({ asha, random }) => until(asha) / until(random))),
        '×',
        1 / 3,
      ),
    ];
  });
}

/** Samples a second of every backend, beside PyTorch on as many threads as there are processors; no rows without PyTorch. */
async function benchBackends(): Promise<Row[]> {
  const python =
    process.env.CDL_TORCH ??
    join(process.env.CDL_CACHE ?? join(homedir(), '.cache', 'cdl'), 'py-torch', 'bin', 'python');
  if (!(await stat(python).catch(() => null))) {
    process.stderr.write(`left out: PyTorch beside us (${python} is not there; set CDL_TORCH)\n`);
    return [];
  }
  const rates = await backendRates();
  const rows: Row[] = [];
  for (const threads of [1, 2]) {
    const done = await run(python, [join(packageRoot(), 'bench', 'model-torch.py'), String(threads)]);
    if (done.code !== 0) throw new Error(done.stderr.toString());
    const torch = JSON.parse(done.stdout.toString()) as { mlp: number; lenet: number; torch: string };
    for (const { network, backend, rate } of rates) {
      const name = `train ${network}: ${backend}, beside PyTorch ${torch.torch} on ${threads} thread${threads > 1 ? 's' : ''}`;
      rows.push(ratio(name, Math.round(rate), 'samples/s', network === 'LeNet-5' ? torch.lenet : torch.mlp));
    }
  }
  return rows;
}

/**
 * The model pipeline: what the contract, logging and a cached job cost, what a search saves, and how fast each backend is.
 * CDL_BENCH_MODEL names some of `contract,logging,search-narrow,search-wide,backends`.
 */
export async function benchModel(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-model-'));
  try {
    const wanted = process.env.CDL_BENCH_MODEL?.split(',') ?? [
      'contract',
      'logging',
      'search-narrow',
      'search-wide',
      'backends',
    ];
    const rows: Row[] = [];
    if (wanted.includes('contract')) rows.push(...(await benchContract(folder)));
    if (wanted.includes('logging')) rows.push(await benchPoints(folder));
    const searches = (['narrow', 'wide'] as const).filter((name) => wanted.includes(`search-${name}`));
    if (searches.length > 0) {
      const { data, code, cached } = await fashion(folder);
      rows.push(ratio('cdl train of the fashion example again (cached), beside the goal', cached, 's', 1));
      for (const name of searches) rows.push(...(await benchSearch(data, code, name)));
    }
    if (wanted.includes('backends')) rows.push(...(await benchBackends()));
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
