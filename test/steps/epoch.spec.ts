import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { transform } from 'esbuild';
import { expect, it } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import { steps } from '../../src/steps/index.ts';
import type { Step } from '../../src/steps/types.ts';

const root = packageRoot();
const snapshot = 'test/steps/epochs.json';
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

type Snapshot = Record<string, { epoch: number; sources: Record<string, string> }>;

/** What a person has to decide about each step whose code is another one. */
function explain(before: Snapshot, now: Snapshot): string {
  const lines = Object.entries(now).flatMap(([name, { epoch, sources }]) => {
    const old = before[name];
    const files = new Set([...Object.keys(sources), ...Object.keys(old?.sources ?? {})]);
    const changed = [...files].filter((path) => sources[path] !== old?.sources[path]).sort();
    if (changed.length === 0 && epoch === old?.epoch) return [];
    const raised =
      old && epoch > old.epoch ? `, epoch raised from ${old.epoch} to ${epoch}` : `, epoch still ${epoch}`;
    return [`  ${name}${raised}: ${changed.join(', ') || 'no file'} changed`];
  });
  return [
    'the code of these steps is not the one their epoch was given for:',
    ...lines,
    'Do the same inputs give another result now? Then raise `epoch` in src/steps/<step>.ts, or old outcomes will be',
    'taken for new ones. In either case accept with: npx vitest run test/steps/epoch.spec.ts --update',
  ].join('\n');
}

it('whoever changes the code of a step raises its epoch, or accepts that its results stay the same', async () => {
  const now: Snapshot = {};
  for (const entry of steps) {
    const step = await entry.load();
    now[step.name] = { epoch: step.epoch, sources: await sourcesOf(step) };
  }
  const before = JSON.parse(await readFile(join(root, snapshot), 'utf8').catch(() => '{}')) as Snapshot;
  await expect(`${JSON.stringify(now, null, 2)}\n`)
    .toMatchFileSnapshot(join(root, snapshot))
    .catch(() => {
      throw new Error(explain(before, now));
    });
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
