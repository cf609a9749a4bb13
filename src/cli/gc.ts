import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { collectGarbage } from '../data/gc.ts';
import { readGitRoots } from '../data/git-roots.ts';
import { findRoot, openZone } from '../steps/context.ts';
import { openLocalZone } from '../store/index.ts';
import { bytesText, count } from './data-text.ts';
import type { CommandInput } from './types.ts';

const day = 24 * 60 * 60 * 1000;

/** An object that is relied on again is made young after one day; whoever does that has another to say so. */
const leastDays = 2;

/**
 * `cdl gc`: what in the work zone nothing reaches. With `--delete` it goes; that needs the trusted zone and every branch and tag.
 * Throws UserError usage, store-denied, input-missing when it cannot be known what is reached.
 */
export async function gc(input: CommandInput): Promise<number> {
  const days = Number(input.options.grace);
  if (!(days >= leastDays)) throw new UserError('usage', `--grace takes days, ${leastDays} or more`);
  const remove = input.options.delete === true;
  const root = await findRoot(input.cwd);
  const isLocal = input.options.local === true;
  const zone = isLocal
    ? await openLocalZone(join(root, '.cdl', 'store', 'work'))
    : await openZone(input.env, 'work', root);
  const isShared = !isLocal && Boolean(input.env.CDL_WORK_STORE);
  const trusted = await openZone(input.env, 'trusted', root).catch((error: unknown) => {
    if (error instanceof UserError && error.code === 'store-denied') return null;
    throw error;
  });
  const { digests, doubts } = await readGitRoots(root, isShared);
  if (!trusted) doubts.push('the trusted zone cannot be read: decisions and what is live are not known');
  if (remove && doubts.length > 0) {
    throw new UserError(
      'input-missing',
      `what is in use is not all known here:\n${doubts.map((doubt) => `  ${doubt}`).join('\n')}`,
      'put that right, or run without --delete to see what would go',
    );
  }
  const found = await collectGarbage({
    zone,
    others: trusted ? [trusted] : [],
    roots: digests,
    grace: days * day,
    now: () => Date.now(),
    remove,
    signal: input.console.signal,
  });
  const what = `${count(found.objects.length, 'object')} (${bytesText(found.bytes)}) and ${count(found.manifests.length, 'manifest')}`;
  const kept = `${count(found.kept.objects, 'object')} (${bytesText(found.kept.bytes)})`;
  const lines = [
    ...doubts.map((doubt) => `! ${doubt}`),
    remove ? `removed ${what}; ${kept} stay` : `would remove ${what}; ${kept} stay`,
    ...(remove || found.objects.length + found.manifests.length === 0
      ? []
      : ['nothing was removed: cdl gc --delete']),
  ];
  input.console.print(lines.join('\n'), { removed: remove, doubts, ...found });
  return 0;
}
