import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Digest, digestBytes } from '../src/core/digest.ts';
import { openLocalTarget } from '../src/deploy/local.ts';
import { planDeployment } from '../src/deploy/plan.ts';
import { packageRoot } from '../src/exec/root.ts';
import { classifierSignature } from '../src/serve/package.ts';
import { openTf } from '../src/train/backend.ts';
import { encodeModel } from '../src/train/model-files.ts';
import type { Row } from './row.ts';

const seconds = 3;
const connections = 16;

/** A classifier of random weights: `units` hidden (none for a single layer). */
async function writePackage(
  folder: string,
  shape: number[],
  units: number,
  classes: number,
): Promise<Digest> {
  const { tf } = await openTf();
  const names = Array.from({ length: classes }, (_, index) => `class ${index}`);
  const model = tf.sequential({
    layers: [
      tf.layers.flatten({ inputShape: shape }),
      ...(units > 0 ? [tf.layers.dense({ units, activation: 'relu' })] : []),
      tf.layers.dense({ units: classes, activation: 'softmax' }),
    ],
  });
  const signature = classifierSignature('UINT8', shape, names);
  const files: Record<string, string | Uint8Array> = {
    ...encodeModel(model),
    'signature.json': JSON.stringify({ v: 1, model: 'bench', runtime: 'tfjs', signature }),
    'code.mjs': "export const preprocess = (tf, raw) => tf.div(tf.cast(raw, 'float32'), 255);\n",
  };
  model.dispose();
  await mkdir(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return digestBytes(folder);
}

async function startServer(
  folder: string,
  digest: Digest,
  scores: string,
): Promise<{ child: ChildProcess; port: number }> {
  const program = join(packageRoot(), 'dist', 'serve', 'main.js');
  const args = [program, '--package', folder, '--digest', digest, '--scores', scores, '--attached'];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { child, port: (JSON.parse(line) as { port: number }).port };
}

/** Sends one request after the other over each of `clients` connections; requests a second and the median wait in ms. */
async function load(
  port: number,
  path: string,
  body: string,
  clients: number,
): Promise<{ rate: number; p50: number; p99: number }> {
  const bytes = Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  const waits: number[] = [];
  const end = performance.now() + seconds * 1000;
  const warm = performance.now() + 500;
  // A bare socket: node's own HTTP client costs more than the servers that are measured.
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1');
      let since = 0;
      let held = '';
      const send = (): void => {
        since = performance.now();
        socket.write(bytes);
      };
      socket.setNoDelay(true);
      socket.on('connect', send);
      socket.on('error', reject);
      socket.on('close', () => resolve());
      socket.on('data', (chunk) => {
        held += chunk.toString('latin1');
        const head = held.indexOf('\r\n\r\n');
        if (head < 0) return;
        const length = Number(/content-length: (\d+)/i.exec(held)?.[1]);
        if (held.length < head + 4 + length) return;
        if (!held.startsWith('HTTP/1.1 200')) {
          socket.destroy(new Error(held.slice(0, 400)));
          return;
        }
        held = '';
        const now = performance.now();
        if (since > warm) waits.push(now - since);
        if (now < end) send();
        else socket.end();
      });
    });
  await Promise.all(Array.from({ length: clients }, one));
  waits.sort((a, b) => a - b);
  const at = (share: number) => waits[Math.min(waits.length - 1, Math.floor(waits.length * share))] ?? 0;
  return { rate: waits.length / (seconds - 0.5), p50: at(0.5), p99: at(0.99) };
}

/** Model server and gateway beside a bare node:http server that parses and echoes the same JSON without any model. */
export async function benchServe(): Promise<Row[]> {
  const root = await mkdtemp(join(tmpdir(), 'cdl-bench-serve-'));
  const rows: Row[] = [];
  const bare = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const text = JSON.stringify(JSON.parse(Buffer.concat(chunks).toString()));
      response.writeHead(200, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
      });
      response.end(text);
    });
  });
  await new Promise<void>((resolve) => bare.listen(0, '127.0.0.1', resolve));
  const target = openLocalTarget({ folder: join(root, 'target'), observe: { requests: 1, milliseconds: 0 } });
  try {
    for (const [name, shape, units] of [
      ['trivial model', [2, 2], 0],
      ['784-128-10 model', [28, 28], 128],
    ] as const) {
      const count = shape[0] * shape[1];
      const data = Array.from({ length: count }, (_, index) => (index * 37) % 256);
      const body = JSON.stringify({
        inputs: [{ name: 'input', datatype: 'UINT8', shape: [1, ...shape], data }],
      });
      const path = '/v2/models/bench/infer';
      const folder = join(root, name);
      const digest = await writePackage(folder, [...shape], units, 10);
      const echo = await load((bare.address() as AddressInfo).port, path, body, connections);
      const { child, port } = await startServer(folder, digest, join(root, 'scores.jsonl'));
      const server = await load(port, path, body, connections);
      const alone = await load(port, path, body, 1);
      child.kill('SIGTERM');
      await once(child, 'exit');
      const plan = planDeployment({
        project: 'bench',
        model: 'bench',
        environment: 'production',
        from: null,
        fromPackage: null,
        to: digest,
        package: digest,
        version: 1,
        bytes: 0,
        environmentConfig: { target: 'local', replicas: 1, traffic: [100], max_error_rate: 0 },
        resources: null,
      });
      let endpoint = '';
      for await (const step of target.apply(plan, folder, new AbortController().signal)) {
        if (step.kind === 'ready') endpoint = step.endpoint;
        if (step.kind === 'restored') throw new Error(step.reason);
      }
      const gateway = await load(Number(new URL(endpoint).port), path, body, connections);
      const versus = (what: string, value: number, unit: string, baseline: number | null): Row => ({
        name: `${name}: ${what}`,
        value,
        unit,
        baseline,
        ratio: baseline === null ? null : value / baseline,
      });
      rows.push(
        versus('server, requests/s (against a bare echo)', server.rate, '1/s', echo.rate),
        versus('server p50, 1 connection', alone.p50, 'ms', null),
        versus(`server p50, ${connections} connections`, server.p50, 'ms', echo.p50),
        versus(`server p99, ${connections} connections`, server.p99, 'ms', echo.p99),
        versus('through the gateway, requests/s (against the server)', gateway.rate, '1/s', server.rate),
      );
    }
  } finally {
    await target.stop();
    bare.close();
    await rm(root, { recursive: true, force: true });
  }
  return rows;
}
