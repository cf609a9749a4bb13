import { type Claim, codeDigest, configDigest, digestJson, emptyLock, listVersions } from '../src/index.ts';
import { checkClaim, hasClaim } from './claim.ts';
import type { ReadChange } from './read.ts';
import { keepFound } from './registered.ts';
import type { BotContext, Facts, Sources } from './types.ts';

const sought = 'sought/';

/** How many versions of one code and configuration are tried at a time, newest first: any job may write to the registry. */
const mostTried = 5;

/**
 * Whether a model of a change waits for a candidate that its own pipeline does not give it. Not where somebody sent the
 * change back, and not where it is about the data: a version that was made before has not seen those.
 */
function isWaiting(facts: Facts): boolean {
  const { change, claim, pipeline, rules, headProject, model } = facts;
  if (change.state !== 'open' || change.fork || !rules || !facts.isFirst) return false;
  if (claim.kind !== 'none' || facts.returns || facts.paused || facts.rejection) return false;
  if (pipeline?.state === 'running' || pipeline?.state === 'waiting') return false;
  const dataOf = ({ models, datasets }: Facts['headProject']) => digestJson(datasets[models[model]!.data]!);
  return dataOf(headProject) === dataOf(rules.project);
}

/** The newest version above `after` that was made of the head's code and configuration and passes every check, and the last there is. */
async function findFitting(
  sources: Sources,
  facts: Facts,
  after: number,
): Promise<{ claim: Claim | null; last: number }> {
  const { change, model, headProject } = facts;
  const config = headProject.models[model]!;
  const versions = await listVersions(sources.work, facts.project, model, after);
  const last = versions.at(-1)?.version ?? after;
  const code =
    versions.length > 0 ? codeDigest(await sources.mirror.codeFiles(change.head, config.code)) : '';
  const fitting = versions.filter(
    ({ candidate }) => candidate.code === code && candidate.config === configDigest(config),
  );
  // What was registered before something else in the pipeline failed is no way around that.
  if (fitting.length === 0 || (await hasClaim(sources, facts.pipeline, model))) return { claim: null, last };
  for (const { candidate, version, run } of fitting.slice(-mostTried).reverse()) {
    const checked = await checkClaim(sources, {
      head: null,
      commit: change.head,
      model,
      config,
      data: headProject.datasets[config.data]!,
      project: headProject.project,
      lock: emptyLock,
      environment: facts.environment,
      registered: { v: 1, candidate, version, run },
      found: null,
      lockOnly: false,
    });
    if (checked.kind === 'verified') return { claim: checked.claim, last };
  }
  return { claim: null, last };
}

/**
 * Proposes what was registered elsewhere (another machine, a notebook, another pipeline) on an open change whose own pipeline
 * made no candidate of its code and configuration. Each version is looked at once for a head. True when something was
 * proposed, so that the change is to be read again.
 */
export async function proposeFound(context: BotContext, read: ReadChange): Promise<boolean> {
  if (read.kind !== 'read') return false;
  let proposed = false;
  for (const facts of read.models.filter(isWaiting)) {
    const { change, model } = facts;
    const name = `${sought}${change.id}/${model}`;
    const [head, seen] = ((await context.state.cursor(name)) ?? '').split(' ');
    const after = head === change.head ? Number(seen) : 0;
    const { claim, last } = await findFitting(context, facts, after);
    if (claim) {
      await keepFound(context.state, change.id, model, claim);
      proposed = true;
    }
    if (head !== change.head || last > after) {
      await context.effects.setCursor(name, `${change.head} ${last}`);
    }
  }
  return proposed;
}

/** Queues the open changes that waited for a version when the bot looked at them last. Throws UpstreamError. */
export async function queueSeekers(context: Pick<BotContext, 'forge' | 'state' | 'effects'>): Promise<void> {
  const { forge, state, effects } = context;
  const names = await state.cursors(sought);
  if (names.length === 0) return;
  const seekers = new Set(names.map((name) => Number(name.slice(sought.length).split('/', 1)[0])));
  for (const { id } of await forge.listChanges({ state: 'open' })) {
    if (seekers.has(id)) await effects.enqueue({ kind: 'change', change: id });
  }
}
