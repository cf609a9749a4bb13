import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../core/error.ts';
import type { Base } from './base.ts';
import { comparePaths, gitName, sameContent, type TreeEntry } from './entry.ts';
import { hashPath } from './hash-path.ts';
import { type FileStat, readLink, sameStat, temporaryPrefix, type Walked, walkFolder } from './walk.ts';

/** What has to be done so that a folder holds a version. */
export interface CheckoutPlan {
  /** Stats of entries that are there already, by path. */
  kept: Map<string, FileStat>;
  /** What has to go: files and links of the version before that are not in this one, and what is in the way of one that is. */
  removed: string[];
}

/** How many paths an error names. */
const named = 10;

/**
 * Compares what is on disk with what is known of it and with a version. Nothing is written. Throws UserError data-invalid
 * when a file would be lost that no version has (`force` lets it go).
 */
export function planCheckout(
  root: string,
  only: string | null,
  base: Base | null,
  target: Iterable<TreeEntry>,
  force: boolean,
): CheckoutPlan {
  const plan: CheckoutPlan = { kept: new Map(), removed: [] };
  const lost: string[] = [];
  const left: string[] = [];
  const wanted = target[Symbol.iterator]();
  let next = wanted.next();
  let known = base?.next() ?? null;
  const created: TreeEntry[] = [];
  const pass = (until: string | null) => {
    while (!next.done && (until === null || comparePaths(next.value.path, until) < 0)) {
      created.push(next.value);
      next = wanted.next();
    }
  };
  for (const found of walkFolder(root, only)) {
    pass(found.path);
    while (known !== null && comparePaths(known.path, found.path) < 0) known = base!.next();
    const old = known?.path === found.path ? known : null;
    const before = old ? base!.entry(old) : null;
    const clean = old !== null && !old.racy && old.kind === found.kind && sameStat(old, found);
    const entry = next.done || next.value.path !== found.path ? null : next.value;
    if (entry) next = wanted.next();
    const now = () => (clean && old.exec === found.exec ? before! : contentOf(root, found));
    if (entry && sameContent(now(), entry)) {
      plan.kept.set(found.path, found);
    } else if (found.kind === 'folder') {
      if (entry) {
        refuseHidden(join(root, found.path));
        plan.removed.push(found.path);
      } else if (before?.kind === 'folder') plan.removed.push(found.path);
      else left.push(found.path);
    } else if (before && sameBytes(now(), before)) {
      plan.removed.push(found.path);
    } else if (entry || before) {
      lost.push(found.path);
      plan.removed.push(found.path);
    } else {
      left.push(found.path);
    }
  }
  pass(null);
  for (const path of inTheWay(root, created, left)) {
    lost.push(path);
    plan.removed.push(path);
  }
  lookAround(root, created, plan.removed);
  if (lost.length > 0 && !force) {
    const more = lost.length > named ? ` and ${lost.length - named} more` : '';
    throw new UserError(
      'data-invalid',
      `${root} has changes that no version holds: ${lost.slice(0, named).join(', ')}${more}`,
      'cdl data add keeps them as a version; --force gives them up. Nothing was changed',
    );
  }
  plan.removed.reverse();
  return plan;
}

/** A folder that gives way to a file may hold, at any depth, what no walk finds and no version has: a repository of git. */
function refuseHidden(place: string, folder = place): void {
  for (const found of readdirSync(folder, { withFileTypes: true })) {
    const { name } = found;
    if (gitName.test(name) || name.startsWith(temporaryPrefix)) {
      const what = gitName.test(name) ? 'a repository of git' : name;
      throw new UserError(
        'data-invalid',
        `${folder} holds ${what}, and the version has a file at ${place}`,
        'move it away. Nothing was changed',
      );
    }
    if (found.isDirectory()) refuseHidden(place, join(folder, name));
  }
}

/** Refuses what is hidden in the folders that go because a file gets their place. */
function lookAround(root: string, created: readonly TreeEntry[], removed: readonly string[]): void {
  const folders = new Set<string>();
  if (created.length > 0)
    for (const path of removed) for (const above of foldersAbove(path)) folders.add(above);
  for (const { kind, path } of created)
    if (kind !== 'folder' && folders.has(path)) refuseHidden(join(root, path));
}

/** Paths without a version that stand where a folder has to be, or are below what has to be a file. */
function inTheWay(root: string, created: readonly TreeEntry[], left: readonly string[]): string[] {
  if (left.length === 0) return [];
  const files = new Set(left);
  const places = new Set(created.flatMap(({ kind, path }) => (kind === 'folder' ? [] : [path])));
  const found = new Set(left.filter((path) => foldersAbove(path).some((above) => places.has(above))));
  for (const { path } of created) {
    for (const above of foldersAbove(path))
      if (files.has(above) && !lstatSync(join(root, above)).isDirectory()) found.add(above);
  }
  return [...found];
}

function foldersAbove(path: string): string[] {
  const found: string[] = [];
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) found.push(path.slice(0, at));
  return found;
}

/** A mode can be had again: what must not be lost are bytes. */
function sameBytes(a: TreeEntry, b: TreeEntry): boolean {
  return a.kind === 'file' && b.kind === 'file' ? a.sha256 === b.sha256 : sameContent(a, b);
}

function contentOf(root: string, found: Walked): TreeEntry {
  const { path, exec } = found;
  if (found.kind === 'folder') return { kind: 'folder', path };
  if (found.kind === 'link') {
    try {
      return { kind: 'link', path, target: readLink(root, path) };
    } catch (error) {
      // It leads out of the folder, so no version has it.
      if (error instanceof UserError) return { kind: 'link', path, target: '' };
      throw error;
    }
  }
  const sha256 = hashPath(join(root, path));
  return { kind: 'file', path, sha256, size: found.size, exec, blob: '', at: null };
}
