import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { shortDigest } from '../core/digest.ts';
import { describeError, UserError } from '../core/error.ts';
import { idxHeader } from '../data/idx.ts';
import { type ItemArray, npyHeader } from '../data/npy.ts';
import type { RawItem } from '../data/raw-item.ts';
import { readRawItems } from '../data/shards.ts';
import {
  asJson,
  codeEncoder,
  configuredEncoder,
  configuredState,
  type EncoderState,
  encodeState,
  type ItemEncoder,
  stateFile,
} from '../model/encoder.ts';
import type { ModelCode } from '../train/types.ts';
import type { TransformJob, TransformMessage } from './transform-job.ts';

type Tell = (message: TransformMessage) => void;

/** The items with a label, and how many have none. */
async function* labelled(data: string, seen: { all: number; unlabelled: number }) {
  for await (const item of readRawItems(data)) {
    seen.all++;
    if (item.label === null) seen.unlabelled++;
    else yield item as RawItem & { label: number };
  }
}

/** How many items the data set has: the lines of its index. What fit() saw tells nothing, it may be absent or stop early. */
async function itemsIn(data: string): Promise<number> {
  let count = 0;
  for await (const chunk of createReadStream(join(data, 'index.jsonl')) as AsyncIterable<Buffer>) {
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) count++;
  }
  return count;
}

function sameNumbers(a: ItemArray, b: ItemArray): boolean {
  return a.constructor === b.constructor && a.length === b.length && a.every((value, at) => value === b[at]);
}

/** The numbers of an item; an error names it. */
async function named(item: RawItem, encode: ItemEncoder): Promise<ItemArray> {
  try {
    return await encode(item.bytes);
  } catch (error) {
    if (!(error instanceof UserError) || error.code !== 'data-invalid') throw error;
    throw new UserError(
      'data-invalid',
      `item ${shortDigest(item.id)} (${item.attributes.path ?? item.extension}): ${error.message}`,
      'have validate set such items aside (rules in cdl.yaml), or export encode from the model code',
    );
  }
}

/** Fits, then encodes item by item: at no time more than one item and its numbers are in memory. */
async function transform(job: TransformJob, tell: Tell): Promise<void> {
  const total = await itemsIn(job.data);
  let state: EncoderState['state'] = null;
  let encode: ItemEncoder;
  if (typeof job.code === 'string') {
    const code = (await import(pathToFileURL(job.code).href)) as Partial<ModelCode>;
    if (typeof code.encode !== 'function') {
      throw new UserError(
        'code-invalid',
        'the entry module does not export the function encode, which raw items need',
        'export it, or say how pictures or records become numbers: encode of the model in cdl.yaml',
      );
    }
    tell({ kind: 'progress', what: 'fitting', share: 0 });
    state = asJson(
      code.fit
        ? await code.fit(labelled(job.data, { all: 0, unlabelled: 0 }), job.parameters)
        : job.parameters,
    );
    encode = codeEncoder(code.encode, state);
  } else {
    encode = configuredEncoder(job.code);
  }
  await mkdir(job.output, { recursive: true });
  const seen = { all: 0, unlabelled: 0 };
  const labels: number[] = [];
  const groups: string[] = [];
  let first: { bytes: Uint8Array; made: ItemArray } | null = null;
  const file = await open(join(job.output, 'items.npy'), 'w');
  try {
    for await (const item of labelled(job.data, seen)) {
      const made = await named(item, encode);
      if (first === null) {
        first = { bytes: item.bytes, made: made.slice() };
        await file.write(npyHeader([0, made.length], 'uint8'));
      } else if (made.length !== first.made.length || made.constructor !== first.made.constructor) {
        throw new UserError(
          'code-invalid',
          `encode() gave ${made.length} numbers for one item and ${first.made.length} for another`,
        );
      }
      await file.write(new Uint8Array(made.buffer, made.byteOffset, made.byteLength));
      labels.push(item.label);
      groups.push(item.attributes.group ?? item.id);
      if (labels.length % 64 === 0)
        tell({ kind: 'progress', what: 'encoding', share: Math.min(1, seen.all / total) });
    }
    tell({ kind: 'progress', what: 'encoding', share: 1 });
    if (first === null) throw new UserError('data-invalid', 'no item of the data set has a label');
    if (!sameNumbers(first.made, await encode(first.bytes))) {
      throw new UserError(
        'code-invalid',
        'encode() answers differently when it is given the same item again',
      );
    }
    const type = first.made instanceof Uint8Array ? 'uint8' : 'float32';
    const told: EncoderState =
      typeof job.code === 'string'
        ? { v: 1, type, shape: [first.made.length], state }
        : configuredState(job.code);
    const { shape } = told;
    await file.write(npyHeader([labels.length, ...shape], type), 0, undefined, 0);
    await writeFile(
      join(job.output, 'labels.idx'),
      Buffer.concat([idxHeader([labels.length]), Uint8Array.from(labels)]),
    );
    await writeFile(join(job.output, 'groups.json'), `${JSON.stringify(groups)}\n`);
    await writeFile(join(job.output, 'classes.json'), await readFile(join(job.data, 'classes.json')));
    await writeFile(join(job.output, stateFile), encodeState(told));
    tell({ kind: 'done', count: labels.length, unlabelled: seen.unlabelled, type, shape });
  } finally {
    await file.close();
  }
}

/** The transforming process: it has the training items, the bundled code and nothing else of the job that started it. */
async function main(path: string): Promise<void> {
  const out = createWriteStream('', { fd: 3 });
  const tell: Tell = (message) => out.write(`${JSON.stringify(message)}\n`);
  try {
    const job = JSON.parse(await readFile(path, 'utf8')) as TransformJob;
    await transform(job, tell);
  } catch (error) {
    const { code, message, hint } =
      error instanceof UserError || !(error instanceof Error) || error.name === 'UpstreamError'
        ? describeError(error)
        : {
            code: 'code-invalid',
            message: `the model code failed: ${error.name}: ${error.message}`,
            hint: null,
          };
    tell({ kind: 'error', code, message, hint: hint ?? '' });
    process.exitCode = 1;
  }
  await new Promise<void>((done) => out.end(done));
}

await main(process.argv[2]!);
process.exit();
