import { UpstreamError } from '../core/error.ts';
import { keepNewest } from '../core/keep.ts';
import { type ObjectReader, parseTree } from './git-objects.ts';

/** One file of a commit. `mode` is git's (100644, 100755, 120000 link, 160000 submodule), `oid` its object name. */
export interface TreeFile {
  path: string;
  mode: string;
  oid: string;
}

/** What commits hold. Objects never change: what was read once is not asked of git again. */
export interface Trees {
  has(commit: string): Promise<boolean>;
  /** Every file of a commit, in git's order; null when it is not there. Throws UpstreamError. */
  files(commit: string): Promise<TreeFile[] | null>;
  /** A file's bytes. Throws UpstreamError. */
  blob(oid: string): Promise<Buffer>;
}

/** How many commits' file lists are kept in memory. */
const mostTrees = 200;

/** How many folders are kept in memory: most of the next commit's are those of this one. */
const mostFolders = 2000;

/** Small files that are kept in memory (cdl.yaml and cdl.lock are read for every look at a change). */
const mostBlobs = 1000;
const largestKept = 64 * 1024;

/** Reads trees by way of the objects of a repository. */
export function createTrees(objects: ObjectReader): Trees {
  const known = new Set<string>();
  const trees = new Map<string, TreeFile[]>();
  const folders = new Map<string, ReturnType<typeof parseTree>>();
  const blobs = new Map<string, Buffer>();

  async function object(oid: string, type: 'tree' | 'blob'): Promise<Buffer> {
    const found = await objects.read(oid);
    if (found?.type === type) return found.bytes;
    throw new UpstreamError('git', `the mirror has no ${type} ${oid}`, { retryable: true });
  }

  async function folder(oid: string): Promise<ReturnType<typeof parseTree>> {
    const read = folders.get(oid);
    return (
      read ?? keepNewest(folders, mostFolders, oid, parseTree(await object(oid, 'tree'), oid.length / 2))
    );
  }

  async function below(oid: string, path: string): Promise<TreeFile[]> {
    const files = (await folder(oid)).map(({ mode, name, oid: of }) =>
      mode === '040000' ? below(of, `${path}${name}/`) : [{ path: `${path}${name}`, mode, oid: of }],
    );
    return (await Promise.all(files)).flat();
  }

  return {
    async has(commit) {
      if (known.has(commit)) return true;
      if ((await objects.read(commit))?.type !== 'commit') return false;
      known.add(commit);
      return true;
    },
    async files(commit) {
      const read = trees.get(commit);
      if (read) return read;
      const found = await objects.read(commit);
      if (found?.type !== 'commit') return null;
      known.add(commit);
      const tree = /^tree ([0-9a-f]+)$/m.exec(found.bytes.toString('latin1'))![1]!;
      return keepNewest(trees, mostTrees, commit, await below(tree, ''));
    },
    async blob(oid) {
      const read = blobs.get(oid);
      if (read) return read;
      const bytes = await object(oid, 'blob');
      return bytes.length > largestKept ? bytes : keepNewest(blobs, mostBlobs, oid, bytes);
    },
  };
}
