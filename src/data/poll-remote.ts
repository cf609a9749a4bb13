import { digestJson } from '../core/digest.ts';
import type { SourceConfig } from '../core/project.ts';
import { Unreachable } from './source/attempts.ts';
import { bucketError, openPlace } from './source/bucket.ts';
import { remoteTags } from './source/git.ts';
import type { FetchOptions } from './source/options.ts';
import { fetchSource, pinsOf } from './sources.ts';

/** What says whether a source is as it was, without its bytes: it is compared with what was kept of the last look. */
export interface Mark {
  /** ETags of a bucket's objects, or the commit of a tag, as one digest. */
  mark: string;
  /** For git: the newest version tag, when the source names a version tag. */
  newest: string | null;
}

/** A version tag by its numbers (`v1.2.3`, `1.2`); null for any other tag, and for versions before a release. */
function versionOf(tag: string): number[] | null {
  return /^v?\d+(\.\d+){0,3}$/.test(tag) ? tag.replace('v', '').split('.').map(Number) : null;
}

/** Below 0 when `a` is the earlier version. */
function compareVersions(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < Math.max(a.length, b.length); at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The latest of the tags that are versions, if it is later than `ref`, which must be one; null otherwise. Pure. */
export function laterTag(ref: string, tags: readonly string[]): string | null {
  const now = versionOf(ref);
  if (!now) return null;
  let best: { tag: string; version: number[] } | null = null;
  for (const tag of tags) {
    const version = versionOf(tag);
    if (version && compareVersions(version, best?.version ?? now) > 0) best = { tag, version };
  }
  return best?.tag ?? null;
}

/** Looks at a bucket or a repository. Throws Unreachable, UserError store-denied. */
export async function readMark(source: SourceConfig, name: string, options: FetchOptions): Promise<Mark> {
  if (source.git) {
    const { ref } = source.git;
    // A commit is what it is.
    if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(ref)) return { mark: ref, newest: null };
    const tags = await remoteTags(source.git, options);
    const mark = tags.get(ref);
    if (mark === undefined) throw new Unreachable(`it has no tag ${ref}`, false);
    return { mark, newest: laterTag(ref, [...tags.keys()]) };
  }
  try {
    const { store, key, isFolder } = await openPlace(name, options);
    if (!isFolder) {
      const entry = await store.stat(key);
      if (!entry) throw new Unreachable(`there is no object ${key}`, false);
      return { mark: entry.etag, newest: null };
    }
    const all: [string, string][] = [];
    for await (const entry of store.list(key === '' ? '' : `${key}/`)) {
      options.signal?.throwIfAborted();
      if (!entry.key.endsWith('/')) all.push([entry.key, entry.etag]);
    }
    return { mark: digestJson(all), newest: null };
  } catch (error) {
    throw bucketError(error);
  }
}

/** The sha256 a part of a source has now, whatever cdl.yaml pins. */
export async function currentPin(source: SourceConfig, name: string, options: FetchOptions): Promise<string> {
  const { sha256: _, ...unpinned } = source;
  const one = source.git || source.npm !== undefined ? unpinned : { ...unpinned, ...only(source, name) };
  return pinsOf((await fetchSource(one, options)).source)![0]!;
}

const only = (source: SourceConfig, name: string): Partial<SourceConfig> =>
  source.s3 ? { s3: [name] } : source.file ? { file: [name] } : { https: [name] };
