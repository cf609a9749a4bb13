import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseProject } from '../../src/core/project.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import { cacheFolder, npmRegistry } from '../../src/steps/context.ts';

const root = packageRoot();
const text = await readFile(join(root, 'templates', 'fashion', 'cdl.yaml'), 'utf8');
const sources = Object.values(parseProject(text).datasets)[0]!.sources;

const isCached = sources.some(({ sha256 }) =>
  [sha256 ?? []].flat().every((digest) => existsSync(join(cacheFolder(process.env), 'sources', digest))),
);

/** Whether an address answers at all; asked only when the bytes are not here already. */
async function answers(url: string): Promise<boolean> {
  return fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(5000) }).then(
    (response) => response.ok,
    () => false,
  );
}

async function canBeHad(): Promise<boolean> {
  if (isCached) return true;
  const registry = (await npmRegistry(process.env)) ?? 'https://registry.npmjs.org/';
  const urls = sources.flatMap((source) =>
    source.npm ? [`${registry.replace(/\/*$/, '/')}${source.npm.split('@')[0]}`] : (source.https?.[0] ?? []),
  );
  return (await Promise.all(urls.map(answers))).includes(true);
}

/** The same way is walked by spine.spec.ts on smaller data; here it is `npm run demo` itself, which takes minutes. */
const why = !process.env.CDL_DEMO
  ? 'CDL_DEMO is not set; .ci/run sets it, and npm run demo shows the same'
  : (await canBeHad())
    ? null
    : 'fashion-mnist cannot be had here';
if (why) console.warn(`demo, skipped: ${why}`);

interface Milestone {
  milestone: string;
  [field: string]: unknown;
}

it.skipIf(why !== null)(
  `the demo goes from a push to a refusal on real data${why ? ` (skipped: ${why})` : ''}`,
  { timeout: 400_000 },
  async () => {
    const { stdout, stderr, code } = await run(
      process.execPath,
      [join(root, 'bin', 'cdl.js'), 'demo', '--json'],
      { env: { ...process.env, TZ: 'UTC' } },
    );
    expect(code, `${stdout}${stderr}`).toBe(0);
    const lines = stdout.toString().trimEnd().split('\n');
    const milestones = lines.map((line) => JSON.parse(line) as Milestone);
    const again = ['pushed', 'pipeline', 'registered', 'evaluated', 'reported'];
    expect(milestones.map((one) => one.milestone)).toEqual([
      ...again,
      ...['approved', 'merged', 'deployed', 'predicted'],
      ...again,
      ...['refused', 'done'],
    ]);
    const of = (name: string) => milestones.filter((one) => one.milestone === name);
    const [good, bad] = of('registered');
    expect(of('deployed')[0]!.candidate).toBe(good!.candidate);
    expect(bad!.candidate).not.toBe(good!.candidate);
    expect(of('evaluated').map((one) => one.ref)).toEqual(['main', 'main']);
    const predicted = of('predicted')[0]!;
    expect(predicted).toMatchObject({ v2: 200, seldon: 200, served_version: String(good!.version) });
    expect(Number(predicted.right) / Number(predicted.items)).toBeGreaterThan(0.8);
    expect(of('refused')[0]).toMatchObject({
      status: 'failed',
      merge_answer: 405,
      still_served: String(good!.version),
    });
    expect(of('done')[0]).toMatchObject({ undocumented_requests: 0 });
  },
);
