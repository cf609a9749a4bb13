import { emptyLock, lockFile, renderLock, resolveLocks } from '../src/index.ts';
import { inMessage } from './commands/subject.ts';
import { lockAt } from './read.ts';
import type { Merged, Sources } from './types.ts';

/** How often somebody may push in between before it is given up. */
const tries = 4;

/** Whether git cannot merge cdl.lock of two commits: both changed it since they parted, and differently. */
export async function isLockConflict(
  sources: Pick<Sources, 'mirror'>,
  head: string,
  tip: string,
): Promise<boolean> {
  const [ours, theirs] = await Promise.all([lockAt(sources, head), lockAt(sources, tip)]);
  if (ours.text === theirs.text) return false;
  const base = await sources.mirror.mergeBase(head, tip);
  if (base === tip) return false;
  const before = base ? (await lockAt(sources, base)).text : '';
  return ours.text !== before && theirs.text !== before;
}

/** Merges `target` into `branch` with cdl.lock by whole entries. */
export async function mergeWithLock(
  { mirror }: Pick<Sources, 'mirror'>,
  wanted: { branch: string; target: string; author: { name: string; email: string } },
): Promise<Merged> {
  const { branch, target, author } = wanted;
  for (let attempt = 0; attempt < tries; attempt++) {
    const [head, tip] = await Promise.all([mirror.head(branch), mirror.head(target)]);
    if (!head || !tip) return 'moved';
    const base = await mirror.mergeBase(head, tip);
    if (base === tip) return 'same';
    const [before, ours, theirs] = await Promise.all([
      base ? lockAt({ mirror }, base) : { lock: emptyLock },
      lockAt({ mirror }, head),
      lockAt({ mirror }, tip),
    ]);
    // What both sides changed is the default branch's, for the bot writes its own anew.
    const lock = ours.problem === null ? resolveLocks(before.lock, ours.lock, theirs.lock) : theirs.lock;
    const wasThere = [ours, theirs].some((one) => one.text !== '');
    const done = await mirror.merge({
      branch,
      parent: head,
      other: tip,
      files: wasThere ? { [lockFile]: renderLock(lock) } : {},
      message: `Merge ${inMessage(target)} into ${inMessage(branch)}\n\ncdl.lock by whole entries.\n`,
      author,
    });
    if (done !== 'moved') return done;
  }
  return 'moved';
}
