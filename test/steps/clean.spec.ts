import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { readRawItems } from '../../src/data/shards.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { renderMarkdown } from '../../src/report/markdown.ts';
import { clean } from '../../src/steps/clean.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { transform } from '../../src/steps/transform.ts';
import type { Ctx } from '../../src/steps/types.ts';
import { validate } from '../../src/steps/validate.ts';
import { openScratch, type Scratch, tinyFiles } from './project.ts';
import { textFiles, texts, zipOf } from './text-project.ts';

const train = { dataset: '', side: 'train' as const };
const test = { dataset: '', side: 'test' as const };

/** The text project with dirt in it, and what is to be done about it. */
async function dirtyFiles(
  more: { clean?: string; rules?: string; files?: Record<string, string> } = {},
): Promise<Record<string, string | Buffer>> {
  const files = await textFiles();
  const zip = await zipOf([
    ...texts().map(({ path, text }, index) => ({ path, text: index % 3 === 0 ? `${text}  \n` : text })),
    // Equal to the first text once they are clean; what decides its side is what it becomes.
    { path: 'texts/food/again.txt', text: `  ${texts()[0]!.text.toUpperCase()}\n\n` },
    ...Array.from({ length: 12 }, (_, index) => ({
      path: `texts/food/short-${index}.txt`,
      text: `x${index}`,
    })),
    ...Array.from({ length: 8 }, (_, index) => ({
      path: `texts/sport/rude-${index}.txt`,
      text: `a goal and a damned ${'very '.repeat(index + 1)}long match`,
    })),
  ]);
  const config = (files['cdl.yaml'] as string)
    .replace(/sha256: .*/, `sha256: ${createHash('sha256').update(zip).digest('hex')}`)
    .replace(
      /rules: .*/,
      `rules:
      min_items: 40
      max_invalid: 0.3
      characters: { min: 5 }
      check: { module: checks/words.ts, code: ["checks/**"] }
      ${more.rules ?? ''}
    clean: ${more.clean ?? '[collapse_spaces, trim, lowercase]'}`,
    );
  return {
    ...files,
    'cdl.yaml': config,
    'data/texts.zip': zip,
    'checks/words.ts': `import { bad } from './bad.ts';
const told = Object.keys(process.env).filter((name) => name.startsWith('CDL_') || name.startsWith('CI'));
export const check = ({ text }) => (told.length > 0 ? told : bad.test(text) ? 'a rude word' : null);
`,
    'checks/bad.ts': 'export const bad = /damned/;\n',
    ...more.files,
  };
}

async function itemsOf(
  ctx: Ctx,
  zone: 'work' | 'trusted',
  digest: string,
  folder: string,
  sub = '',
): Promise<{ text: string; path: string }[]> {
  await (await ctx.zone(zone)).saveArtifact(digest as Digest, folder);
  const found = [];
  for await (const item of readRawItems(join(folder, sub)))
    found.push({ text: Buffer.from(item.bytes).toString(), path: item.attributes.path! });
  return found;
}

describe('the step clean', () => {
  let scratch: Scratch;
  let ctx: Ctx;
  let collected: string;
  let outcome: Awaited<ReturnType<typeof runStep>>;
  beforeAll(async () => {
    scratch = await openScratch(await dirtyFiles());
    ctx = await scratch.context();
    collected = (await runStep(ingest, ctx, train)).outputs.dataset!;
    outcome = await runStep(clean, ctx, train);
  });
  afterAll(() => scratch.remove());
  const at = (name: string) => join(scratch.root, '.cdl', name);

  it('stores the cleaned bytes, and keeps what it sets aside as it came, with every reason', async () => {
    const before = await itemsOf(ctx, 'work', collected, at('before'));
    const kept = await itemsOf(ctx, 'work', outcome.outputs.dataset!, at('after'));
    const aside = await itemsOf(ctx, 'work', outcome.outputs.dataset!, at('aside'), 'quarantine');
    for (const { text } of kept) expect(text).toBe(text.trim().toLowerCase());
    expect(aside.map(({ path }) => /short|rude/.test(path))).not.toContain(false);
    const raw = new Map(before.map((item) => [item.path, item.text]));
    for (const { path, text } of aside) expect(text).toBe(raw.get(path));
    const { meta, parents } = await (await ctx.zone('work')).getArtifact(outcome.outputs.dataset as Digest);
    expect(parents).toEqual([collected]);
    const { copies } = meta.cleaned as { copies: number };
    expect(kept.length + aside.length + copies).toBe(before.length);
    const lines = (await readFile(join(at('after'), 'quarantine.jsonl'), 'utf8')).trim().split('\n');
    const told = lines.map((line) => JSON.parse(line) as { reason: string; position: string });
    expect(told.map((one) => one.position).sort()).toEqual(aside.map(({ path }) => path).sort());
    expect(new Set(told.map((one) => one.reason))).toEqual(
      new Set(['fewer than 5 characters', 'a rude word']),
    );
  });

  it('tells people what it changed and why it set things aside, with examples', async () => {
    await expect(renderMarkdown(outcome.report, new Map())).toMatchFileSnapshot('../golden/report/clean.md');
    expect(outcome.report).toMatchObject({ verdict: 'warn', key: 'clean:texts' });
    const said = JSON.stringify(outcome.report.blocks);
    expect(said).toContain('["fewer than 5 characters"');
    expect(said).toMatch(/\["a rude word","[0-9a-f]{12}","sport","a goal and a damned/);
    expect(said).toContain('Items set aside of each class (train)');
  });

  it('is what later steps work on: checks, and the transform', async () => {
    const checked = await runStep(validate, ctx, train);
    expect(checked.outputs).toEqual({ dataset: outcome.outputs.dataset, verdict: 'pass' });
    expect(JSON.stringify(checked.report.blocks)).toContain('["a rude word"');
    const made = await runStep(transform, ctx, { dataset: '', model: '' });
    expect(made.outputs.dataset).toBe(outcome.outputs.dataset);
  });

  it('is looked up the second time, and done again when a file of a check changes', async () => {
    expect(await runStep(clean, ctx, train)).toMatchObject({ cached: true, outputs: outcome.outputs });
    await scratch.write({ 'checks/bad.ts': 'export const bad = /damned|bread/;\n' });
    const again = await runStep(clean, ctx, train);
    expect(again.cached).toBe(false);
    expect(Number(again.outputs.items)).toBeLessThan(Number(outcome.outputs.items));
    await scratch.write({ 'checks/bad.ts': 'export const bad = /damned/;\n' });
    await runStep(clean, ctx, train);
  });

  it('must run again when its rules changed, and before anything else where something is to be cleaned', async () => {
    const config = await readFile(join(scratch.root, 'cdl.yaml'), 'utf8');
    await scratch.write({ 'cdl.yaml': config.replace('[collapse_spaces, trim, lowercase]', '[trim]') });
    const changed = await scratch.context();
    await expect(runStep(validate, changed, train)).rejects.toMatchObject({
      code: 'input-missing',
      hint: 'run cdl clean texts again',
    });
    const fresh = { ...changed, handover: { ...changed.handover, read: notOf(changed, 'clean') } };
    await expect(runStep(transform, fresh, { dataset: '', model: '' })).rejects.toThrow(
      /clean has not run in this pipeline/,
    );
    await scratch.write({ 'cdl.yaml': config });
  });

  it('works on the withheld side in the trusted zone alone, and shows nothing of it', async () => {
    const { outputs } = await runStep(ingest, ctx, test);
    const cleaned = await runStep(clean, ctx, test);
    expect(cleaned.outputs.from).toBe(outputs.dataset);
    const withheld = await itemsOf(ctx, 'trusted', cleaned.outputs.dataset!, at('test'));
    const known = new Set(
      (await itemsOf(ctx, 'work', outcome.outputs.dataset!, at('after'))).map((one) => one.text),
    );
    expect(withheld.length).toBeGreaterThan(10);
    expect(withheld.filter(({ text }) => known.has(text))).toEqual([]);
    const work = await ctx.zone('work');
    for (const digest of [outputs.dataset, cleaned.outputs.dataset])
      expect(await work.hasArtifact(digest as Digest)).toBe(false);
    const said = JSON.stringify(cleaned.report);
    for (const { text } of withheld) expect(said).not.toContain(text.slice(0, 20));
    expect(said).not.toContain('Examples');
    expect((await runStep(validate, ctx, test)).outputs.dataset).toBe(cleaned.outputs.dataset);
    await expect(runStep(clean, ctx, train)).rejects.toThrow();
    const job = await scratch.context({
      CDL_TRUSTED_STORE: '',
      CI: 'true',
      CDL_WORK_STORE: `file:${at('store/work')}`,
    });
    await expect(runStep(clean, job, test)).rejects.toMatchObject({ code: 'store-denied' });
    await runStep(ingest, ctx, train);
  });

  it('asks for the key that pseudonyms are made with, and what it makes depends on it', async () => {
    const records = await openScratch(
      await dirtyFiles({ clean: '[{ pseudonymise: [path] }]', rules: 'max_imbalance: 9' }),
    );
    try {
      const without = await records.context();
      await runStep(ingest, without, train);
      await expect(runStep(clean, without, train)).rejects.toMatchObject({ code: 'environment-missing' });
      const digests = [];
      for (const letter of ['a', 'b', 'a']) {
        const keyed = await records.context({ CDL_PSEUDONYM_KEY: letter.repeat(32) });
        digests.push((await runStep(clean, keyed, train)).outputs.dataset);
      }
      expect(digests[0]).toBe(digests[2]);
      expect(digests[0]).not.toBe(digests[1]);
    } finally {
      await records.remove();
    }
  });

  it('shows nothing of items that are sensitive', async () => {
    const files = await dirtyFiles();
    const secret = await openScratch({
      ...files,
      'cdl.yaml': (files['cdl.yaml'] as string).replace(
        '    item: text',
        '    item: text\n    sensitive: true',
      ),
    });
    try {
      const there = await secret.context();
      await runStep(ingest, there, train);
      const { report, outputs } = await runStep(clean, there, train);
      expect(Number(outputs.quarantined)).toBeGreaterThan(0);
      expect(JSON.stringify(report)).not.toMatch(/goal|Examples/);
    } finally {
      await secret.remove();
    }
  });

  it('has nothing to do for tensors, and says so', async () => {
    const tensors = await openScratch(tinyFiles());
    try {
      const there = await tensors.context();
      await runStep(ingest, there, train);
      await expect(runStep(clean, there, train)).rejects.toThrow(/tensors as they come: there is nothing/);
    } finally {
      await tensors.remove();
    }
  });
});

/** A handover that does not know of a step. */
function notOf(ctx: Ctx, without: string): Ctx['handover']['read'] {
  return async (step, subject) => (step === without ? null : ctx.handover.read(step, subject));
}

describe('several jobs that share the cleaning', () => {
  let scratch: Scratch;
  const at = (name: string) => join(scratch.root, '.cdl', name);
  const gate = () => join(scratch.root, '.cdl', 'go');
  const begun = () => join(scratch.root, '.cdl', 'begun');
  beforeAll(async () => {
    scratch = await openScratch(await dirtyFiles());
    // A program of the project's own that waits for a file once it has begun.
    await writeFile(
      join(scratch.root, 'upper.mjs'),
      `import { existsSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
for await (const line of createInterface({ input: process.stdin })) {
  const { id, text } = JSON.parse(line);
  if (!existsSync(${JSON.stringify(gate())})) {
    writeFileSync(${JSON.stringify(begun())}, String(process.pid));
    await new Promise((resolve) => setTimeout(resolve, 1e9));
  }
  console.log(JSON.stringify({ id, text: text.toUpperCase() }));
}
`,
    );
    const config = await readFile(join(scratch.root, 'cdl.yaml'), 'utf8');
    await writeFile(
      join(scratch.root, 'cdl.yaml'),
      config.replace('lowercase]', 'lowercase, { run: { command: [node, upper.mjs], code: [upper.mjs] } }]'),
    );
  });
  afterAll(() => scratch.remove());

  /** One job with the store of its pipeline; resolves to its exit code and what it printed. */
  function job(store: string, args: string[], index = 0, total = 1) {
    const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'cdl.js'), ...args, '--json'], {
      cwd: scratch.root,
      env: {
        ...scratch.env,
        CDL_WORK_STORE: `file:${join(scratch.root, '.cdl', store)}`,
        ...(total > 1 && { CI_NODE_INDEX: String(index + 1), CI_NODE_TOTAL: String(total) }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      child.on('close', (code) => resolve({ code, out, err }));
    });
    return { child, ended };
  }

  it('make the same version whatever their number', async () => {
    await scratch.write({ '.cdl/go': '' });
    expect((await job('collected', ['ingest']).ended).code).toBe(0);
    const made: string[] = [];
    for (const total of [1, 2, 3]) {
      const store = `store-${total}`;
      await cp(at('collected'), at(store), { recursive: true });
      const jobs = Array.from({ length: total }, (_, index) => job(store, ['clean'], index, total).ended);
      for (const { code, err } of await Promise.all(jobs)) expect(code, err).toBe(0);
      const handed = JSON.parse(
        await readFile(join(scratch.root, '.cdl', 'texts.clean.outputs.json'), 'utf8'),
      );
      made.push(handed.dataset);
    }
    expect(made[0]).toMatch(/^sha256:/);
    expect(new Set(made).size).toBe(1);
  });

  it('hand nothing on before the last is done; one that was killed makes the same when it is run again', async () => {
    const { dataset: whole } = JSON.parse(
      await readFile(join(scratch.root, '.cdl', 'texts.clean.outputs.json'), 'utf8'),
    );
    const outputs = join(scratch.root, '.cdl', 'texts.clean.outputs.json');
    await rm(outputs);
    await cp(at('collected'), at('store-kill'), { recursive: true });
    const first = await job('store-kill', ['clean'], 0, 2).ended;
    expect(first.code, first.err).toBe(0);
    expect(first.out).toContain('Share 1 of 2');
    expect(existsSync(outputs)).toBe(false);

    await rm(gate());
    const second = job('store-kill', ['clean'], 1, 2);
    await expect.poll(() => existsSync(begun()), { timeout: 30_000 }).toBe(true);
    second.child.kill('SIGKILL');
    process.kill(Number(await readFile(begun(), 'utf8')), 'SIGKILL');
    expect((await second.ended).code).toBeNull();
    expect(existsSync(outputs)).toBe(false);

    await scratch.write({ '.cdl/go': '' });
    const again = await job('store-kill', ['clean'], 1, 2).ended;
    expect(again.code, again.err).toBe(0);
    expect(JSON.parse(await readFile(outputs, 'utf8')).dataset).toBe(whole);
    // The first job, run again, finds the whole.
    const late = await job('store-kill', ['clean'], 0, 2).ended;
    expect(late.out).toContain(whole);
  });
});

describe('pictures', () => {
  it('that do not decode, or are too small, are set aside, and those that can be shown are', async () => {
    const { default: sharp } = await import('sharp');
    const picture = (side: number, red: number) =>
      sharp({ create: { width: side, height: side, channels: 3, background: { r: red, g: 9, b: 9 } } })
        .png()
        .toBuffer();
    const { buffer } = await import('node:stream/consumers');
    const { ZipFile } = await import('yazl');
    const zip = new ZipFile();
    for (let index = 0; index < 40; index++) {
      const whole = await picture(index < 30 ? 32 : 8, index * 5);
      const bytes = index < 6 ? whole.subarray(0, whole.length - 30) : whole;
      zip.addBuffer(bytes, `p/${index % 2 ? 'odd' : 'even'}/${index}.png`, { mtime: new Date(0) });
    }
    zip.end();
    const archive = await buffer(zip.outputStream as unknown as AsyncIterable<Uint8Array>);
    const pictures = await openScratch({
      'cdl.yaml': `version: 1
project: pictures
requirements: { problem: odd or even, owner: tests }
datasets:
  pictures:
    item: image
    classes: [even, odd]
    sources:
      - file: [data/p.zip]
        sha256: ${createHash('sha256').update(archive).digest('hex')}
        read: { format: image-folder, folder: p }
    split: { key: pictures-1, test: 0.2 }
    rules: { image: { width: { min: 16 } }, max_invalid: 0.9 }
models:
  m: { data: pictures, code: [model.ts] }
`,
      'model.ts': '',
      'data/p.zip': archive,
    });
    try {
      const ctx = await pictures.context();
      await runStep(ingest, ctx, train);
      const { report, outputs } = await runStep(clean, ctx, train);
      const { meta } = await (await ctx.zone('work')).getArtifact(outputs.dataset as Digest);
      expect(Object.keys(meta.quarantined as object).sort()).toEqual([
        'does not decode as a picture',
        'width below 16 pixels',
      ]);
      const charts = report.blocks.flatMap((block) => (block.kind === 'chart' ? [block.chart] : []));
      const sheet = charts.find((chart) => chart.kind === 'sheet');
      expect(sheet?.rows.find((row) => row.name === 'width below 16 pixels')?.pictures).toHaveLength(4);
      expect(await runStep(validate, ctx, train)).toMatchObject({ outputs: { dataset: outputs.dataset } });
    } finally {
      await pictures.remove();
    }
  });
});
