import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { claimPath } from '../../src/core/claim.ts';
import { liveKey, liveStateSchema } from '../../src/core/live.ts';
import { stopLocalTarget } from '../../src/deploy/index.ts';
import { listVersions } from '../../src/model/registry.ts';
import { openGatewayClient } from '../../src/serve/gateway-client.ts';
import { openZone } from '../../src/steps/context.ts';
import { model } from './tiny-project.ts';
import { endOf, killing, openWorkbench, type Workbench } from './workbench.ts';

/** Far more than it takes: every kill is two processes, on machines that do other things. */
const timeout = 400_000;

/** States of one project, each the start of the next step: before train, before register, before deploy. */
let ingested: Workbench;
let packaged: Workbench;
let approved: Workbench;
let wanted: Awaited<ReturnType<Workbench['approve']>>;
let trained: Record<string, string>;

beforeAll(async () => {
  ingested = await openWorkbench();
  await ingested.json(['ingest']);
  packaged = await ingested.copy();
  trained = (await packaged.json(['train'])).outputs as Record<string, string>;
  await packaged.json(['package']);
  approved = await packaged.copy();
  await approved.json(['register']);
  wanted = await approved.approve();
}, timeout);
afterAll(() => Promise.all([ingested, packaged, approved].map((bench) => bench?.remove())));

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function copyOf(bench: Workbench): Promise<Workbench> {
  const copy = await bench.copy();
  open.push(() => copy.remove());
  return copy;
}

/**
 * Kills the command at one change after the other until it ends by itself, each time on a fresh copy, and hands the copy
 * over for a look after the command was run again. `stride` leaves changes out, beginning at another one each time.
 */
async function killEverywhere(
  from: Workbench,
  args: readonly string[],
  options: {
    below: (bench: Workbench) => string;
    stride?: number;
    env?: (bench: Workbench) => Promise<NodeJS.ProcessEnv>;
  },
  look: (bench: Workbench) => Promise<void>,
): Promise<number> {
  const { below, stride = 1 } = options;
  let kills = 0;
  const start = 1 + Math.floor(Math.random() * stride);
  for (let at = start; ; at += stride) {
    const when = at % 2 === 0 ? 'before' : 'after';
    const bench = await from.copy();
    try {
      const env = (await options.env?.(bench)) ?? {};
      const first = await bench.cdl(args, { ...env, ...killing({ below: below(bench), at, when }) });
      if (first.signal !== 'SIGKILL') {
        expect(first.code, first.stderr).toBe(0);
        await look(bench);
        return kills;
      }
      kills += 1;
      const again = await bench.cdl(args, env);
      expect(again.code, `killed ${when} change ${at}, then: ${again.stdout}${again.stderr}`).toBe(0);
      await look(bench);
    } finally {
      await stopLocalTarget(join(bench.folder, 'target'));
      await bench.remove();
    }
  }
}

const storeOf = (bench: Workbench): string => join(bench.project, '.cdl', 'store');

describe('a command killed between any two changes and run again', { timeout }, () => {
  it('register: the same version, record and claim as undisturbed', async () => {
    const undisturbed = await copyOf(packaged);
    await undisturbed.json(['register']);
    const store = await undisturbed.snapshot();
    const claim = await readFile(join(undisturbed.project, claimPath(model)), 'utf8');
    const kills = await killEverywhere(
      packaged,
      ['register'],
      { below: (bench) => join(bench.project, '.cdl') },
      async (bench) => {
        expect(await bench.snapshot()).toEqual(store);
        expect(await readFile(join(bench.project, claimPath(model)), 'utf8')).toBe(claim);
      },
    );
    expect(kills).toBeGreaterThan(3);
  });

  it('train: the same checkpoint, from where it was left', async () => {
    let resumed = 0;
    const kills = await killEverywhere(ingested, ['train'], { below: storeOf, stride: 6 }, async (bench) => {
      const outputs = JSON.parse(
        await readFile(join(bench.project, '.cdl', `${model}.train.outputs.json`), 'utf8'),
      ) as Record<string, string>;
      expect({ ...outputs, run: null }).toEqual({ ...trained, run: null });
      const zone = await openZone({}, 'work', bench.project);
      const run = await zone.getArtifact(outputs.run as never);
      if (run.meta.resumed === true) resumed += 1;
      expect(await zone.hasArtifact(outputs.checkpoint as never)).toBe(true);
    });
    expect(kills).toBeGreaterThan(2);
    expect(resumed).toBeGreaterThan(0);
  });

  it('deploy: the same version live, one server, nothing half-way', async () => {
    const kills = await killEverywhere(
      approved,
      ['deploy'],
      { below: (bench) => bench.folder, stride: 5, env: (bench) => bench.deployEnvironment() },
      async (bench) => {
        const zone = await openZone({}, 'trusted', bench.project);
        const record = await zone.readRecord(liveKey(model, model, 'production'));
        const live = liveStateSchema.parse(record?.value);
        expect(live).toMatchObject({ current: wanted, transition: null, failed: null });
        const answer = await fetch(`${live.endpoint}/v2/models/${model}/infer`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({
            inputs: [{ name: 'input', datatype: 'UINT8', shape: [1, 8, 8], data: new Array(64).fill(9) }],
          }),
        });
        expect(answer.status).toBe(200);
        expect(answer.headers.get('x-cdl-version')).toBe(String(wanted.version));
        const folder = join(bench.folder, 'target');
        const client = openGatewayClient({ folder, program: '', host: '127.0.0.1', port: 0 });
        const state = await client.state();
        expect(state?.routes).toHaveLength(1);
        expect(state?.routes[0]?.versions).toHaveLength(1);
      },
    );
    expect(kills).toBeGreaterThan(2);
  });
});

describe('two registers at once', { timeout }, () => {
  const versionsOf = async (env: NodeJS.ProcessEnv) =>
    (await listVersions(await openZone(env, 'work', null), model, model)).map(({ version }) => version);

  it('give the same candidate one version and different candidates different ones', async () => {
    const other = await copyOf(ingested);
    const file = join(other.project, 'model.ts');
    await writeFile(file, `${await readFile(file, 'utf8')}\n// another version of the code\n`);
    const shared = { CDL_WORK_STORE: `file://${join(other.folder, 'shared')}` };
    for (const args of [['ingest'], ['train'], ['package']]) await other.json(args, shared);
    const same = await Promise.all([1, 2].map(() => copyOf(packaged)));

    // All of them have seen which numbers are taken before any of them takes one.
    const env = {
      ...shared,
      NODE_OPTIONS: `--import ${pathToFileURL(join(import.meta.dirname, 'meet.mjs')).href}`,
      MEET_BELOW: join(other.folder, 'shared'),
      MEET_AT: join(other.folder, 'meeting'),
      MEET_COUNT: '3',
    };
    const children = [...same, other].map((bench) => bench.start(['register', '--json'], env));
    const results = await Promise.all(children.map(endOf));
    for (const { code, stderr } of results) expect(code, stderr).toBe(0);
    const [first, second, third] = results.map(
      ({ stdout }) => (JSON.parse(stdout) as { outputs: { version: string; candidate: string } }).outputs,
    );
    expect(second).toEqual(first);
    expect(third!.candidate).not.toBe(first!.candidate);
    expect(third!.version).not.toBe(first!.version);
    expect(await versionsOf(shared)).toEqual([1, 2]);
  });
});
