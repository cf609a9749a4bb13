import { keepNewest } from '../core/keep.ts';
import type { ObjectReader } from './git-objects.ts';

/** Commits that are looked at for one answer; what takes more is for git, which keeps an index of its own. */
const mostSteps = 1000;

/** Commits whose parents are kept in memory. */
const mostCommits = 20_000;

interface Commit {
  parents: readonly string[];
  /** When it was committed, in seconds. */
  time: number;
}

/** The side of `a`, the side of `b`, and what lies below a common ancestor. */
const [ours, theirs, below] = [1, 2, 4] as const;
const both = ours | theirs;

/** Walks from commit to commit by way of the objects of a repository, where a process of git would cost a thousand times more. */
export interface History {
  /** The best common ancestor; null for unrelated histories, undefined where only git can tell. */
  mergeBase(a: string, b: string): Promise<string | null | undefined>;
}

/** Walks the commits that `objects` reads; they never change, so each is read once. */
export function createHistory(objects: ObjectReader): History {
  const commits = new Map<string, Commit>();

  async function read(oid: string): Promise<Commit | null> {
    const known = commits.get(oid);
    if (known) return known;
    const object = await objects.read(oid);
    if (object?.type !== 'commit') return null;
    const text = object.bytes.toString('latin1');
    const head = text.slice(0, text.indexOf('\n\n'));
    const parents = [...head.matchAll(/^parent ([0-9a-f]+)$/gm)].map(([, parent]) => parent!);
    const time = Number(/^committer .* (\d+) [+-]\d{4}$/m.exec(head)?.[1] ?? 0);
    return keepNewest(commits, mostCommits, oid, { parents, time });
  }

  return {
    // As git does it (commit-reach.c, paint_down_to_common): newest first, each commit says whose ancestor it is.
    async mergeBase(a, b) {
      if (a === b) return (await read(a)) ? a : undefined;
      const flags = new Map<string, number>([
        [a, ours],
        [b, theirs],
      ]);
      const queue: { oid: string; commit: Commit }[] = [];
      const found = new Set<string>();
      const add = async (oid: string): Promise<boolean> => {
        const commit = await read(oid);
        if (!commit) return false;
        const at = queue.findIndex((one) => one.commit.time < commit.time);
        queue.splice(at < 0 ? queue.length : at, 0, { oid, commit });
        return true;
      };
      if (!(await add(a)) || !(await add(b))) return undefined;
      const isOpen = ({ oid }: { oid: string }) => (flags.get(oid)! & below) === 0;
      for (let steps = 0; queue.some(isOpen); steps++) {
        if (steps === mostSteps) return undefined;
        const { oid, commit } = queue.shift()!;
        const own = flags.get(oid)!;
        let handed = own;
        if ((own & (both | below)) === both) {
          found.add(oid);
          handed |= below;
        }
        for (const parent of commit.parents) {
          const known = flags.get(parent) ?? 0;
          if ((known & handed) === handed) continue;
          flags.set(parent, known | handed);
          if (!(await add(parent))) return undefined;
        }
      }
      const best = [...found].filter((oid) => (flags.get(oid)! & below) === 0);
      // Of several, and of clocks that went wrong, git knows which is best.
      return best.length > 1 ? undefined : (best[0] ?? null);
    },
  };
}
