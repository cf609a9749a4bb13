import { comparePaths, sameContent, type TreeEntry } from './entry.ts';
import type { Listing } from './reader.ts';

/** How two versions differ, by path. A file that went under one name and came under another is renamed. */
export interface Difference {
  added: string[];
  removed: string[];
  changed: string[];
  renamed: { from: string; to: string }[];
}

/** Compares two versions; parts of their indices with the same content are not read. */
export async function diffListings(a: Listing, b: Listing): Promise<Difference> {
  const [before, after] = [differing(a, b), differing(b, a)];
  const added: TreeEntry[] = [];
  const removed: TreeEntry[] = [];
  const changed: string[] = [];
  let [was, is] = [await before.next(), await after.next()];
  while (!was.done || !is.done) {
    const order = was.done ? 1 : is.done ? -1 : comparePaths(was.value.path, is.value.path);
    if (order < 0) {
      removed.push(was.value!);
      was = await before.next();
    } else if (order > 0) {
      added.push(is.value!);
      is = await after.next();
    } else {
      if (!sameContent(was.value!, is.value!)) changed.push(is.value!.path);
      [was, is] = [await before.next(), await after.next()];
    }
  }
  const gone = new Map<string, string[]>();
  for (const entry of removed) {
    if (entry.kind !== 'file' || entry.size === 0) continue;
    const same = gone.get(entry.sha256);
    if (same) same.push(entry.path);
    else gone.set(entry.sha256, [entry.path]);
  }
  const renamed: { from: string; to: string }[] = [];
  const moved = new Set<TreeEntry>();
  const left = new Set<string>();
  for (const entry of added) {
    const from = entry.kind === 'file' ? gone.get(entry.sha256)?.shift() : undefined;
    if (from === undefined) continue;
    renamed.push({ from, to: entry.path });
    moved.add(entry);
    left.add(from);
  }
  return {
    added: added.filter((entry) => !moved.has(entry)).map(({ path }) => path),
    removed: removed.map(({ path }) => path).filter((path) => !left.has(path)),
    changed,
    renamed,
  };
}

async function* differing(one: Listing, other: Listing): AsyncGenerator<TreeEntry> {
  if (!one.parts || !other.parts) {
    yield* one.entries();
    return;
  }
  const known = new Set(other.parts.map((part) => part.content));
  for (const part of one.parts) if (!known.has(part.content)) yield* await part.read();
}
