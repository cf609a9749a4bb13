import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import { clean } from '../../src/steps/clean.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import type { Ctx } from '../../src/steps/types.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import type { ObjectStore } from '../../src/store/types.ts';
import { openScratch, type Scratch } from './project.ts';
import { textFiles } from './text-project.ts';

const train = { dataset: '', side: 'train' as const };
const killer = pathToFileURL(join(packageRoot(), 'test', 'e2e', 'kill-after.mjs')).href;

let scratch: Scratch;
let stores = 0;
beforeAll(async () => {
  const files = await textFiles();
  scratch = await openScratch({
    ...files,
    'cdl.yaml': (files['cdl.yaml'] as string).replace(
      'rules: {',
      'clean: [trim, lowercase]\n    rules: { characters: { min: 60 }, max_invalid: 1,',
    ),
  });
});
afterAll(() => scratch.remove());

const newFolder = () => join(scratch.root, '.cdl', `store-${stores++}`);

/** Everything a store holds, as a digest by key. */
async function contentOf(store: ObjectStore): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { key } of store.list('')) {
    const bytes = await buffer((await store.get(key))!);
    found[key] = createHash('sha256').update(bytes).digest('hex');
  }
  return found;
}

class Killed extends Error {}

/** A context on a store, which ends everything right before its change number `at` (0 = never). */
function contextOn(ctx: Ctx, store: ObjectStore, at = 0): Ctx {
  let count = 0;
  const counted = async <T>(action: () => Promise<T>): Promise<T> => {
    count += 1;
    if (at > 0 && count >= at) throw new Killed();
    return action();
  };
  const dying: ObjectStore = { ...store, put: (...args) => counted(() => store.put(...args)) };
  const zone = createZone('work', dying);
  const { handover } = ctx;
  return {
    ...ctx,
    zone: async () => zone,
    handover: {
      ...handover,
      write: (...args) => counted(() => handover.write(...args)),
      writeReport: (...args) => counted(() => handover.writeReport(...args)),
    },
  };
}

/**
 * Kills `work` before one change after the other until it ends by itself, each time on a copy of `from`, and looks after it
 * ran again.
 */
async function killEverywhere(
  ctx: Ctx,
  from: string,
  work: (ctx: Ctx) => Promise<unknown>,
  look: (store: ObjectStore) => Promise<void>,
): Promise<number> {
  const before = await contentOf(await openStore(`file:${from}`, null));
  for (let at = 1; ; at++) {
    const folder = newFolder();
    await cp(from, folder, { recursive: true });
    const store = await openStore(`file:${folder}`, null);
    const failure = await work(contextOn(ctx, store, at)).then(
      () => null,
      (error: unknown) => error,
    );
    if (failure === null) {
      await look(store);
      return at - 1;
    }
    if (!(failure instanceof Killed)) throw failure;
    expect(await contentOf(store)).toMatchObject(before);
    await work(contextOn(ctx, store));
    await look(store);
  }
}

describe('a data step that is killed between any two changes and run again', () => {
  it('ingest makes what it makes undisturbed', async () => {
    const ctx = await scratch.context();
    const store = await openStore(`file:${newFolder()}`, null);
    const whole = await runStep(ingest, contextOn(ctx, store), train);
    const content = await contentOf(store);
    const empty = newFolder();
    await mkdir(empty);
    const kills = await killEverywhere(
      ctx,
      empty,
      async (dying) => {
        const { outputs } = await runStep(ingest, dying, train);
        expect(outputs).toEqual(whole.outputs);
      },
      async (made) => expect(await contentOf(made)).toEqual(content),
    );
    expect(kills).toBeGreaterThan(6);
  });

  it.each([1, 2])('clean, by %i jobs, makes the version one undisturbed job makes', async (total) => {
    const ctx = await scratch.context();
    const collected = newFolder();
    await runStep(ingest, contextOn(ctx, await openStore(`file:${collected}`, null)), train);
    const place = async () => {
      const folder = newFolder();
      await cp(collected, folder, { recursive: true });
      return openStore(`file:${folder}`, null);
    };
    const whole = await runStep(clean, contextOn(ctx, await place()), train);
    expect(Number(whole.outputs.quarantined)).toBeGreaterThan(3);
    const work = async (on: Ctx) => {
      for (let index = 0; index < total; index++)
        await runStep(clean, { ...on, node: { index, total } }, train);
      expect(await on.handover.read('clean', 'texts')).toEqual(whole.outputs);
    };
    const undisturbed = await place();
    await work(contextOn(ctx, undisturbed));
    const content = await contentOf(undisturbed);
    const kills = await killEverywhere(ctx, collected, work, async (made) =>
      expect(await contentOf(made)).toEqual(content),
    );
    expect(kills).toBeGreaterThan(total === 1 ? 8 : 12);
  });
});

describe('processes', () => {
  function cdl(args: string[], env: NodeJS.ProcessEnv) {
    const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'cdl.js'), ...args, '--json'], {
      cwd: scratch.root,
      env: { ...scratch.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
      child.on('close', (code, signal) => resolve({ code, signal }));
    });
    return Promise.all([ended, text(child.stdout), text(child.stderr)]).then(([how, stdout, stderr]) => ({
      ...how,
      stdout,
      stderr,
    }));
  }
  const datasetOf = ({ stdout }: { stdout: string }) =>
    (JSON.parse(stdout) as { outputs: { dataset: string } }).outputs.dataset;

  it('that collect the same data into one store at once make one version, both of them', async () => {
    const env = {
      CDL_WORK_STORE: `file:${join(scratch.root, '.cdl', 'together')}`,
      CDL_CACHE: join(scratch.root, '.cdl', 'cache-together'),
    };
    const both = await Promise.all([cdl(['ingest'], env), cdl(['ingest'], env), cdl(['ingest'], env)]);
    for (const one of both) expect(one.code, one.stderr + one.stdout).toBe(0);
    expect(new Set(both.map(datasetOf)).size).toBe(1);
  });

  it('that are killed while they collect leave the version before untouched, and nothing in their way', async () => {
    const root = join(scratch.root, '.cdl', 'killed');
    const env = { CDL_WORK_STORE: `file:${root}`, CDL_CACHE: join(scratch.root, '.cdl', 'cache-killed') };
    const store = await openStore(`file:${root}`, null);
    const first = await cdl(['ingest'], env);
    expect(first.code, first.stderr).toBe(0);
    const before = await contentOf(store);
    const config = await readFile(join(scratch.root, 'cdl.yaml'), 'utf8');
    await scratch.write({ 'cdl.yaml': config.replace('key: texts-1', 'key: texts-2') });
    try {
      for (const at of [1, 2, 3]) {
        const killed = await cdl(['ingest'], {
          ...env,
          NODE_OPTIONS: `--import ${killer}`,
          KILL_BELOW: root,
          KILL_AT: String(at),
          KILL_WHEN: at % 2 === 0 ? 'before' : 'after',
        });
        expect(killed.signal).toBe('SIGKILL');
        expect(await contentOf(store)).toMatchObject(before);
      }
      const second = await cdl(['ingest'], env);
      expect(second.code, second.stderr).toBe(0);
      expect(datasetOf(second)).not.toBe(datasetOf(first));
      // Which version is the newest is what changes.
      const { 'work/records/data-made/words/texts-train.json': newest, ...same } = before;
      expect(newest).toBeDefined();
      expect(await contentOf(store)).toMatchObject(same);
    } finally {
      await scratch.write({ 'cdl.yaml': config });
    }
    const back = await cdl(['ingest'], env);
    expect(datasetOf(back)).toBe(datasetOf(first));
  });
});
