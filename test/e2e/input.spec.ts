import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openWorkbench, type Workbench } from './workbench.ts';

/** Far more than it takes, on machines that do other things. */
const timeout = 120_000;

let fresh: Workbench;
let ingested: Workbench;
beforeAll(async () => {
  fresh = await openWorkbench();
  ingested = await fresh.copy();
  await ingested.json(['ingest']);
}, timeout);
afterAll(() => Promise.all([fresh, ingested].map((bench) => bench?.remove())));

const benches: Workbench[] = [];
afterEach(() => Promise.all(benches.splice(0).map((bench) => bench.remove())));

/** A copy of a workbench with other files: text by path, or a change of the text that is there. */
async function benchWith(
  from: Workbench,
  files: Record<string, string | ((text: string) => string)> = {},
): Promise<Workbench> {
  const bench = await from.copy();
  benches.push(bench);
  for (const [path, edit] of Object.entries(files)) {
    const file = join(bench.project, path);
    await writeFile(file, typeof edit === 'string' ? edit : edit(await readFile(file, 'utf8')));
  }
  return bench;
}

interface Refusal {
  code: string;
  message: string;
  hint: string;
}

/** Runs a command that must fail: for people and as one line of JSON, the same exit code, and never a stack trace. */
async function refused(
  bench: Workbench,
  args: readonly string[],
  exit: number,
  env: NodeJS.ProcessEnv = {},
): Promise<Refusal> {
  const [told, json] = [await bench.cdl(args, env), await bench.cdl([...args, '--json'], env)];
  expect(told.code, told.stdout + told.stderr).toBe(exit);
  expect(json.code).toBe(exit);
  for (const said of [told.stdout, told.stderr, json.stdout, json.stderr]) {
    expect(said).not.toMatch(/^\s+at .+[:(]\d+/m);
    expect(said).not.toContain('node:internal');
  }
  expect(json.stdout.trimEnd().split('\n')).toHaveLength(1);
  const { error } = JSON.parse(json.stdout) as { error: Refusal };
  expect(told.stderr).toContain(`→ ${error.hint}`);
  return error;
}

describe('a source of data', { timeout }, () => {
  it('that cannot be reached is an outage, and every one that was tried is named', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const bench = await benchWith(fresh, {
      'cdl.yaml': (text) =>
        text.replace(
          / {6}- file: [^\n]*/,
          [
            `      - https: [http://127.0.0.1:${port}/images.idx]`,
            `        sha256: ${'a'.repeat(64)}`,
            '        read: { format: idx, images: [images.idx], labels: [labels.idx] }',
            '      - file: [/nowhere/images.idx, /nowhere/labels.idx]',
          ].join('\n'),
        ),
    });
    const error = await refused(bench, ['ingest'], 75);
    expect(error.code).toBe('source-unreachable');
    expect(error.message).toMatch(new RegExp(`127\\.0\\.0\\.1:${port}/images\\.idx: .*ECONNREFUSED`));
    expect(error.message).toContain('/nowhere/images.idx: there is no file');
  });

  it('whose bytes are not those of the pin is refused, and nothing of it is kept', async () => {
    const bench = await benchWith(fresh);
    const copy = join(bench.folder, 'other');
    await cp(join(fresh.folder, 'data'), copy, { recursive: true });
    const bytes = await readFile(join(copy, 'images.idx'));
    bytes[1000]! ^= 1;
    await writeFile(join(copy, 'images.idx'), bytes);
    const file = join(bench.project, 'cdl.yaml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replaceAll(join(fresh.folder, 'data'), copy));
    const error = await refused(bench, ['ingest'], 6);
    expect(error.code).toBe('source-mismatch');
    const [, found, pin] =
      /images\.idx has sha256 ([0-9a-f]{64}), but cdl\.yaml pins ([0-9a-f]{64})/.exec(error.message) ?? [];
    expect(pin).toBeDefined();
    // Files come several at once: what is sound may stay for the next try.
    for (const kept of await readdir(join(bench.folder, 'cache', 'sources'))) {
      expect(kept).toMatch(/^[0-9a-f]{64}$/);
      expect(text).toContain(kept);
      expect([found, pin]).not.toContain(kept);
    }
    // That this repository keeps data in the store is noted before there is any.
    for (const key of Object.keys(await bench.snapshot()))
      expect(key).toMatch(/records\.d\/repositories\.d\//);
  });
});

describe('cdl.yaml', { timeout }, () => {
  it('with an unknown key is refused with line, column and what was meant', async () => {
    const bench = await benchWith(fresh, {
      'cdl.yaml': (text) => text.replace('    seed: 3', '    sede: 3'),
    });
    const error = await refused(bench, ['ingest'], 3);
    expect(error.code).toBe('config-invalid');
    expect(error.message).toMatch(/cdl\.yaml:\d+:5 .*sede.*did you mean seed\?/);
  });
});

describe('model code', { timeout }, () => {
  const train = (code: (text: string) => string) => benchWith(ingested, { 'model.ts': code });

  it('that imports a file it did not declare is refused, with the place', async () => {
    const bench = await train(
      (text) => `import { secret } from './other.ts';\nconsole.log(secret);\n${text}`,
    );
    await writeFile(join(bench.project, 'other.ts'), 'export const secret = 1;\n');
    const error = await refused(bench, ['train'], 3);
    expect(error.code).toBe('code-invalid');
    expect(error.message).toMatch(/^model\.ts:1:\d+ {2}.*other\.ts/);
  });

  it('that imports a package, or a part of Node, is refused, with the place', async () => {
    const bench = await train(
      (text) => `import { readFileSync } from 'node:fs';\nreadFileSync('x');\n${text}`,
    );
    const error = await refused(bench, ['train'], 3);
    expect(error.code).toBe('code-invalid');
    expect(error.message).toMatch(/^model\.ts:1:\d+ {2}"node:fs" is not available to model code/);
  });

  it('that throws is told what it threw', async () => {
    const bench = await train((text) =>
      text.replace(
        'return tf.sequential(',
        "if (hyperparameters) throw new Error('no such layer');\n  return tf.sequential(",
      ),
    );
    const error = await refused(bench, ['train'], 3);
    expect(error.code).toBe('code-invalid');
    expect(error.message).toContain('no such layer');
  });

  it('whose loss is not a number any more ends the training, which is kept as a failed run without checkpoint', async () => {
    const bench = await benchWith(ingested, {
      'cdl.yaml': (text) => text.replace('learning_rate: 0.01', 'learning_rate: 1.0e+38, optimizer: sgd'),
    });
    const error = await refused(bench, ['train'], 3);
    expect(error.code).toBe('training-failed');
    expect(error.message).toMatch(/loss/);
    const { runs } = (await bench.json(['runs', 'ls'])) as { runs: Record<string, unknown>[] };
    expect(runs[0]).toMatchObject({
      status: 'failed',
      reason: error.message,
      checkpoint: null,
      hyperparameters: { optimizer: 'sgd' },
    });
    const next = await refused(bench, ['package'], 3);
    expect(next.code).toBe('input-missing');
  });
});

describe('the store', { timeout }, () => {
  it.skipIf(process.platform !== 'linux')(
    'where nobody may write is not permitted, and the folder is named',
    async () => {
      const bench = await benchWith(fresh);
      // Not even root makes folders there.
      const error = await refused(bench, ['ingest'], 5, { CDL_WORK_STORE: 'file:///sys/cdl-store' });
      expect(error.code).toBe('store-denied');
      expect(error.message).toContain('file:///sys/cdl-store');
    },
  );

  it('that is not there is an outage, and the folder is named', async () => {
    const bench = await benchWith(fresh, { 'a-file': 'not a folder\n' });
    const store = `file://${join(bench.project, 'a-file', 'store')}`;
    const error = await refused(bench, ['ingest'], 75, { CDL_WORK_STORE: store });
    expect(error.message).toContain(store);
  });

  it('that no job was given is not permitted, and the variable is named', async () => {
    const bench = await benchWith(fresh);
    const error = await refused(bench, ['ingest'], 5, { CI: 'true' });
    expect(error.code).toBe('store-denied');
    expect(error.message).toContain('CDL_WORK_STORE is not set');
  });

  it('with a damaged package lets neither deploy nor serve use it', async () => {
    const bench = await benchWith(ingested);
    for (const step of ['train', 'package', 'register']) await bench.json([step]);
    const entry = await bench.approve();
    const store = join(bench.project, '.cdl', 'store');
    const manifests = Object.keys(await bench.snapshot()).filter((path) =>
      path.includes(entry.package.slice(7)),
    );
    expect(manifests.length).toBeGreaterThan(0);
    const manifest = JSON.parse(await readFile(join(store, manifests[0]!), 'utf8')) as {
      files: { path: string; digest: string }[];
    };
    const weights = manifest.files.find((file) => file.path.endsWith('.bin'))!;
    for (const path of Object.keys(await bench.snapshot())) {
      if (!path.includes(weights.digest.slice(7))) continue;
      const bytes = await readFile(join(store, path));
      bytes[0]! ^= 1;
      await writeFile(join(store, path), bytes);
    }
    const deployed = await refused(bench, ['deploy'], 6, await bench.deployEnvironment());
    expect(deployed.code).toBe('artifact-corrupt');
    expect(deployed.message).toContain(weights.digest);
    const served = await refused(bench, ['serve', entry.package, '--port', '0'], 6);
    expect(served.code).toBe('artifact-corrupt');
  });
});
