import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { request as ask } from 'undici';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Group, startGroup } from '../../src/exec/group.ts';
import { isProcessAlive } from '../../src/exec/owner.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import { launchOnRay, type RayCluster, rayCluster } from '../../src/train/ray.ts';
import { freePort } from '../free-port.ts';
import { commandTraining, train } from './command-fixtures.ts';
import { inFolder } from './fixtures.ts';

const python = process.env.CDL_RAY;

const preamble = `
import json, os, signal, sys
job = json.load(open(os.environ["CDL_JOB"]))
def tell(**event):
    with open(os.environ["CDL_EVENTS"], "a") as file:
        file.write(json.dumps(event) + "\\n")
def keep(name, text):
    os.makedirs(os.path.join(job["output"], name), exist_ok=True)
    with open(os.path.join(job["output"], name, "state"), "w") as file:
        file.write(text)
    return name
`;

/** A cluster of this machine alone, with one CPU; whatever it started is gone after `clear`. */
async function startCluster(folder: string): Promise<{ url: string; head: Group }> {
  const [port, clients] = [await freePort(), await freePort()];
  const head = startGroup(
    [
      ...[python!, '-m', 'ray.scripts.scripts', 'start', '--head', '--block', '--num-cpus=1'],
      ...['--port=0', '--min-worker-port=0', '--max-worker-port=0', '--dashboard-agent-listen-port=0'],
      ...['--dashboard-host=127.0.0.1', `--dashboard-port=${port}`, `--ray-client-server-port=${clients}`],
      ...['--node-ip-address=127.0.0.1', '--object-store-memory=78643200', '--disable-usage-stats'],
      ...['--include-log-monitor=false', `--temp-dir=${folder}`],
    ],
    {
      cwd: folder,
      environment: { PATH: process.env.PATH ?? '', HOME: folder },
      mark: { name: 'CDL_TEST_CLUSTER', value: folder },
    },
  );
  const url = `http://127.0.0.1:${port}`;
  const end = head.ended.then(() => {
    throw new Error(`ray start ended:\n${head.tail()}`);
  });
  end.catch(() => undefined);
  await Promise.race([
    end,
    vi.waitFor(async () => expect((await fetch(`${url}/api/version`)).status).toBe(200), {
      timeout: 60_000,
      interval: 200,
    }),
  ]);
  return { url, head };
}

describe.skipIf(!python)(
  `a training as a job of a Ray cluster${python ? '' : ' (skipped: CDL_RAY names no python with ray)'}`,
  () => {
    let folder: string;
    let cluster: RayCluster;
    let head: Group;
    beforeAll(async () => {
      // Ray's sockets lie in it, and a path of a socket is short.
      folder = await mkdtemp(join(tmpdir(), 'cdl-ray-'));
      const started = await startCluster(folder);
      head = started.head;
      cluster = rayCluster({ address: started.url, token: null, network: {} }, undefined);
    }, 90_000);
    afterAll(async () => {
      await head?.clear();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    });
    const status = async () => {
      const jobs = (await (await fetch(new URL('api/jobs/', cluster.url))).json()) as { status: string }[];
      return jobs.map((job) => job.status).sort();
    };

    it('computes in Ray’s workers, goes on from its checkpoint when it failed, and is told why it did', () =>
      inFolder(async (place) => {
        const text = `${preamble}
if not job["resume"]:
    tell(kind="epoch", epoch=1, metrics={"loss": 0.5}, checkpoint=keep("at/1", "1"))
    here = os.getcwd() == os.path.dirname(os.path.abspath(__file__))
    print("Traceback: no such worker", here, os.environ.get("SECRET"), flush=True)
    sys.exit(9)
import ray
ray.init()
@ray.remote
def half(value):
    return value / 2
epoch = int(open(os.path.join(job["resume"], "state")).read()) + 1
tell(kind="epoch", epoch=epoch, metrics={"loss": ray.get(half.remote(epoch))}, checkpoint=keep(f"at/{epoch}", str(epoch)))
tell(kind="done", model=keep("model", "final"))
`;
        const launch = launchOnRay(cluster, 'train m');
        const environment = { PATH: '/nowhere', SECRET: 'of this machine' };
        const training = await commandTraining(place, python!, ['train.py', text], {
          launch,
          environment,
          restarts: 1,
        });
        const { messages, error } = await train(training);
        expect(error).toBeNull();
        expect(messages.map((one) => one.kind)).toEqual(['epoch', 'log', 'epoch', 'done']);
        expect(messages[2]).toMatchObject({ epoch: 2, metrics: { loss: 1 } });
        expect(messages[1]).toMatchObject({
          message: expect.stringMatching(
            /ended with exit code 9:[\s\S]*Traceback: no such worker True None[\s\S]*goes on/,
          ),
        });
        expect(await status()).toEqual(['FAILED', 'SUCCEEDED']);
      }));

    it('is stopped by SIGTERM, and what it keeps then is told', () =>
      inFolder(async (place) => {
        const text = `${preamble}
def stop(*_):
    tell(kind="checkpoint", path=keep("at/2", "two"), epoch=2, step=9)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
tell(kind="epoch", epoch=1, metrics={}, checkpoint=keep("at/1", "one"))
while True: signal.pause()
`;
        const launch = launchOnRay(cluster, 'train m');
        const training = await commandTraining(place, python!, ['train.py', text], { launch });
        const { messages, error } = await train(training, (_message, stop) => stop());
        expect(error?.code).toBe('interrupted');
        expect(messages.map((one) => one.kind)).toEqual(['epoch', 'checkpoint', 'stopped']);
        expect(await status()).toContain('STOPPED');
      }));

    it('whose machines do not see this job’s folder is told what to set', () =>
      inFolder(async (place) => {
        // To the cluster every path of the job is one of another machine.
        const before = createHttpServer(async (request, response) => {
          const sent = (await buffer(request)).toString().replaceAll(place, '/of-another-machine');
          const { method = 'GET', url = '' } = request;
          // Not fetch(): Ray refuses what looks like a browser.
          const answer = await ask(new URL(url, cluster.url), {
            method: method as 'GET',
            body: sent || null,
          });
          response.statusCode = answer.statusCode;
          response.end(await answer.body.text());
        }).listen(0, '127.0.0.1');
        try {
          await once(before, 'listening');
          const url = new URL(`http://127.0.0.1:${(before.address() as AddressInfo).port}/`);
          const launch = launchOnRay({ ...cluster, url }, 'train m');
          const { error } = await train(await commandTraining(place, python!, ['train.py', ''], { launch }));
          expect(error).toMatchObject({
            code: 'config-invalid',
            message: expect.stringMatching(/could not read .*can't open file '\/of-another-machine/s),
            hint: expect.stringMatching(/^set TMPDIR/),
          });
        } finally {
          before.closeAllConnections();
          before.close();
        }
      }));

    it('ends, with all it started, when nobody touches its lease any more', () =>
      inFolder(async (place) => {
        const waits = "require('child_process').spawn('sleep', ['1000']); setInterval(() => {}, 1000)";
        const command = [process.execPath, '-e', `console.log(process.pid); ${waits}`];
        await writeFile(join(place, 'plan.json'), JSON.stringify({ command, folder: place, seconds: 0.2 }));
        await writeFile(join(place, 'lease'), '');
        const entry = join(packageRoot(), 'src', 'train', 'ray-entry.py');
        const { code, stdout } = await run(python!, [entry], { env: { CDL_RAY: place } });
        expect(code).toBe(128 + 9);
        expect(isProcessAlive(Number(stdout.toString()))).toBe(false);
      }));
  },
);

it('a Ray cluster is that of cdl.yaml or of the environment, whose token goes nowhere else', () => {
  const access = { address: 'http://head:8265', token: 'secret', network: {} };
  expect(rayCluster(access, undefined)).toMatchObject({ url: new URL('http://head:8265/'), token: 'secret' });
  expect(rayCluster(access, 'http://head:8265/ray')).toMatchObject({
    url: new URL('http://head:8265/ray/'),
    token: 'secret',
  });
  expect(rayCluster(access, 'http://other:8265').token).toBeNull();
  for (const address of [null, 'auto', 'ray://head:10001'])
    expect(() => rayCluster({ ...access, address }, undefined)).toThrow(
      /has no cluster|is no http\(s\) address/,
    );
});
