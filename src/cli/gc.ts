import { join, resolve } from 'node:path';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { collectGarbage } from '../data/gc.ts';
import { type GitRoots, readGitRoots } from '../data/git-roots.ts';
import { listRepositories, repositoryNames } from '../data/repositories.ts';
import { cleanLine } from '../report/text.ts';
import { findRoot, openZone } from '../steps/context.ts';
import { openLocalZone } from '../store/index.ts';
import type { Zone } from '../store/types.ts';
import { bytesText } from './data-text.ts';
import { judgeDoubts } from './doubts.ts';
import type { CommandInput } from './types.ts';

const day = 24 * 60 * 60 * 1000;

/** An object that is relied on again is made young after one day; whoever does that has another to say so. */
const leastDays = 2;

/**
 * `cdl gc`: what in the work zone nothing reaches. With `--delete` it goes; that needs the trusted zone and every
 * branch and tag of every repository that keeps data there.
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
  const { also = [], gone = [] } = input.options as { also?: string[]; gone?: string[] };
  const clones = [root];
  for (const one of also) clones.push(await findRoot(resolve(input.cwd, one)));
  const { digests, doubts } = await rootsOf(clones, isShared);
  if (isShared) {
    const unseen = await unseenRepositories(zone, clones, gone);
    doubts.push(
      ...unseen.map(
        (name) => `${name} keeps data here too: --also <clone of it>, or --gone "${name}" if it is no more`,
      ),
    );
  }
  judgeDoubts(doubts, trusted, remove);
  const found = await collectGarbage({
    zone,
    others: trusted ? [trusted] : [],
    roots: digests,
    grace: days * day,
    now: () => Date.now(),
    remove,
    signal: input.console.signal,
  });
  const what = `${plural(found.objects.length, 'object')} (${bytesText(found.bytes)}) and ${plural(found.manifests.length, 'manifest')}`;
  const kept = `${plural(found.kept.objects, 'object')} (${bytesText(found.kept.bytes)})`;
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

/** What the clones of repositories hold on to; doubts name the clone when there are several. */
async function rootsOf(
  clones: readonly string[],
  remotes: boolean,
): Promise<Pick<GitRoots, 'digests' | 'doubts'>> {
  const found = { digests: new Set<string>(), doubts: [] as string[] };
  for (const clone of clones) {
    const { digests, doubts } = await readGitRoots(clone, remotes);
    for (const digest of digests) found.digests.add(digest);
    found.doubts.push(...doubts.map((doubt) => (clones.length > 1 ? `${clone}: ${doubt}` : doubt)));
  }
  return found;
}

/** Repositories that keep data in a zone and are none of the clones', nor said to be gone. */
async function unseenRepositories(
  zone: Zone,
  clones: readonly string[],
  gone: readonly string[],
): Promise<string[]> {
  const seen = new Set([...(await Promise.all(clones.map(repositoryNames))).flat(), ...gone]);
  return (await listRepositories(zone)).filter((name) => !seen.has(name)).map(cleanLine);
}
