import { createHash } from 'node:crypto';
import { readFile, symlink } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { create } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { listingDigest } from '../../src/data/source/listing.ts';
import { readLineage } from '../../src/model/lineage.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { register } from '../../src/steps/register.ts';
import { reproduce } from '../../src/steps/reproduce.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { onnxFiles } from './onnx-project.ts';
import { openScratch, type Scratch, tinyConfig } from './project.ts';

const all = { dataset: '', model: '', side: 'train' as const };
const commit = '0123456789abcdef0123456789abcdef01234567';
const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

let scratch: Scratch;
let server: Server;
let hub: string;
/** What the hub has, by path, and the requests it answered. */
let files: Record<string, Buffer>;
let asked: string[];

beforeEach(async () => {
  files = {};
  asked = [];
  server = createServer((request, response) => {
    const url = request.url ?? '';
    asked.push(url);
    const file = files[url.replace(`/acme/halves/resolve/${commit}/`, '')] ?? files[url.slice(1)];
    if (url === '/api/models/acme/halves/revision/main') {
      const siblings = Object.keys(files).map((rfilename) => ({ rfilename }));
      response.end(JSON.stringify({ id: 'acme/halves', sha: commit, siblings }));
    } else if (file) response.end(file);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  hub = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  await Promise.all([scratch.remove(), new Promise((resolve) => server.close(resolve))]);
});

/** The configuration of the tiny model that starts from something, and learns nothing that can be seen. */
const starting = (from: string, hidden = 4) =>
  tinyConfig().replace(
    /hyperparameters: .*/,
    `hyperparameters: { epochs: 1, batch_size: 64, learning_rate: 1.0e-9, hidden: ${hidden} }\n    from: ${from}`,
  );

const context = () => scratch.context({ CDL_HF_ENDPOINT: hub });

async function configure(yaml: string) {
  await scratch.write({ 'cdl.yaml': yaml });
  return context();
}

/** A trained tiny model, of which the hub gets the files. */
async function publish(): Promise<Digest> {
  scratch = await openScratch();
  const ctx = await context();
  await runStep(ingest, ctx, all);
  const { outputs } = await runStep(train, ctx, all);
  const folder = join(scratch.root, '.cdl', 'published');
  await (await ctx.zone('work')).saveArtifact(outputs.checkpoint as Digest, folder);
  for (const name of ['model.json', 'weights.bin']) files[name] = await readFile(join(folder, name));
  files['pytorch_model.bin'] = Buffer.from('a pickle nobody asked for');
  return outputs.checkpoint as Digest;
}

const weightsOf = async (checkpoint: string): Promise<Float32Array> => {
  const zone = await (await context()).zone('work');
  const folder = join(scratch.root, '.cdl', checkpoint.slice(7, 19));
  await zone.saveArtifact(checkpoint as Digest, folder);
  return new Float32Array(new Uint8Array(await readFile(join(folder, 'weights.bin'))).buffer);
};

describe('a model that starts from a pretrained one', () => {
  it('begins with the weights of a hub repository, which is recorded, pinned, cached, in the lineage, and reproduced', async () => {
    const original = await weightsOf(await publish());
    const unpinned = '{ hf: acme/halves@main, files: ["*.json", weights.*] }';
    const ctx = await configure(starting(unpinned));
    const first = await runStep(train, ctx, all);
    expect(first.report).toMatchObject({ verdict: 'warn' });
    const weights = await weightsOf(first.outputs.checkpoint!);
    const apart = Math.max(...weights.map((value, at) => Math.abs(value - original[at]!)));
    expect(apart).toBeLessThan(1e-4);
    expect(asked.some((url) => url.includes('pytorch_model'))).toBe(false);
    expect((await runStep(train, ctx, all)).cached).toBe(true);

    const nodes = await readLineage(await ctx.zone('work'), [first.outputs.run as Digest]);
    const told = nodes.map(({ kind, label, sources }) => ({ kind, label, sources }));
    expect(told).toContainEqual({
      kind: 'checkpoint',
      label: 'hf:acme/halves@main',
      sources: ['hf:acme/halves@main'],
    });

    const sha256 = listingDigest(
      ['model.json', 'weights.bin'].map((path) => ({ path, sha256: hash(files[path]!) })),
    );
    files['weights.bin'] = Buffer.from(files['weights.bin']!.map((byte) => byte ^ 1));
    await expect(runStep(train, ctx, all)).rejects.toThrow(/what sides starts from has changed.*recorded/s);
    const pinned = starting(unpinned.replace(' }', `, sha256: ${sha256} }`));
    await expect(runStep(train, await configure(pinned), all)).rejects.toThrow(/is pinned/);
    files['weights.bin'] = Buffer.from(files['weights.bin']!.map((byte) => byte ^ 1));
    const second = await configure(pinned);
    await runStep(train, second, all);
    await scratch.git('add', '-A');
    await scratch.git('commit', '-qm', 'start from acme');
    // Pinned and in the store: nobody is asked any more.
    asked = [];
    await runStep(train, second, all);
    for (const step of [packageStep, register] as const) await runStep(step as never, second, all as never);
    const rebuilt = await runStep(reproduce, second, {
      model: '',
      version: 1,
      run: '',
      environment: 'production',
      tolerance: 0,
    });
    expect(rebuilt.outputs.verdict).toBe('bit-identical');
    expect(asked).toEqual([]);

    const other = await configure(starting('{ version: sides/v1 }'));
    const third = await runStep(train, other, all);
    const run = await (await other.zone('work')).getArtifact(third.outputs.run as Digest);
    expect(run.meta.pretrained).toBe(rebuilt.outputs.checkpoint);
    await expect(runStep(train, await configure(starting('{ version: sides/v9 }')), all)).rejects.toThrow(
      'the registry of tiny has no sides/v9; of sides it has v1',
    );
  });

  it('is refused when a weight has another shape, naming the layer and both shapes', async () => {
    await publish();
    const from = `{ https: ["${hub}/model.json", "${hub}/weights.bin"] }`;
    await expect(runStep(train, await configure(starting(from, 8)), all)).rejects.toThrow(
      /dense_Dense1\/kernel is \[16, 4\] there and \[16, 8\] in build\(\)/,
    );
  });

  it('is handed to a command as a folder of the files, named by the ends of their addresses', async () => {
    const project = onnxFiles();
    scratch = await openScratch({
      ...project,
      'cdl.yaml': String(project['cdl.yaml']).replace(
        '    train:',
        `    from: { https: ["${hub}/deep/base.safetensors"], sha256: ${hash(Buffer.from('weights'))} }\n    train:`,
      ),
      'train.mjs': String(project['train.mjs']).replace(
        'const { data, classes } = job;',
        "const { data, classes } = job;\nif (readFileSync(job.pretrained + '/base.safetensors', 'utf8') !== 'weights') process.exit(7);",
      ),
    });
    files['/deep/base.safetensors'] = Buffer.from('weights');
    const ctx = await scratch.context({ PATH: `${join(process.execPath, '..')}:${process.env.PATH}` });
    await runStep(ingest, ctx, all);
    const { report } = await runStep(train, ctx, all);
    expect(report.verdict).toBe('pass');
  });

  it('is unpacked from an npm package, of which only the wanted files are handed on', async () => {
    const project = onnxFiles();
    scratch = await openScratch({
      ...project,
      'cdl.yaml': String(project['cdl.yaml']).replace(
        '    train:',
        '    from: { npm: halves-base@1.0.0, files: ["deep/*"] }\n    train:',
      ),
      'train.mjs': String(project['train.mjs']).replace(
        'const { data, classes } = job;',
        "const { data, classes } = job;\nif (readFileSync(job.pretrained + '/deep/base.bin', 'utf8') !== 'weights') process.exit(7);",
      ),
    });
    await scratch.write({ 'pack/package/package.json': '{}', 'pack/package/deep/base.bin': 'weights' });
    await create({ gzip: true, file: join(scratch.root, 'pack.tgz'), cwd: join(scratch.root, 'pack') }, [
      'package',
    ]);
    const tarball = await readFile(join(scratch.root, 'pack.tgz'));
    const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
    const dist = { tarball: `${hub}/halves-base.tgz`, integrity };
    files['halves-base.tgz'] = tarball;
    files['halves-base'] = Buffer.from(
      JSON.stringify({
        name: 'halves-base',
        'dist-tags': { latest: '1.0.0' },
        versions: { '1.0.0': { name: 'halves-base', version: '1.0.0', dist } },
      }),
    );
    const ctx = await scratch.context({
      PATH: `${join(process.execPath, '..')}:${process.env.PATH}`,
      CDL_NPM_REGISTRY: hub,
    });
    await runStep(ingest, ctx, all);
    const { outputs } = await runStep(train, ctx, all);
    const zone = await ctx.zone('work');
    const { meta } = await zone.getArtifact(outputs.run as Digest);
    const started = await zone.getArtifact(meta.pretrained as Digest);
    expect(started.files.map((file) => file.path)).toEqual(['deep/base.bin']);
    expect(started.meta).toMatchObject({
      source: { names: ['npm:halves-base@1.0.0'], sha256: [hash(tarball)] },
    });

    // A link among what is wanted is no reason to train without it.
    await symlink('base.bin', join(scratch.root, 'pack', 'package', 'deep', 'linked.bin'));
    const linked = { gzip: true, file: join(scratch.root, 'linked.tgz'), cwd: join(scratch.root, 'pack') };
    await create(linked, ['package']);
    const bytes = await readFile(linked.file);
    const other = {
      tarball: `${hub}/linked.tgz`,
      integrity: `sha512-${createHash('sha512').update(bytes).digest('base64')}`,
    };
    files['linked.tgz'] = bytes;
    files['linked-base'] = Buffer.from(
      JSON.stringify({
        name: 'linked-base',
        versions: { '1.0.0': { name: 'linked-base', version: '1.0.0', dist: other } },
      }),
    );
    const config = await readFile(join(scratch.root, 'cdl.yaml'), 'utf8');
    await scratch.write({ 'cdl.yaml': config.replace('npm: halves-base', 'npm: linked-base') });
    const again = await scratch.context({ CDL_NPM_REGISTRY: hub });
    await expect(runStep(train, again, all)).rejects.toThrow(
      /holds "deep\/linked.bin", which cannot be taken \(link\)/,
    );
  });
});
