import {
  codeDigest,
  configDigest,
  type Decision,
  digestJson,
  type LockEntry,
  lockEntry,
  planDeployment,
  type Status,
  UserError,
} from '../src/index.ts';
import { versionThatRan } from './claim.ts';
import { placesOf, returnOf } from './places.ts';
import { statusName } from './plan.ts';
import { lockAt, projectAt, readDecisions, readLive } from './read.ts';
import type { BotContext } from './types.ts';

/** Where GitHub's merge queue puts its branches (docs.github.com, managing a merge queue). */
const prefix = 'gh-readonly-queue/';

type Verdict = Pick<Status, 'state' | 'description'>;

const passed = (description: string): Verdict => ({ state: 'success', description });
const refused = (description: string): Verdict => ({ state: 'failed', description });

/** Bytes of a package; null when the store has it no more. */
async function bytesOf(context: BotContext, entry: LockEntry): Promise<number | null> {
  try {
    const { files } = await context.work.getArtifact(entry.package);
    return files.reduce((sum, file) => sum + file.size, 0);
  } catch (error) {
    if (error instanceof UserError) return null;
    throw error;
  }
}

/** The last thing said about an entry that is not the news that it runs. */
function lastWord(decisions: readonly Decision[], entry: LockEntry): Decision | undefined {
  return decisions.findLast(
    (one) =>
      one.candidate === entry.candidate && one.evaluation === entry.evaluation && one.decision !== 'promoted',
  );
}

/**
 * Queues the branches of GitHub's merge queue whose webhook may be lost: without a status the queue waits until it gives up.
 * A branch that ends at the head of an open change was made by no queue, which always makes commits of its own, and the
 * change's status is not its to say. Throws UpstreamError.
 */
export async function findQueued(
  { forge, effects }: BotContext,
  heads: ReadonlyMap<string, string>,
): Promise<void> {
  if (forge.kind !== 'github') return;
  const own = `${prefix}${await forge.defaultBranch()}/`;
  const queued = [...heads].filter(([branch]) => branch.startsWith(own));
  if (queued.length === 0) return;
  const proposed = new Set((await forge.listChanges({ state: 'open' })).map((change) => change.head));
  for (const [branch, head] of queued) {
    if (!proposed.has(head)) await effects.enqueue({ kind: 'queue', branch });
  }
}

/**
 * Says of the commit that a merge queue is about to merge whether it holds exactly what was approved: a queue joins changes
 * that nobody saw together. An entry of `cdl.lock` that differs from the default branch's has to be approved against what
 * is live, with this deployment plan, and to be made of the code and configuration of this very commit; code or
 * configuration that differs without its entry is refused. Sets the statuses that the changes themselves have. Nothing for
 * branches that no queue made for the default branch. Throws UpstreamError (try again later) and UserError.
 */
export async function convergeQueue(context: BotContext, branch: string): Promise<void> {
  const { forge, mirror, trusted, effects } = context;
  const defaultBranch = await forge.defaultBranch();
  if (!branch.startsWith(`${prefix}${defaultBranch}/`)) return;
  const [head, tip] = await Promise.all([mirror.head(branch), mirror.head(defaultBranch)]);
  // Merged or thrown out meanwhile.
  if (!head || !tip) return;
  const say = (name: string, verdict: Verdict) =>
    effects.status(head, { name, ...verdict, url: null, pipeline: null });
  const [after, before] = await Promise.all([projectAt(context, head), projectAt(context, tip)]);
  if (!after) return;
  if ('problem' in after) return say('cdl', refused('cdl.yaml cannot be read'));
  const [ours, theirs] = await Promise.all([lockAt(context, head), lockAt(context, tip)]);
  const rules = before && 'project' in before ? before.project : null;
  const { project } = after.project;

  async function codeAt(commit: string, globs: readonly string[]) {
    return codeDigest(await mirror.codeFiles(commit, globs));
  }

  for (const place of placesOf(after.project)) {
    const { model, environment, config } = place;
    const name = statusName(place);
    const base = rules?.models[model];
    if (!base) {
      await say(name, passed('new model: merging defines it, nothing is deployed'));
      continue;
    }
    if (ours.problem !== null) {
      await say(name, refused('cdl.lock cannot be read'));
      continue;
    }
    const [entry, old] = [ours, theirs].map(({ lock }) => lockEntry(lock, model, environment));
    const code = await codeAt(head, config.code);
    if (digestJson(entry ?? null) === digestJson(old ?? null)) {
      // Only the first environment has a status on every change.
      if (!place.isFirst) continue;
      const isSame = configDigest(config) === configDigest(base) && code === (await codeAt(tip, base.code));
      const what = passed('nothing of it changes');
      await say(
        name,
        isSame ? what : refused('its code or configuration changes, its entry in cdl.lock not'),
      );
      continue;
    }
    const { decisions } = await readDecisions(context, project, model, environment);
    const back = returnOf(ours.lock, theirs.lock, place, decisions);
    if (back || !entry) {
      const what =
        back?.version == null ? 'takes out what was taken back' : `back to version ${back.version}`;
      await say(name, back ? passed(what) : refused('takes an entry out of cdl.lock'));
      continue;
    }
    if (entry.code !== code || entry.config !== configDigest(config)) {
      await say(
        name,
        refused('joined with others it is not what was evaluated: bring the branch up to date'),
      );
      continue;
    }
    const live = await readLive(trusted, project, model, environment);
    const from = live?.current?.candidate ?? null;
    const last = lastWord(decisions, entry);
    const bytes = last?.decision === 'approved' ? await bytesOf(context, entry) : null;
    const plan =
      bytes === null
        ? null
        : planDeployment({
            project,
            model,
            environment,
            from,
            fromPackage: (await versionThatRan(trusted, live, from))?.package ?? null,
            to: entry.candidate,
            package: entry.package,
            version: entry.info.version,
            bytes,
            environmentConfig: config.environments[environment]!,
            resources: config.resources.serve,
          }).digest;
    const isApproved = last?.decision === 'approved' && last.baseline === from && last.plan === plan;
    await say(
      name,
      isApproved
        ? passed(`version ${entry.info.version} is approved`)
        : refused(`version ${entry.info.version} is not approved against what is live`),
    );
  }
}
