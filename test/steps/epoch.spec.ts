import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { transform } from 'esbuild';
import { expect, it } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import { steps } from '../../src/steps/index.ts';
import type { Step } from '../../src/steps/types.ts';

const root = packageRoot();
/** One file per step, so that changes to different steps do not meet in one. */
const snapshotOf = (step: string): string => join(root, 'test', 'steps', 'epochs', `${step}.json`);
/** Where the work of a step is done. Other layers carry bytes and messages; what they change shows in no outcome. */
const working = /^src\/(data|train|model|steps)\//;
/** The machinery around all steps; it is not what any of them makes. */
const around = new Set(
  ['context', 'run-step', 'handover', 'index', 'types'].map((name) => `src/steps/${name}.ts`),
);

interface Source {
  digest: string;
  uses: string[];
}

/** A file's code without comments and spaces, and the files of the working layers it imports or starts. */
async function readSource(path: string): Promise<Source> {
  const text = await readFile(join(root, path), 'utf8');
  const { code } = await transform(text, { loader: 'ts', minifyWhitespace: true, legalComments: 'none' });
  const imported = [...code.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map(([, specifier]) =>
    relative(root, join(root, dirname(path), specifier!)),
  );
  // `join(packageRoot(), 'dist', 'model', 'child.js')`: a program of its own.
  const started = [...code.matchAll(/"dist","([\w-]+)","([\w-]+)\.js"/g)].map(
    ([, folder, name]) => `src/${folder}/${name}.ts`,
  );
  const uses = [...imported, ...started].filter(
    (used) => working.test(used) && !around.has(used) && existsSync(join(root, used)),
  );
  return { digest: createHash('sha256').update(code).digest('hex').slice(0, 16), uses };
}

async function sourcesOf(step: Step): Promise<Record<string, string>> {
  const found = new Map<string, string>();
  const queue = [`src/steps/${step.name}.ts`];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (found.has(path)) continue;
    const { digest, uses } = await readSource(path);
    found.set(path, digest);
    queue.push(...uses);
  }
  return Object.fromEntries([...found].sort());
}

/** What a step's epoch was given for. */
interface Snapshot {
  epoch: number;
  sources: Record<string, string>;
}

/** What a person has to decide about a step whose code is another one. */
function explain(name: string, before: Snapshot | null, { epoch, sources }: Snapshot): string {
  const files = new Set([...Object.keys(sources), ...Object.keys(before?.sources ?? {})]);
  const changed = [...files].filter((path) => sources[path] !== before?.sources[path]).sort();
  const raised =
    before && epoch > before.epoch
      ? `, epoch raised from ${before.epoch} to ${epoch}`
      : `, epoch still ${epoch}`;
  return [
    'the code of this step is not the one its epoch was given for:',
    `  ${name}${raised}: ${changed.join(', ') || 'no file'} changed`,
    'Do the same inputs give another result now? Then raise `epoch` in src/steps/<step>.ts, or old outcomes will be',
    'taken for new ones. In either case accept with: npx vitest run test/steps/epoch.spec.ts --update',
  ].join('\n');
}

it.each(steps)(
  'whoever changes the code of $name raises its epoch, or accepts that its results stay the same',
  async (entry) => {
    const step = await entry.load();
    const now: Snapshot = { epoch: step.epoch, sources: await sourcesOf(step) };
    const before = JSON.parse(
      await readFile(snapshotOf(step.name), 'utf8').catch(() => 'null'),
    ) as Snapshot | null;
    await expect(`${JSON.stringify(now, null, 2)}\n`)
      .toMatchFileSnapshot(snapshotOf(step.name))
      .catch(() => {
        throw new Error(explain(step.name, before, now));
      });
  },
);

it('every file of epochs belongs to a step', async () => {
  const files = await readdir(join(root, 'test', 'steps', 'epochs'));
  expect(files.sort()).toEqual(steps.map(({ name }) => `${name}.json`).sort());
});

it('the trainer and the child processes belong to the code of the steps that use them', async () => {
  const train = await sourcesOf(await steps.find((one) => one.name === 'train')!.load());
  expect(Object.keys(train)).toEqual(
    expect.arrayContaining(['src/steps/train-child.ts', 'src/train/optimizer.ts', 'src/data/dataset.ts']),
  );
  expect(Object.keys(train)).not.toContain('src/steps/context.ts');
  const evaluate = await sourcesOf(await steps.find((one) => one.name === 'evaluate')!.load());
  expect(Object.keys(evaluate)).toEqual(
    expect.arrayContaining(['src/model/child.ts', 'src/model/metrics.ts']),
  );
});

it('comments and spaces do not count as code', async () => {
  const digest = async (text: string) => {
    const { code } = await transform(text, { loader: 'ts', minifyWhitespace: true, legalComments: 'none' });
    return code;
  };
  const one = 'export function f(a: number) {\n  // why\n  return a + 1;\n}\n';
  expect(await digest(one.replace('// why', '/** because */\n\n'))).toBe(await digest(one));
  expect(await digest(one.replace('+ 1', '+ 2'))).not.toBe(await digest(one));
});
