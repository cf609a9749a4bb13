import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type LocalTarget, openLocalTarget } from '../../src/deploy/local.ts';
import type { Plan, Progress } from '../../src/deploy/types.ts';
import { type GatewayClient, openGatewayClient } from '../../src/serve/gateway-client.ts';
import type { RouteState } from '../../src/serve/gateway-types.ts';
import { applyAll, ask, candidate, planOf } from '../contract/target.ts';
import { bundlePrograms } from '../serve/programs.ts';
import { type Fault, type TinyPackage, writeTinyPackage } from '../serve/tiny-package.ts';

let root: string;
let programs: Awaited<ReturnType<typeof bundlePrograms>>;
let folder: string;
let target: LocalTarget;
/** The same folder, without waiting for requests that nobody sends. */
let quick: LocalTarget;
let gateway: GatewayClient;
const body = JSON.stringify({
  inputs: [{ name: 'input', datatype: 'UINT8', shape: [1, 2, 2], data: [1, 2, 3, 4] }],
});

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-rollout-'));
  programs = await bundlePrograms({ 'apply-process': 'test/deploy/apply-process.ts' });
  folder = join(root, 'target');
  const program = programs.path('gateway-main');
  target = openLocalTarget({ folder, program, observe: { requests: 30, milliseconds: 5_000 } });
  quick = openLocalTarget({ folder, program, observe: { requests: 1, milliseconds: 0 } });
  gateway = openGatewayClient({ folder, program, host: '127.0.0.1', port: 0 });
});

afterAll(async () => {
  await target.stop();
  await programs.remove();
  await rm(root, { recursive: true, force: true });
});

const tiny = (bias: number, fault: Fault = 'none'): Promise<TinyPackage> =>
  writeTinyPackage(join(root, `p${bias}${fault}`), { bias, fault });

async function deploy(plan: Plan, packaged: TinyPackage): Promise<string> {
  const last = (await applyAll(target, plan, packaged.folder)).at(-1)!;
  if (last.kind !== 'ready') throw new Error(JSON.stringify(last));
  return last.endpoint;
}

async function route(environment = 'production'): Promise<RouteState> {
  const state = await gateway.state();
  return state!.routes.find((one) => one.environment === environment)!;
}

/** Constant load over keep-alive connections until told to end; statuses and answering versions counted. */
function load(
  endpoint: string,
  clients = 4,
): { end(): Promise<{ codes: Map<number, number>; versions: string[] }> } {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const codes = new Map<number, number>();
  const versions: string[] = [];
  let isEnding = false;
  const once = (): Promise<void> =>
    new Promise((resolve) => {
      const done = (code: number): void => {
        codes.set(code, (codes.get(code) ?? 0) + 1);
        resolve();
      };
      const asked = request(`${endpoint}/v2/models/tiny/infer`, { agent, method: 'POST' }, (response) => {
        versions.push(String(response.headers['x-cdl-version']));
        response.resume();
        response.on('end', () => done(response.statusCode!));
        response.on('error', () => done(-1));
      });
      asked.on('error', () => done(-1));
      asked.end(body);
    });
  const running = Array.from({ length: clients }, async () => {
    while (!isEnding) await once();
  });
  return {
    async end() {
      isEnding = true;
      await Promise.all(running);
      agent.destroy();
      return { codes, versions };
    },
  };
}

describe('a rolling update', () => {
  test('fails no request under constant load, in either direction, also when a server is killed in the middle', async () => {
    const [one, two] = [await tiny(1), await tiny(2)];
    const endpoint = await deploy(planOf(one, null, 1, { replicas: 2 }), one);
    const clients = load(endpoint);
    await deploy(planOf(two, 1, 2, { replicas: 2, traffic: [20, 60, 100] }), two);
    const { instances } = (await route()).versions[0]!;
    process.kill(instances[0]!.pid!, 'SIGKILL');
    await deploy(planOf(one, 2, 1, { replicas: 2 }), one);
    const { codes, versions } = await clients.end();
    expect([...codes.keys()]).toEqual([200]);
    expect(codes.get(200)).toBeGreaterThan(200);
    expect(new Set(versions)).toEqual(new Set(['1', '2']));
    expect((await ask(endpoint)).version).toBe('1');
    expect((await route()).versions.map((version) => version.candidate)).toEqual([candidate(1)]);
  });

  test('answers requests from another server when the one that had them dies', async () => {
    const one = await tiny(1);
    const endpoint = await deploy(planOf(one, 1, 1, { replicas: 2 }), one);
    const stuck = (await route()).versions[0]!.instances[0]!.pid!;
    process.kill(stuck, 'SIGSTOP');
    let pending = 0;
    const answers = Array.from({ length: 8 }, async () => {
      pending++;
      const response = await fetch(`${endpoint}/v2/models/tiny/infer`, { method: 'POST', body });
      await response.arrayBuffer();
      pending--;
      return response.status;
    });
    // What is left when some were answered waits for the server that does not run.
    await Promise.race(answers);
    expect(pending).toBeGreaterThan(0);
    process.kill(stuck, 'SIGKILL');
    expect(await Promise.all(answers)).toEqual(answers.map(() => 200));
  });

  test('lets a server that goes finish its answers', async () => {
    const one = await tiny(1);
    const endpoint = await deploy(planOf(one, 1, 1, { replicas: 2 }), one);
    const slow = (await route()).versions[0]!.instances[0]!.pid!;
    process.kill(slow, 'SIGSTOP');
    const answers = Array.from({ length: 8 }, () =>
      fetch(`${endpoint}/v2/models/tiny/infer`, {
        method: 'POST',
        body,
        headers: { 'x-request-id': 'slow' },
      }),
    );
    await Promise.race(answers);
    const { stable, versions } = await route();
    const {
      candidate: _one,
      counts: _counts,
      instances: _instances,
      crashes: _crashes,
      ...spec
    } = versions[0]!;
    // The first one started is kept; asking for none of this version retires both.
    await gateway.want('tiny', 'production', {
      stable,
      versions: [{ ...spec, candidate: candidate(66), version: 66 }],
    });
    expect((await route()).leaving).toBeGreaterThan(0);
    expect(() => process.kill(slow, 0)).not.toThrow();
    process.kill(slow, 'SIGCONT');
    for (const answer of await Promise.all(answers)) {
      expect(answer.status).toBe(200);
      expect(answer.headers.get('x-cdl-version')).toBe('1');
    }
    await deploy(planOf(one, 1, 1), one);
  });

  test('gives the canary its share and says who answered', async () => {
    const two = await tiny(2);
    const controller = new AbortController();
    const plan = planOf(two, 1, 2, { traffic: [20, 100] });
    const abort = async (): Promise<void> => {
      for await (const step of quick.apply(plan, two.folder, controller.signal)) {
        if (step.kind === 'step' && step.traffic === 20) controller.abort();
      }
    };
    await expect(abort()).rejects.toMatchObject({ code: 'interrupted' });
    const endpoint = (await target.live('tiny', 'production'))!.endpoint;
    const answers = [];
    for (let index = 0; index < 50; index++) {
      const response = await fetch(`${endpoint}/v2/models/tiny/infer`, { method: 'POST', body });
      answers.push(response.headers.get('x-cdl-candidate'));
      await response.arrayBuffer();
    }
    expect(answers.filter((one) => one === candidate(2))).toHaveLength(10);
    expect(answers.filter((one) => one === candidate(1))).toHaveLength(40);
    const pinned = await fetch(`${endpoint}/v2/models/tiny/versions/2`);
    expect(pinned.headers.get('x-cdl-version')).toBe('2');
    expect((await fetch(`${endpoint}/v2/models/tiny/versions/77`)).status).toBe(404);
    expect((await applyAll(quick, plan, two.folder)).at(-1)).toMatchObject({ kind: 'ready' });
  });

  test('is taken back when the canary fails more requests than the plan allows', async () => {
    const flaky = await tiny(4, 'flaky');
    const endpoint = (await target.live('tiny', 'production'))!.endpoint;
    const clients = load(endpoint, 2);
    const steps = await applyAll(target, planOf(flaky, 2, 4, { traffic: [30, 100] }), flaky.folder);
    await clients.end();
    expect(steps.at(-1)).toMatchObject({
      kind: 'restored',
      reason: expect.stringMatching(/version 4 failed \d+ of \d+ requests; the limit is 1 %/),
    });
    expect((await target.live('tiny', 'production'))!.candidate).toBe(candidate(2));
    expect((await route()).versions).toHaveLength(1);
  });
});

describe('a deploying process that is killed', () => {
  test('at any step ends in the same state when it is run again', async () => {
    const environment = 'killed';
    const [one, two] = [await tiny(1), await tiny(2)];
    const total = (await applyAll(quick, planOf(one, null, 1, { environment }), one.folder)).length;
    expect(total).toBeGreaterThan(1);
    let [live, next] = [one, two];
    let liveNumber = 1;
    for (let halt = 1; ; halt++) {
      const number = liveNumber + 1;
      const plan = planOf(next, liveNumber, number, { environment });
      const steps = await applyAndKill(plan, next, halt);
      const answering = (await quick.live('tiny', environment))!;
      await ask(answering.endpoint);
      expect((await applyAll(quick, plan, next.folder)).at(-1)).toMatchObject({ kind: 'ready' });
      const state = await route(environment);
      expect(state).toMatchObject({ stable: candidate(number), leaving: 0 });
      expect(state.versions).toHaveLength(1);
      expect(state.versions[0]).toMatchObject({ candidate: candidate(number), weight: 100 });
      if (steps.at(-1)!.kind === 'ready') break;
      [live, next] = [next, live];
      liveNumber = number;
    }
    expect(liveNumber).toBeGreaterThan(4);
  });

  async function applyAndKill(plan: Plan, packaged: TinyPackage, halt: number): Promise<Progress[]> {
    const file = join(root, 'plan.json');
    await writeFile(file, JSON.stringify(plan));
    const args = [
      programs.path('apply-process'),
      file,
      folder,
      packaged.folder,
      programs.path('gateway-main'),
    ];
    const child = spawn(process.execPath, [...args, String(halt)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const steps: Progress[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      steps.push(JSON.parse(line) as Progress);
      if (steps.length === halt) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return steps;
  }
});

describe('a gateway that is killed', () => {
  test('comes back with the same routes on the same port, without orphans', async () => {
    const two = await tiny(2);
    for (const environment of ['production', 'killed']) {
      await applyAll(quick, planOf(two, 1, 2, { environment }), two.folder);
    }
    const before = (await gateway.state())!;
    const pids = before.routes.flatMap((one) => one.versions.flatMap((v) => v.instances.map((i) => i.pid!)));
    process.kill(before.pid, 'SIGKILL');
    // A process that nobody answers for any more is gone when its pid cannot be signalled.
    for (const pid of [before.pid, ...pids]) await gone(pid);
    expect(await target.live('tiny', 'production')).toBeNull();
    const endpoint = await deploy(planOf(two, 1, 2), two);
    expect(new URL(endpoint).port).toBe(String(before.port));
    expect((await ask(endpoint)).version).toBe('2');
    expect((await ask(`${endpoint}/killed`)).version).toBe('2');
    expect((await fetch(`${endpoint}/v2/health/ready`)).status).toBe(200);
  });

  test('is started once when two ask for it at the same time', async () => {
    await target.stop();
    const [a, b] = await Promise.all([gateway.ensure(), gateway.ensure()]);
    expect(a.pid).toBe(b.pid);
  });
});

describe('the gateway', () => {
  test('keeps its folder to its owner and records what was answered', async () => {
    const two = await tiny(2);
    const endpoint = await deploy(planOf(two, 1, 2), two);
    await fetch(`${endpoint}/v2/models/tiny/infer`, {
      method: 'POST',
      body,
      headers: { 'x-request-id': 'seen-1' },
    });
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
    await target.stop();
    const scores = join(folder, 'scores', 'production', 'tiny');
    const texts = await Promise.all(
      (await readdir(scores)).map((name) => readFile(join(scores, name), 'utf8')),
    );
    expect(texts.join('')).toContain('"id":"seen-1"');
    expect(texts.join('')).not.toContain('smoke-1');
    await gateway.ensure();
  });

  test('speaks Seldon v1, tells what it has, and says what it has not', async () => {
    const two = await tiny(2);
    const endpoint = await deploy(planOf(two, 1, 2), two);
    const message = JSON.stringify({ data: { ndarray: [[1, 2, 3, 4]] } });
    const paths = [
      '/api/v1.0/predictions',
      '/seldon/production/tiny/api/v1.0/predictions',
      '/killed/api/v1.0/predictions',
    ];
    for (const path of paths) {
      const response = await fetch(endpoint + path, { method: 'POST', body: message });
      expect(await response.json()).toMatchObject({ data: { names: ['a', 'b', 'c'] } });
    }
    for (const path of [
      '/v2/models/other/infer',
      '/nowhere/v2/models/tiny/infer',
      '/x',
      '/nowhere/api/v1.0/predictions',
    ]) {
      const response = await fetch(endpoint + path, { method: 'POST', body: message });
      expect(response.status).toBe(404);
    }
    const metrics = await (await fetch(`${endpoint}/metrics`)).text();
    expect(metrics).toMatch(/cdl_gateway_requests_total\{.*version="2".*code="200"\} \d+/);
    expect(metrics).toMatch(/cdl_model_info\{.*environment="production".*\} 1/);
    expect(metrics.match(/^# TYPE cdl_requests_total /gm)).toHaveLength(1);
  });
});

async function gone(pid: number): Promise<void> {
  const alive = (): boolean => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };
  await expect.poll(alive, { timeout: 20_000, interval: 20 }).toBe(false);
}
