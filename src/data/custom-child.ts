import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import type { Answer, ItemLine } from './custom-protocol.ts';

/** What a module exports: `check` says why an item is invalid, `clean` gives it as it is to be stored (null sets it aside). */
interface CustomModule {
  check?: (item: Given) => unknown;
  clean?: (item: Given) => unknown;
}

/** An item as a module sees it. `text` is null where the bytes are no UTF-8. */
interface Given {
  id: string;
  extension: string;
  label: string | null;
  attributes: Record<string, string>;
  text: string | null;
  bytes: Uint8Array;
}

function given(line: ItemLine): Given {
  const { id, extension, label, attributes, text, base64 } = line;
  const bytes = text === undefined ? Buffer.from(base64 ?? '', 'base64') : Buffer.from(text, 'utf8');
  return { id, extension, label, attributes, text: text ?? null, bytes };
}

function reasonsOf(value: unknown): string[] {
  if (value === null || value === undefined || value === true) return [];
  if (value === false) return ['check says no'];
  const reasons = [value].flat();
  if (reasons.every((one) => typeof one === 'string')) return reasons;
  throw new TypeError('check returned neither null, a boolean, a text nor a list of texts');
}

function changesOf(value: unknown): Omit<Answer, 'id'> {
  if (value === null) return { reject: 'clean set it aside' };
  if (typeof value === 'string') return { text: value };
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') };
  if (typeof value !== 'object')
    throw new TypeError('clean returned neither null, a text, bytes nor an item');
  const { text, bytes, extension, attributes, reject } = value as Partial<Given> & { reject?: string };
  return {
    ...(bytes instanceof Uint8Array && typeof text !== 'string'
      ? { base64: Buffer.from(bytes).toString('base64') }
      : typeof text === 'string'
        ? { text }
        : {}),
    ...(extension !== undefined && { extension }),
    ...(attributes !== undefined && { attributes }),
    ...(reject !== undefined && { reject }),
  };
}

/** The process of a custom module: `custom-child.js <bundle> check|clean`, items on stdin, answers on stdout. */
async function main(path: string, task: 'check' | 'clean'): Promise<void> {
  // What the module prints must not mix with the answers.
  console.log = console.error;
  console.info = console.error;
  // So that what it throws names its own files and lines, not those of the bundle.
  process.setSourceMapsEnabled(true);
  const code = (await import(pathToFileURL(path).href)) as CustomModule;
  const action = code[task];
  if (typeof action !== 'function') throw new TypeError(`the module must export the function ${task}`);
  for await (const line of createInterface({ input: process.stdin })) {
    const item = given(JSON.parse(line) as ItemLine);
    let answer: Answer;
    try {
      const result = await action(item);
      answer = { id: item.id, ...(task === 'check' ? { reasons: reasonsOf(result) } : changesOf(result)) };
    } catch (error) {
      console.error(`${task} failed for item ${item.id}:`);
      throw error;
    }
    if (!process.stdout.write(`${JSON.stringify(answer)}\n`))
      await new Promise<void>((resolve) => process.stdout.once('drain', resolve));
  }
}

try {
  await main(process.argv[2]!, process.argv[3] as 'check' | 'clean');
} catch (error) {
  const said = error instanceof Error ? (error.stack ?? error.message) : String(error);
  // Our own lines, minified, say nothing to the author of the module.
  const own = said.split('\n').filter((line) => !/custom-child|node:internal/.test(line));
  console.error(own.join('\n').replaceAll(`${process.cwd()}/`, ''));
  process.exit(1);
}
