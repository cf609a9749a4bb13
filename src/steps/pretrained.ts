import { createWriteStream } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import picomatch from 'picomatch';
import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import { type Digest, digestJson, isDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { isInsidePath } from '../core/path.ts';
import type { ModelConfig, SourceConfig } from '../core/project.ts';
import { type FromConfig, fromName } from '../core/project-from.ts';
import { collect } from '../data/collect.ts';
import { pathOf, readEntries } from '../data/entries.ts';
import { readFirstSeen, recordFirstSeen } from '../data/first-seen.ts';
import { listHub } from '../data/source/hub.ts';
import { inOrder } from '../data/source/in-order.ts';
import { listingDigest } from '../data/source/listing.ts';
import { downloadsAtOnce, type FetchOptions } from '../data/source/options.ts';
import { type FetchedSource, fetchSource, pinsOf } from '../data/sources.ts';
import { listVersions, readVersion } from '../model/registry.ts';
import type { Zone } from '../store/types.ts';
import { artifactIfThere } from '../store/zone.ts';
import { storeFolder } from './store-folder.ts';
import type { Ctx } from './types.ts';

const recordSchema = z.object({ artifact: digestSchema });

/** A file that training starts from: where its bytes are, verified, and its path for the trainer. */
interface StartFile {
  path: string;
  from: string;
  sha256: string;
}

/**
 * The checkpoint that training of a model starts from, in the work zone: a version's own, or the files that `from:` names,
 * each held to its pin, or to what was seen first. Null for a model that starts from nothing. Throws UserError input-missing
 * for a version that is not there, source-mismatch, source-unreachable, data-invalid.
 */
export async function pretrainedOf(ctx: Ctx, model: string, config: ModelConfig): Promise<Digest | null> {
  const { from } = config;
  if (!from) return null;
  // What `reproduce` puts into its clean clone: nothing is asked of a network there.
  const given = (await ctx.handover.read('pretrained', model))?.checkpoint;
  if (isDigest(given)) return given;
  const zone = await ctx.zone('work');
  if (from.version !== undefined) return ofRegistry(ctx, zone, model, from, from.version);
  return named(model, from, () => ofSource(ctx, zone, model, from));
}

/** Errors of sources speak of data; this one is under another key of cdl.yaml. */
async function named<T>(model: string, from: FromConfig, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof UserError) || error.code !== 'source-mismatch') throw error;
    throw new UserError(
      'source-mismatch',
      `what ${model} starts from has changed: ${error.message}`,
      `to take up what is there now, write its sha256 under models.${model}.from in cdl.yaml${from.sha256 === undefined ? '' : ', in place of the one that stands there'}`,
      { cause: error },
    );
  }
}

async function ofRegistry(
  ctx: Ctx,
  zone: Zone,
  model: string,
  from: FromConfig,
  version: string,
): Promise<Digest> {
  const checkpoint = isDigest(version) ? version : await checkpointOf(ctx, zone, version);
  const artifact = await artifactIfThere(zone, checkpoint);
  if (artifact?.kind !== 'checkpoint') {
    throw new UserError(
      'input-missing',
      `models.${model}.from.version ${version}: ${artifact ? `${checkpoint} is a ${artifact.kind} and no checkpoint` : `its checkpoint ${checkpoint} is not in the store`}`,
      'name a version that cdl models ls lists, or the digest of a checkpoint',
    );
  }
  const [pin] = [from.sha256 ?? []].flat();
  if (pin === undefined || checkpoint === `sha256:${pin}`) return checkpoint;
  throw new UserError(
    'source-mismatch',
    `the checkpoint of ${version} is ${checkpoint}, but models.${model}.from pins ${pin}`,
  );
}

async function checkpointOf(ctx: Ctx, zone: Zone, name: string): Promise<Digest> {
  const [model, number] = name.split('/v') as [string, string];
  const { project } = ctx.project;
  const found = await readVersion(zone, project, model, Number(number));
  if (found) return found.candidate.checkpoint;
  const known = (await listVersions(zone, project, model)).slice(-10).map((one) => `v${one.version}`);
  throw new UserError(
    'input-missing',
    `the registry of ${project} has no ${name}; of ${model} it has ${known.join(', ') || 'no version'}`,
  );
}

async function ofSource(ctx: Ctx, zone: Zone, model: string, from: FromConfig): Promise<Digest> {
  const key = `pretrained/${ctx.project.project}/${digestJson(from).slice(7)}`;
  const record = recordSchema.safeParse((await zone.readRecord(key))?.value);
  // Any job may write there: it only says where to look.
  if (record.success && (await isPinned(zone, from, record.data.artifact))) return record.data.artifact;
  const npmRegistry = await ctx.npmRegistry();
  const options: FetchOptions = {
    cacheFolder: ctx.cacheFolder,
    root: ctx.root,
    ...(npmRegistry && { npmRegistry }),
    ...(await ctx.sourceAccess('train')),
    signal: ctx.signal,
    onProgress: ({ bytes, total }) =>
      ctx.progress(`downloading what ${model} starts from`, total ? bytes / total : 0),
  };
  const folder = await mkdtemp(join(tmpdir(), 'cdl-from-'));
  try {
    const scope = { project: ctx.project.project, dataset: `${model}/from` };
    const found =
      from.hf !== undefined
        ? await ofHub(ctx, zone, scope, from, from.hf, options)
        : await ofFiles(zone, scope, from, options, folder);
    const files = join(folder, 'files');
    await mkdir(files);
    for (const file of found.files) {
      if (!isInsidePath(file.path)) {
        throw new UserError('data-invalid', `${fromName(from)} has a file outside itself: ${file.path}`);
      }
      const target = join(files, file.path);
      await mkdir(dirname(target), { recursive: true });
      await copyFile(file.from, target);
    }
    const artifact = await storeFolder(zone, files, {
      kind: 'checkpoint',
      name: fromName(from).slice(0, 200),
      parents: [],
      meta: { pretrained: true, source: { names: [fromName(from)], sha256: found.sha256 } },
    });
    await zone.writeRecord(key, { artifact });
    return artifact;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Whether an artifact holds what cdl.yaml pins, by the digests of its files. A package is pinned as a whole: not by these. */
async function isPinned(zone: Zone, from: FromConfig, digest: Digest): Promise<boolean> {
  if (from.sha256 === undefined || from.npm !== undefined) return false;
  const artifact = await artifactIfThere(zone, digest);
  if (artifact?.kind !== 'checkpoint' || !(await zone.hasArtifact(digest))) return false;
  const files = artifact.files.map((file) => ({ path: file.path, sha256: file.digest.slice(7) }));
  const pins = [from.sha256].flat();
  if (from.hf !== undefined) return listingDigest(files) === pins[0];
  const names = from.https ?? from.s3 ?? [];
  return (
    files.length === names.length &&
    names.every((name, at) => files.some((f) => f.path === lastOf(name) && f.sha256 === pins[at]))
  );
}

const lastOf = (name: string): string => {
  const last = pathOf(name).split('/').at(-1)!;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
};

type Scope = { project: string; dataset: string };
interface Found {
  files: StartFile[];
  sha256: string[];
}

// Only fetched, never read as items: a reader is of no use here.
const sourceOf = (source: Omit<SourceConfig, 'read'>): SourceConfig => source as SourceConfig;

async function ofHub(
  ctx: Ctx,
  zone: Zone,
  scope: Scope,
  from: FromConfig,
  name: string,
  options: FetchOptions,
): Promise<Found> {
  const isWanted = picomatch(from.files, { dot: true });
  const { files } = await listHub(name, ctx.modelHub(), (path) => isWanted(path), options);
  const limits = from.limits && { limits: from.limits };
  const fetched = await inOrder(files, downloadsAtOnce, options.signal, async ({ path, url }, _, signal) => {
    const got = await fetchSource(sourceOf({ https: [url], ...limits }), { ...options, signal });
    return { path, from: got.files[0]!.path, sha256: got.files[0]!.sha256 };
  });
  const sha256 = listingDigest(fetched);
  const place = { https: [`hf:${name}`, ...from.files] };
  // One sha256 of all, kept under each name, as that of a source has one a name.
  const same = place.https.map(() => sha256);
  const pin =
    from.sha256 === undefined
      ? ((await readFirstSeen(zone, scope, place)) ?? (await recordFirstSeen(zone, scope, place, same)))[0]
      : [from.sha256].flat()[0];
  if (pin === sha256) return { files: fetched, sha256: [sha256] };
  throw new UserError(
    'source-mismatch',
    `hf:${name} has sha256 ${sha256} (of the lines sha256sum prints of its files), but ${pin} ${from.sha256 === undefined ? 'was recorded when it was first seen' : 'is pinned'}`,
  );
}

async function ofFiles(
  zone: Zone,
  scope: Scope,
  from: FromConfig,
  options: FetchOptions,
  folder: string,
): Promise<Found> {
  const { npm, https, s3, sha256, limits } = from;
  const place = npm !== undefined ? { npm } : https ? { https } : { s3: s3! };
  const source = sourceOf({ ...place, ...(sha256 && { sha256 }), ...(limits && { limits }) });
  const { fetched } = await collect(zone, scope, [source], options);
  const pins = pinsOf(fetched.source)!;
  if (npm !== undefined) return { files: await unpack(fetched, from.files, folder), sha256: pins };
  const files = fetched.files.map((file) => ({
    path: file.plain ? file.name : lastOf(file.name),
    from: file.path,
    sha256: file.sha256,
  }));
  const twice = files.find((file, at) => files.findIndex((one) => one.path === file.path) < at);
  if (!twice) return { files, sha256: pins };
  throw new UserError(
    'config-invalid',
    `two files of ${fromName(from)} are called ${twice.path}`,
    'the trainer finds files by the last part of their address: give each its own',
  );
}

/** The wanted files of a package. Archives in it, and others that look like one (a PyTorch file is a zip), stay as they are. */
async function unpack(fetched: FetchedSource, wanted: string[], folder: string): Promise<StartFile[]> {
  const isWanted = picomatch(wanted, { dot: true });
  const files: StartFile[] = [];
  for await (const entry of readEntries(fetched)) {
    const path = entry.path.replace(/^package\//, '');
    if (!isWanted(path)) continue;
    if (entry.problem !== null) {
      throw new UserError(
        'data-invalid',
        `${fetched.files[0]!.name} holds ${JSON.stringify(path)}, which cannot be taken (${entry.problem})`,
        'leave it out by from.files in cdl.yaml, or take another version',
      );
    }
    const from = join(folder, `entry-${files.length}`);
    await pipeline(await entry.open(), createWriteStream(from));
    files.push({ path, from, sha256: '' });
  }
  if (files.length > 0) return files;
  throw new UserError('data-invalid', `${fetched.files[0]!.name} has no file ${wanted.join(', ')}`);
}

/** Writes what training starts from beside the exported code, verified; gives the folder. */
export async function savePretrained(zone: Zone, digest: Digest, folder: string): Promise<string> {
  const at = join(folder, '.pretrained');
  await mkdir(at);
  await zone.saveArtifact(digest, at);
  return at;
}
