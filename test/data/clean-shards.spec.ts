import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { type CleanStep, rulesSchema } from '../../src/core/project-data-rules.ts';
import { type CleanPlan, passItems } from '../../src/data/clean-items.ts';
import { cleanShard, fetchParts, mergeShards, storePart } from '../../src/data/clean-shards.ts';
import { buildCleaned } from '../../src/data/cleaned-version.ts';
import { askProgram, type Program } from '../../src/data/custom.ts';
import type { RawItem } from '../../src/data/raw-item.ts';
import type { SelectedFile } from '../../src/exec/code.ts';
import { isProcessAlive } from '../../src/exec/owner.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { openPrograms } from '../../src/steps/clean-programs.ts';
import { createZone, openStore } from '../../src/store/index.ts';
import type { Zone } from '../../src/store/types.ts';

let folder: string;
let quarantine: string;
/** What the items are said to come from. */
const manifest = {
  kind: 'dataset' as const,
  name: 'd-train',
  files: [],
  parents: [],
  digest: digestBytes('collected'),
  meta: {
    v: 2,
    side: 'train',
    count: 0,
    classes: ['a', 'b'],
    perClass: [0, 0],
    duplicates: 0,
    quarantined: { empty: 1 },
    source: { names: [], sha256: [] },
    split: { key: 'k', test: 0.2, validation: 0.1 },
  },
};
let zone: Zone;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-clean-'));
  zone = createZone('work', await openStore(`file:${join(folder, 'store')}`, null));
  quarantine = join(folder, 'quarantine.jsonl');
  await writeFile(quarantine, '{"position":"a","reason":"empty"}\n');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function item(text: string, label: number | null = 0): RawItem {
  const bytes = Buffer.from(text);
  return { id: digestBytes(bytes), bytes, extension: 'txt', label, attributes: { path: `p/${text.length}` } };
}

const plan = (steps: CleanStep[], rules: object = {}, programs: Program[] = []): CleanPlan => ({
  steps,
  rules: rulesSchema.parse(rules),
  classes: ['a', 'b'],
  key: 'key',
  programs,
});

let runs = 0;

/** Everything that comes out, with its bytes, as a digest; and counts. */
async function outcome(items: RawItem[], given: CleanPlan, total: number, order: number[]) {
  const key = `k${runs++}`;
  const at = (name: string | number) => join(folder, key, String(name));
  for (const index of order) {
    const shard = { index, total };
    const counts = await cleanShard(items, given, shard, at(index));
    await storePart(zone, key, shard, at(index), counts);
  }
  const parts = (await fetchParts(zone, key, total, at('all')))!;
  const lines: string[] = [];
  for await (const merged of mergeShards(parts.folders)) {
    const { item, ...rest } = merged;
    const { offset: _offset, bytes, ...line } = item;
    lines.push(JSON.stringify({ ...rest, ...line, bytes: createHash('sha256').update(bytes).digest('hex') }));
  }
  // Where what is kept stands between what is set aside is no part of the version.
  const made = await buildCleaned(
    zone,
    { dataset: manifest.digest, manifest, quarantine, sensitive: undefined, ...parts },
    at('built'),
  );
  return {
    counts: parts.counts,
    version: made.digest,
    meta: made.meta,
    kept: lines.filter((line) => !line.includes('"aside"')),
    all: lines.sort(),
  };
}

describe('cleaning by several runners', () => {
  it('makes the same whatever their number and order, and loses no item', async () => {
    const content = fc.record({
      text: fc.string({ unit: fc.constantFrom('a', 'b', ' ', 'É', 'e\u0301', '<b>'), maxLength: 4 }),
      label: fc.option(fc.nat(1)),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(content, { maxLength: 25 }),
        fc.integer({ min: 1, max: 7 }),
        fc.boolean(),
        async (contents, total, backwards) => {
          // Of equal bytes a data version has one item.
          const items = [...new Map(contents.map((one) => [one.text, item(one.text, one.label)])).values()];
          const rules = { characters: { min: 1 } };
          const given = plan(['normalize', 'strip_html', 'trim', 'lowercase'], rules);
          const order = Array.from({ length: total }, (_, index) => index);
          const many = await outcome(items, given, total, backwards ? order.reverse() : order);
          expect(many).toEqual(await outcome(items, given, 1, [0]));
          expect(many.all).toHaveLength(items.length);
          expect(many.counts.seen).toBe(items.length);
          const { count, cleaned } = many.meta;
          expect(count + cleaned!.copies + cleaned!.aside).toBe(items.length);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('waits for the one that was killed, and its second run completes the version', async () => {
    const items = ['a', 'b', 'c', 'd', ' a'].map((text) => item(text));
    const total = 3;
    const counts = [];
    for (const index of [2, 0]) {
      const at = join(folder, `kill-${index}`);
      counts.push(await cleanShard(items, plan(['trim']), { index, total }, at));
      await storePart(zone, 'kill', { index, total }, at, counts.at(-1)!);
    }
    expect(await fetchParts(zone, 'kill', total, join(folder, 'kill-all'))).toBeNull();
    const again = join(folder, 'kill-1');
    await storePart(
      zone,
      'kill',
      { index: 1, total },
      again,
      await cleanShard(items, plan(['trim']), { index: 1, total }, again),
    );
    const parts = await fetchParts(zone, 'kill', total, join(folder, 'kill-all'));
    expect(parts?.counts).toEqual({ seen: 5, changed: { trim: 1 } });
    const kinds: string[] = [];
    for await (const one of mergeShards(parts!.folders)) kinds.push(one.kind);
    expect(kinds.sort()).toEqual(['copy', 'kept', 'kept', 'kept', 'kept']);
  });

  it('keeps the original bytes of what it sets aside, also when a step had changed them', async () => {
    const at = join(folder, 'aside');
    await cleanShard([item('  x ')], plan(['trim'], { characters: { min: 3 } }), { index: 0, total: 1 }, at);
    expect(await readFile(join(at, 'items.bin'), 'utf8')).toBe('  x ');
    const line = JSON.parse(await readFile(join(at, 'items.jsonl'), 'utf8')) as object;
    expect(line).toMatchObject({ aside: { step: 'rules', reasons: ['fewer than 3 characters'] } });
  });
});

describe('a function of the project’s own', () => {
  const program = (command: [string, ...string[]], more: Partial<Program> = {}): Program => ({
    command,
    folder,
    environment: { PATH: process.env.PATH ?? '' },
    timeout: 60,
    signal: new AbortController().signal,
    what: 'rules.check',
    ...more,
  });
  const node = (code: string, more: Partial<Program> = {}) => program([process.execPath, '-e', code], more);
  const lines = (body: string) =>
    `require('node:readline').createInterface({input:process.stdin}).on('line',(l)=>{const i=JSON.parse(l);${body}})`;
  const collect = async (from: Program, items: RawItem[]) => {
    const found = [];
    for await (const { answer } of askProgram(from, items, (one) => one, ['a', 'b'])) found.push(answer);
    return found;
  };

  it('written in TypeScript cleans and checks items; it sees nothing of the environment', async () => {
    const bundle = join(folder, 'own.mjs');
    await writeFile(
      bundle,
      `export function check(item) { return item.text.includes('bad') ? ['bad word', process.env.SECRET ?? 'no secret'] : null; }
       export function clean(item) { console.log('noise'); return item.text === 'drop' ? null : { text: item.text + '!', attributes: { ...item.attributes, label: item.label } }; }`,
    );
    const child = join(packageRoot(), 'dist', 'data', 'custom-child.js');
    const own = async (task: string) =>
      program([process.execPath, child, bundle, task], { folder: await mkdtemp(join(folder, task)) });
    const given = plan([{ run: { module: 'own.ts', code: ['own.ts'], timeout: 60 } }], {}, [
      await own('clean'),
      await own('check'),
    ]);
    given.rules.check = { module: 'own.ts', code: ['own.ts'], timeout: 60 };
    const passed = [];
    for await (const one of passItems(
      ['good', 'drop', 'bad', 'good'].map((text) => item(text)),
      given,
    ))
      passed.push([Buffer.from(one.item.bytes).toString(), one.aside?.reasons ?? one.item.attributes.label]);
    expect(passed).toEqual([
      ['good!', 'a'],
      ['drop', ['clean set it aside']],
      ['bad!', ['bad word', 'no secret']],
      ['good!', 'a'],
    ]);
  });

  it('in any language may answer out of order, and the order stays', async () => {
    const code = `const all=[];require('node:readline').createInterface({input:process.stdin}).on('line',(l)=>all.push(JSON.parse(l))).on('close',()=>all.reverse().forEach((i)=>console.log(JSON.stringify({id:i.id,text:i.text.toUpperCase()}))))`;
    const texts = Array.from({ length: 300 }, (_, at) => `text ${at}`);
    const found = await collect(
      node(code),
      texts.map((text) => item(text)),
    );
    expect(found.map((one) => one?.text)).toEqual(texts.map((text) => text.toUpperCase()));
  });

  it.each([
    ['leaves items unanswered', 'process.stdin.resume()', /ended with 2 items unanswered/],
    ['fails', 'process.exit(3)', /ended with exit code 3/],
    ['prints what is no JSON', lines('console.log("hello " + i.text)'), /not JSON; log to standard error/],
    ['answers what it was not asked', lines('console.log(JSON.stringify({id:"x"}))'), /not asked about/],
    [
      'answers twice',
      lines('for (const _ of [1,2]) console.log(JSON.stringify({id:i.id}))'),
      /not asked|more than one/,
    ],
    ['answers nonsense', lines('console.log(JSON.stringify({id:i.id,reasons:1}))'), /no answer/],
  ])('that %s is refused by name, and its text is not repeated', async (_, code, message) => {
    const failure = collect(node(code), [item('private'), item('other')]);
    await expect(failure).rejects.toMatchObject({
      code: 'code-invalid',
      message: expect.stringMatching(message),
    });
    await expect(failure).rejects.not.toThrow(/private/);
  });

  it('is killed with its children when its time is up', async () => {
    const mark = join(folder, 'pid');
    const code = `const c=require('node:child_process').spawn('sleep',['600']);require('node:fs').writeFileSync(${JSON.stringify(mark)},String(c.pid));process.stdin.resume();setInterval(()=>{},1000)`;
    await expect(collect(node(code, { timeout: 1 }), [item('a')])).rejects.toThrow(
      /was not done after 1 seconds/,
    );
    const pid = Number(await readFile(mark, 'utf8'));
    await expect.poll(() => isProcessAlive(pid)).toBe(false);
  });

  it('that starts somebody outside its group, or never ends a line, keeps nobody waiting and leaves nobody behind', async () => {
    const mark = join(folder, 'pid');
    const daemon = `const c=require('node:child_process').spawn('sleep',['600'],{detached:true,stdio:'inherit'});c.unref();require('node:fs').writeFileSync(${JSON.stringify(mark)},String(c.pid));`;
    await expect(collect(node(daemon, { timeout: 2 }), [item('a')])).rejects.toThrow(
      /was not done after 2 seconds/,
    );
    await expect.poll(async () => isProcessAlive(Number(await readFile(mark, 'utf8')))).toBe(false);
    // Also when it did all that it was to do.
    const quiet = `${daemon.replace("'inherit'", "'ignore'")}${lines('console.log(JSON.stringify({id:i.id}))')}`;
    await collect(node(quiet), [item('a')]);
    await expect.poll(async () => isProcessAlive(Number(await readFile(mark, 'utf8')))).toBe(false);
    const endless = `const s='x'.repeat(1<<20);const go=()=>{while(process.stdout.write(s));process.stdout.once('drain',go)};go()`;
    await expect(collect(node(endless), [item('a')])).rejects.toThrow(/printed a line of more than 128 MiB/);
  });

  it('that waits for all items before it answers is told how many may wait', async () => {
    const large = Array.from({ length: 9 }, (_, at) => item(`${at}`.repeat(4 << 20)));
    const code = 'process.stdin.resume();process.stdin.on("end",()=>process.exit(0))';
    await expect(collect(node(code, { timeout: 3 }), large)).rejects.toThrow(
      /was not done after 3 seconds and was killed; it has to answer before 32 MiB of items wait/,
    );
  });

  it('written in TypeScript that throws names the item', async () => {
    const bundle = join(folder, 'own.mjs');
    await writeFile(bundle, 'export function check(item) { return item.text.no.such; }');
    const child = join(packageRoot(), 'dist', 'data', 'custom-child.js');
    const shell = `exec ${JSON.stringify(process.execPath)} ${child} ${bundle} check 2>${join(folder, 'said')}`;
    await expect(collect(program(['sh', '-c', shell]), [item('private')])).rejects.toThrow(
      /ended with exit code 1; what it printed to standard error says why/,
    );
    const said = await readFile(join(folder, 'said'), 'utf8');
    expect(said).toContain(`check failed for item ${item('private').id}:`);
    expect(said).toContain('TypeError');
    expect(said).not.toContain('custom-child');
    await expect(
      collect(program(['sh', '-c', shell.replace(' check ', ' clean ')]), [item('private')]),
    ).rejects.toThrow(/ended with exit code 1/);
    expect((await readFile(join(folder, 'said'), 'utf8')).trim()).toBe(
      'TypeError: the module must export the function clean',
    );
  });

  it('written in TypeScript that throws names its own files and lines', async () => {
    const at = await mkdtemp(join(folder, 'positions-'));
    const selected = (path: string, text: string): SelectedFile => {
      const bytes = Buffer.from(text);
      return { path, mode: '100644', digest: digestBytes(bytes), bytes };
    };
    const files = [
      selected('checks/words.ts', `import { first } from './first.ts';\nexport const check = first;\n`),
      selected(
        'checks/first.ts',
        `interface Item {\n  text: { no?: { such: string } };\n}\n\nexport function first(item: Item): string {\n  return item.text.no!.such;\n}\n`,
      ),
    ];
    const check = { module: 'checks/words.ts', code: ['checks/**'], timeout: 60 };
    const ctx = {
      childEnvironment: { PATH: process.env.PATH ?? '' },
      signal: new AbortController().signal,
    };
    const rules = { ...rulesSchema.parse({}), check };
    const [made] = await openPrograms(ctx, { clean: [], rules }, files, at);
    const shell = `exec "$@" 2>${join(at, 'said')}`;
    await expect(
      collect({ ...made!, command: ['sh', '-c', shell, 'sh', ...made!.command] }, [item('private')]),
    ).rejects.toThrow(/ended with exit code 1/);
    const said = await readFile(join(at, 'said'), 'utf8');
    expect(said).toMatch(/^ {4}at .*\bchecks\/first\.ts:6:\d+\)?$/m);
    expect(said).not.toMatch(/bundle|custom-child/);
    expect(said).not.toContain(at);
  });

  it('that cannot be started says so', async () => {
    await expect(collect(program([join(folder, 'missing')]), [item('a')])).rejects.toThrow(/ENOENT/);
  });
});
