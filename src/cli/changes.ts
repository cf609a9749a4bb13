import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { diffListings } from '../data/folder/diff.ts';
import { openDataReader } from '../data/folder/places.ts';
import { openListing } from '../data/folder/reader.ts';
import { run } from '../exec/run.ts';
import { diffCheckpoints, type TensorDifference } from '../model/weights-diff.ts';
import type { Zone } from '../store/types.ts';

/** How many items (by path or content) came, went and are others. */
export interface DataChange {
  added: number;
  removed: number;
  changed: number;
}

/** What makes up a trained model, as far as a comparison looks into it. */
export interface Made {
  code: Digest;
  dataset: Digest | null;
  checkpoint: Digest | null;
  commit: string | null;
}

/** What is different inside parts whose digests differ: empty or null where they do not, or where it cannot be read. */
export interface Inside {
  /** Files that differ between the commits, with git's letter; null where this clone does not have both. */
  code: string[] | null;
  data: DataChange | null;
  weights: TensorDifference[] | null;
}

async function codeChanges(root: string, commits: readonly (string | null)[]): Promise<string[] | null> {
  if (!commits.every((one) => one !== null && /^[0-9a-f]{40,64}$/.test(one))) return null;
  const [from, to] = commits as [string, string];
  const told = await run('git', ['diff', '--name-status', '--no-renames', from, to], { cwd: root });
  if (told.code !== 0) return null;
  return told.stdout
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((line) => line.replace('\t', ' '));
}

async function dataChanges(work: Zone, from: Digest, to: Digest): Promise<DataChange | null> {
  const reader = openDataReader([async () => work]);
  try {
    const found = await diffListings(await openListing(reader, from), await openListing(reader, to));
    return { added: found.added.length, removed: found.removed.length, changed: found.changed.length };
  } catch (error) {
    if (error instanceof UserError && error.code === 'artifact-missing') return null;
    throw error;
  }
}

/** Bytes of a checkpoint beyond which nobody waits for a look into it. */
const mostWeights = 2 ** 30;

async function weightChanges(work: Zone, from: Digest, to: Digest): Promise<TensorDifference[] | null> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-weights-'));
  try {
    const saved = [];
    for (const [at, digest] of [from, to].entries()) {
      const { files } = await work.getArtifact(digest);
      if (files.reduce((sum, file) => sum + file.size, 0) > mostWeights) return null;
      saved.push({ folder: join(folder, String(at)), files });
      await work.saveArtifact(digest, saved[at]!.folder);
    }
    return await diffCheckpoints(saved[0]!, saved[1]!);
  } catch (error) {
    // Pruned, or not what it seems: then the digests are all there is to say.
    if (error instanceof UserError || (error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Looks into what differs between two trained models. */
export async function lookInside(root: string, work: Zone, from: Made, to: Made): Promise<Inside> {
  const both = (name: 'dataset' | 'checkpoint') =>
    from[name] !== null && to[name] !== null && from[name] !== to[name]
      ? ([from[name], to[name]] as const)
      : null;
  const [data, weights] = [both('dataset'), both('checkpoint')];
  return {
    code: from.code === to.code ? [] : await codeChanges(root, [from.commit, to.commit]),
    data: data && (await dataChanges(work, ...data)),
    weights: weights ? await weightChanges(work, ...weights) : [],
  };
}
