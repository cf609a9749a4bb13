import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { digestBytes } from '../../src/core/digest.ts';
import { openScoringLog, type ScoringLog } from '../../src/serve/scoring.ts';
import { type ModelServer, startServer } from '../../src/serve/server.ts';
import { openServable } from '../../src/serve/tfjs.ts';
import type { Servable } from '../../src/serve/types.ts';
import { writeTinyPackage } from './tiny-package.ts';

let root: string;
let servable: Servable;
let server: ModelServer;
let scores: ScoringLog;
let at: string;
const bugs: unknown[] = [];

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cdl-server-'));
  const tiny = await writeTinyPackage(join(root, 'tiny'));
  servable = await openServable(tiny.folder, { package: tiny.digest, version: '3' });
  scores = openScoringLog(join(root, 'scores', 'tiny.jsonl'));
  server = await startServer({
    servable,
    candidate: digestBytes('candidate'),
    host: '127.0.0.1',
    port: 0,
    scores,
    bodyLimit: 100_000,
    onError: (error) => bugs.push(error),
  });
  at = `http://127.0.0.1:${server.port}`;
});

afterAll(async () => {
  await server.close();
  servable.dispose();
  await rm(root, { recursive: true, force: true });
});

const input = { name: 'input', datatype: 'UINT8', shape: [2, 2, 2], data: [1, 2, 3, 4, 5, 6, 7, 8] };

async function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(at + path, { method: 'POST', body: text, headers });
  return { status: response.status, headers: response.headers, body: (await response.json()) as never };
}

const infer = (body: unknown) => post('/v2/models/tiny/infer', body);

describe('the Open Inference Protocol v2', () => {
  const spec = join(process.env.CDL_SHARED ?? '../shared', 'specs', 'open_inference_rest.yaml');

  /** Every path of the protocol's OpenAPI file is asked, and answers as its schema says. */
  test.skipIf(!existsSync(spec))(
    'answers every path of its OpenAPI file as the schema there says',
    async () => {
      const document = parse(await readFile(spec, 'utf8')) as {
        paths: Record<string, Record<string, { responses?: Record<string, { content?: object }> }>>;
        components: { schemas: Record<string, object> };
      };
      // References are written out; tensor_data refers to itself, and what matters of it here is that it is an array.
      const schemaOf = (node: object): z.ZodType => {
        let text = JSON.stringify(node);
        while (text.includes('"$ref"')) {
          text = text.replace(/\{"\$ref":"#\/components\/schemas\/(\w+)"\}/g, (_all, name: string) =>
            name === 'tensor_data' ? '{"type":"array"}' : JSON.stringify(document.components.schemas[name]),
          );
        }
        return z.fromJSONSchema(JSON.parse(text));
      };
      let asked = 0;
      for (const [path, methods] of Object.entries(document.paths)) {
        for (const method of ['get', 'post'] as const) {
          const operation = methods[method];
          if (!operation) continue;
          const url = path.replace(/\$\{MODEL_NAME\}/, 'tiny').replace(/\$\{MODEL_VERSION\}/, '3');
          const response = await fetch(at + url, {
            method,
            ...(method === 'post' ? { body: JSON.stringify({ inputs: [input] }) } : {}),
          });
          expect(response.status, url).toBe(200);
          const content = operation.responses?.['200']?.content as
            | { 'application/json': { schema: object } }
            | undefined;
          const body = await response.json();
          if (content) schemaOf(content['application/json'].schema).parse(body);
          asked++;
        }
      }
      expect(asked).toBe(Object.keys(document.paths).length);
      const refusal = await infer({});
      expect(refusal.status).toBe(400);
      schemaOf(document.components.schemas.inference_error_response!).parse(refusal.body);
    },
  );

  test('infers with and without a version in the path, flat or nested, all outputs or those asked for', async () => {
    const flat = await infer({ id: 'mine', inputs: [input] });
    expect(flat.status).toBe(200);
    expect(flat.body).toMatchObject({
      model_name: 'tiny',
      model_version: '3',
      id: 'mine',
      outputs: [
        { name: 'probabilities', datatype: 'FP32', shape: [2, 3] },
        { name: 'label', datatype: 'BYTES', shape: [2] },
      ],
    });
    expect(flat.headers.get('x-request-id')).toBe('mine');
    const nested = await post('/v2/models/tiny/versions/3/infer', {
      id: 'mine',
      inputs: [
        {
          ...input,
          data: [
            [
              [1, 2],
              [3, 4],
            ],
            [
              [5, 6],
              [7, 8],
            ],
          ],
        },
      ],
    });
    expect(nested.body).toEqual(flat.body);
    const one = await infer({ inputs: [input], outputs: [{ name: 'label' }] });
    expect((one.body as { outputs: unknown[] }).outputs).toHaveLength(1);
  });

  const wrong: [string, unknown, RegExp][] = [
    ['no JSON', '{"inputs": [', /not JSON/],
    ['no object', [1], /must be an object/],
    ['no inputs', { inputs: {} }, /inputs must be an array/],
    ['an unknown input', { inputs: [{ ...input, name: 'x' }] }, /"x" is not an input.*"input"/],
    ['a missing input', { inputs: [] }, /input "input" is missing/],
    ['an input twice', { inputs: [input, input] }, /appears twice/],
    ['an unknown datatype', { inputs: [{ ...input, datatype: 'FP8' }] }, /"FP8" is not one of/],
    ['BYTES for numbers', { inputs: [{ ...input, datatype: 'BYTES' }] }, /takes UINT8/],
    ['another rank', { inputs: [{ ...input, shape: [8] }] }, /takes \[-1, 2, 2\]/],
    ['an empty batch', { inputs: [{ ...input, shape: [0, 2, 2], data: [] }] }, /takes \[-1, 2, 2\]/],
    ['a negative size', { inputs: [{ ...input, shape: [-1, 2, 2] }] }, /sizes are integers from 0/],
    ['too little data', { inputs: [{ ...input, data: [1] }] }, /has 1 elements.*needs 8/],
    [
      'ragged data',
      {
        inputs: [
          {
            ...input,
            data: [
              [[1, 2], [3]],
              [
                [5, 6],
                [7, 8],
              ],
            ],
          },
        ],
      },
      /dimension 2/,
    ],
    [
      'a number out of range',
      { inputs: [{ ...input, data: [1, 2, 3, 4, 5, 6, 7, 256] }] },
      /data\[7\] is 256, not a UINT8/,
    ],
    ['a string among numbers', { inputs: [{ ...input, data: [1, 2, 3, 4, 5, 6, 7, '8'] }] }, /not a UINT8/],
    ['an unknown output', { inputs: [input], outputs: [{ name: 'x' }] }, /"x" is not an output/],
    ['an id that is no string', { id: 1, inputs: [input] }, /id must be a string/],
    [
      'the binary extension',
      { inputs: [{ ...input, parameters: { binary_data_size: 8 } }] },
      /binary tensor extension/,
    ],
  ];
  test.each(wrong)('refuses %s with 400 and says what is wrong', async (_name, body, message) => {
    const answer = await infer(body);
    expect(answer.status).toBe(400);
    expect((answer.body as { error: string }).error).toMatch(message);
  });

  test('knows neither other models nor versions, methods nor paths', async () => {
    const cases: [string, string, number][] = [
      ['GET', '/v2/models/other', 404],
      ['POST', '/v2/models/other/infer', 404],
      ['GET', '/v2/models/tiny/versions/4/ready', 404],
      ['GET', '/v2/models/tiny/infer', 405],
      ['POST', '/v2/models/tiny', 405],
      ['DELETE', '/metrics', 405],
      ['GET', '/v2/models/%zz', 404],
      ['GET', '/', 404],
    ];
    for (const [method, path, status] of cases) {
      const response = await fetch(at + path, { method });
      expect([path, response.status]).toEqual([path, status]);
      expect(await response.json()).toEqual({ error: expect.any(String) });
    }
  });

  test('refuses a body above the limit, announced or not, and compressed ones', async () => {
    const large = JSON.stringify({ inputs: [input], padding: 'x'.repeat(200_000) });
    expect((await infer(large)).status).toBe(413);
    const streamed = await new Promise<number>((resolve, reject) => {
      const asked = request(`${at}/v2/models/tiny/infer`, { method: 'POST' }, (response) => {
        response.resume();
        resolve(response.statusCode!);
        asked.destroy();
      });
      asked.on('error', reject);
      asked.write(large.slice(0, 150_000));
    });
    expect(streamed).toBe(413);
    expect((await post('/v2/models/tiny/infer', '{}', { 'content-encoding': 'gzip' })).status).toBe(415);
  });
});

describe('Seldon v1', () => {
  test('predicts for ndarray and tensor and answers in the same form', async () => {
    const flat = await post('/api/v1.0/predictions', {
      data: {
        names: ['p'],
        ndarray: [
          [1, 2, 3, 4],
          [5, 6, 7, 8],
        ],
      },
    });
    expect(flat.status).toBe(200);
    expect(flat.body).toMatchObject({
      data: {
        names: ['a', 'b', 'c'],
        ndarray: [[expect.any(Number), expect.any(Number), expect.any(Number)], expect.any(Array)],
      },
      meta: { requestPath: { tiny: expect.stringContaining('3@sha256:') }, puid: expect.any(String) },
    });
    const tensor = await post('/api/v1.0/predictions', {
      data: { tensor: { shape: [2, 2, 2], values: [1, 2, 3, 4, 5, 6, 7, 8] } },
      meta: { puid: 'p1' },
    });
    const rows = (flat.body as { data: { ndarray: number[][] } }).data.ndarray;
    expect(tensor.body).toMatchObject({
      data: { tensor: { shape: [2, 3], values: rows.flat() } },
      meta: { puid: 'p1' },
    });
  });

  test.each([
    [{}],
    [{ data: {} }],
    [{ data: { ndarray: 1 } }],
    [{ data: { ndarray: [] } }],
    [{ data: { ndarray: [[1, 2]] } }],
    [{ data: { ndarray: [[1, 2, 3, 'x']] } }],
    [{ data: { ndarray: [[0.5, 0, 0, 0]] } }],
    [{ data: { tensor: { shape: [1, 4], values: [1] } } }],
    [{ strData: 'x' }],
  ])('refuses %j in its own error form', async (body) => {
    const answer = await post('/api/v1.0/predictions', body);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ status: { code: 400, info: expect.any(String), status: 'FAILURE' } });
  });

  test('takes feedback', async () => {
    const good = { reward: 1, truth: { data: { ndarray: [2] } }, response: { meta: { puid: 'p1' } } };
    expect((await post('/api/v1.0/feedback', good)).status).toBe(200);
    expect((await post('/api/v1.0/feedback', {})).status).toBe(400);
  });
});

describe('the server', () => {
  test('never answers malformed input with 500', async () => {
    const anything = fc.oneof(fc.jsonValue(), fc.constant(undefined));
    const tensor = fc.record(
      {
        name: fc.oneof(fc.constant('input'), anything),
        datatype: fc.oneof(fc.constantFrom('UINT8', 'FP32', 'BYTES', 'BOOL', 'INT64', '__proto__'), anything),
        shape: fc.oneof(fc.constant([1, 2, 2]), fc.array(fc.oneof(fc.integer(), fc.double())), anything),
        data: fc.oneof(fc.array(fc.oneof(fc.integer(), fc.double(), fc.string(), fc.boolean())), anything),
        parameters: anything,
      },
      { requiredKeys: [] },
    );
    const body = fc.oneof(
      fc.record(
        { id: anything, inputs: fc.oneof(fc.array(fc.oneof(tensor, anything)), anything), outputs: anything },
        { requiredKeys: [] },
      ),
      fc.record({
        data: fc.oneof(fc.record({ ndarray: anything, tensor }, { requiredKeys: [] }), anything),
        meta: anything,
      }),
      anything,
      fc.string(),
    );
    const path = fc.constantFrom('/v2/models/tiny/infer', '/api/v1.0/predictions', '/api/v1.0/feedback');
    await fc.assert(
      fc.asyncProperty(path, body, async (where, sent) => {
        const { status } = await post(where, sent === undefined ? '' : sent);
        expect([200, 400, 413]).toContain(status);
      }),
      { numRuns: 400 },
    );
    expect(bugs).toEqual([]);
  });

  test('answers a failing model with 500 without its words, and tells its log', async () => {
    const failing = await startServer({
      servable: { ...servable, infer: () => Promise.reject(new Error('the secret inside')) },
      candidate: '',
      host: '127.0.0.1',
      port: 0,
      scores: null,
      onError: (error) => bugs.push(error),
    });
    const response = await fetch(`http://127.0.0.1:${failing.port}/v2/models/tiny/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [input] }),
    });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret');
    expect(bugs.splice(0)).toEqual([new Error('the secret inside')]);
    await failing.close();
  });

  test('finishes what it is answering when told to stop, and refuses the rest', async () => {
    let go = (): void => {};
    let started = (): void => {};
    const isStarted = new Promise<void>((resolve) => {
      started = resolve;
    });
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const slow = await startServer({
      servable: {
        info: servable.info,
        infer: async (inputs) => {
          started();
          await gate;
          return servable.infer(inputs);
        },
        dispose() {},
      },
      candidate: '',
      host: '127.0.0.1',
      port: 0,
      scores: null,
    });
    const url = `http://127.0.0.1:${slow.port}/v2/models/tiny/infer`;
    const send = () => fetch(url, { method: 'POST', body: JSON.stringify({ inputs: [input] }) });
    const first = send();
    await isStarted;
    const closed = slow.close();
    const second = await send();
    expect(second.status).toBe(503);
    expect(second.headers.get('connection')).toBe('close');
    expect((await fetch(`http://127.0.0.1:${slow.port}/v2/health/ready`)).status).toBe(503);
    go();
    expect((await first).status).toBe(200);
    await closed;
    await expect(send()).rejects.toThrow();
  });

  test('counts requests by route and code and names what it serves', async () => {
    const agent = new Agent({ keepAlive: true });
    await infer({ inputs: [input] });
    const text = await (await fetch(`${at}/metrics`)).text();
    agent.destroy();
    expect(text).toMatch(/cdl_requests_total\{route="infer",code="200"\} \d+/);
    expect(text).toMatch(/cdl_requests_total\{route="other",code="400"\} \d+/);
    expect(text).toMatch(/cdl_request_duration_seconds_bucket\{le="0.001",route="infer"\} \d+/);
    expect(text).toMatch(
      /cdl_model_info\{model="tiny",version="3",package="sha256:\w+",candidate="sha256:\w+"\} 1/,
    );
    expect(text).toMatch(/cdl_requests_in_flight 1\n/);
    expect(text).toMatch(/cdl_scoring_records_total\{fate="dropped"\} 0/);
  });

  test('lets nobody ask unrecorded who does not come through a gateway', async () => {
    await post('/v2/models/tiny/infer', { id: 'sly', inputs: [input] }, { 'x-cdl-smoke': '1' });
    await scores.flush();
    expect(await readFile(join(root, 'scores', 'tiny.jsonl'), 'utf8')).toContain('"id":"sly"');
  });

  test('records what it answered and what it was told', async () => {
    await post('/v2/models/tiny/infer', { id: 'r1', inputs: [{ ...input, datatype: 'FP32' }] });
    await post('/api/v1.0/feedback', { reward: 0.5, response: { meta: { puid: 'r1' } } });
    await scores.flush();
    const lines = (await readFile(join(root, 'scores', 'tiny.jsonl'), 'utf8')).trim().split('\n');
    const records = lines.map((line) => JSON.parse(line) as Record<string, never>);
    const scored = records.find((one) => one.id === ('r1' as never)) as unknown as {
      inputs: { content: { bytes: string } }[];
    };
    expect(scored).toMatchObject({
      kind: 'scored',
      model: 'tiny',
      version: '3',
      protocol: 'v2',
      latency: expect.any(Number),
    });
    const bytes = Buffer.from(scored.inputs[0]!.content.bytes, 'base64');
    expect(bytes.readFloatLE(4)).toBe(2);
    expect(records.at(-1)).toMatchObject({ kind: 'feedback', request: 'r1', reward: 0.5 });
  });
});
