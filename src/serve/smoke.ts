import { request } from 'node:http';
import { elements, fits } from './tensor.ts';
import type { Signature } from './types.ts';

/** Bytes that look like no particular item but differ from each other, the same every time. */
function sampleData(datatype: string, count: number): (number | boolean | string)[] {
  return Array.from({ length: count }, (_, index) => {
    const value = (index * 73 + 11) % 256;
    if (datatype === 'BOOL') return value > 127;
    return datatype === 'BYTES' ? String(value) : value;
  });
}

/** What a model of raw items is known to take; null where it takes something else, or only its own code knows. */
export type SmokeItems =
  | { kind: 'text' }
  | { kind: 'picture' }
  | { kind: 'record'; fields: readonly string[] };

/** A white pixel (PNG). */
const picture =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==';

function sampleItems(items: SmokeItems, count: number): string[] {
  const each = (make: (index: number) => string) => Array.from({ length: count }, (_, index) => make(index));
  if (items.kind === 'picture') return each(() => picture);
  if (items.kind === 'text') {
    return each((index) => `Text ${index + 1} of a deployment: the quick brown fox jumps over the lazy dog.`);
  }
  const { fields } = items;
  const numbers = sampleData('FP32', fields.length * count);
  return each((index) =>
    JSON.stringify(
      Object.fromEntries(fields.map((field, at) => [field, numbers[index * fields.length + at]])),
    ),
  );
}

/**
 * What the items of a package are, as far as is known without its code: `encode` of `cdl.yaml` names pictures or the fields of
 * records, and whoever takes texts takes any.
 */
export function smokeItems(
  signature: Signature,
  encode: { pixels?: unknown; numbers?: readonly string[] | undefined } | null,
): SmokeItems | null {
  if (encode?.numbers) return { kind: 'record', fields: encode.numbers };
  if (encode?.pixels !== undefined) return { kind: 'picture' };
  const isText = signature.inputs.every(({ parameters }) => parameters?.item === 'text');
  return isText ? { kind: 'text' } : null;
}

/** Requests every server of this signature must answer: one item, and three at once. */
export function smokeRequests(signature: Signature, items: SmokeItems | null = null): object[] {
  return [1, 3].map((batch) => ({
    id: `smoke-${batch}`,
    inputs: signature.inputs.map(({ name, datatype, shape }) => {
      const concrete = shape.map((size) => (size === -1 ? batch : size));
      const count = elements(concrete);
      const data = items ? sampleItems(items, count) : sampleData(datatype, count);
      return { name, datatype, shape: concrete, data };
    }),
  }));
}

/**
 * What is wrong with an answer to a smoke request, or null: names, types, shapes, sizes as the signature says; FP32 rows
 * as wide as the classes are probabilities (finite, 0 to 1, sum 1 within 0.001); labels are classes.
 */
export function smokeProblem(signature: Signature, batch: number, body: unknown): string | null {
  const outputs = (body as { outputs?: unknown } | null)?.outputs;
  if (!Array.isArray(outputs)) return 'the answer has no outputs';
  for (const expected of signature.outputs) {
    const output = outputs.find((one: { name?: unknown } | null) => one?.name === expected.name) as
      | { datatype?: unknown; shape?: unknown; data?: unknown }
      | undefined;
    if (!output) return `output "${expected.name}" is missing`;
    if (output.datatype !== expected.datatype) {
      return `output "${expected.name}" is ${String(output.datatype)}, not ${expected.datatype}`;
    }
    const { shape, data } = output;
    if (!Array.isArray(shape) || !fits(shape as number[], expected.shape) || shape[0] !== batch) {
      return `output "${expected.name}" has the shape ${JSON.stringify(shape)}, not [${expected.shape.join(', ')}] for ${batch} items`;
    }
    if (!Array.isArray(data) || data.length !== elements(shape as number[])) {
      return `output "${expected.name}" has data of another length than its shape`;
    }
    const problem = valueProblem(signature, expected, data);
    if (problem) return `output "${expected.name}" ${problem}`;
  }
  return null;
}

function valueProblem(
  { classes }: Signature,
  expected: Signature['outputs'][number],
  data: unknown[],
): string | null {
  if (expected.datatype === 'BYTES') {
    const stranger = data.find((label) => !classes.includes(label as string));
    return stranger === undefined ? null : `holds ${JSON.stringify(stranger)}, which is no class`;
  }
  if (expected.datatype !== 'FP32' || expected.shape.at(-1) !== classes.length) return null;
  for (let start = 0; start < data.length; start += classes.length) {
    const row = data.slice(start, start + classes.length);
    if (!row.every((p) => typeof p === 'number' && p >= 0 && p <= 1)) {
      return `holds ${JSON.stringify(row.slice(0, 3))}…, which are no probabilities`;
    }
    const sum = (row as number[]).reduce((a, b) => a + b, 0);
    if (Math.abs(sum - 1) > 1e-3) return `has probabilities that add up to ${sum}`;
  }
  return null;
}

/**
 * Sends the smoke requests to one server process, past the gateway and its counts. What is wrong, or null. Where it is known
 * what its `items` are the server has to answer for such; otherwise a model of raw items may refuse what is none of its kind:
 * that its own code said so (400) is an answer too.
 */
export async function smoke(
  port: number,
  model: string,
  signature: Signature,
  items: SmokeItems | null = null,
): Promise<string | null> {
  for (const [index, body] of smokeRequests(signature, items).entries()) {
    const batch = [1, 3][index]!;
    let answer: { status: number; text: string };
    try {
      answer = await post(port, `/v2/models/${encodeURIComponent(model)}/infer`, JSON.stringify(body));
    } catch (error) {
      return `it does not answer: ${error instanceof Error ? error.message : String(error)}`;
    }
    const mayRefuse = items === null && signature.inputs.some((input) => input.datatype === 'BYTES');
    if (mayRefuse && answer.status === 400) continue;
    if (answer.status !== 200) return `it answers ${answer.status}: ${answer.text.slice(0, 200)}`;
    const problem = smokeProblem(signature, batch, JSON.parse(answer.text));
    if (problem) return problem;
  }
  return null;
}

function post(port: number, path: string, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method: 'POST',
        timeout: 30_000,
        headers: { 'content-type': 'application/json', 'x-cdl-smoke': '1' },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode!, text: Buffer.concat(chunks).toString('utf8') }),
        );
        response.on('error', reject);
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer within 30 s')));
    asked.on('error', reject);
    asked.end(body);
  });
}
