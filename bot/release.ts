import { z } from 'zod';
import {
  type Change,
  type CodeFile,
  codeDigest,
  configDigest,
  type Digest,
  type Evaluation,
  evaluationSchema,
  renderMarkdown,
  UpstreamError,
  UserError,
} from '../src/index.ts';
import { readClaim } from './claim.ts';
import { changeNumber } from './plan.ts';
import { projectAt } from './read.ts';
import {
  changelog,
  type MadeWith,
  type Promoted,
  type Release,
  type ReleasedVersion,
} from './release-notes.ts';
import type { BotContext } from './types.ts';

/** Tag of a version of a model. */
export function releaseTag(model: string, version: number): string {
  return `model/${model}/v${version}`;
}

/** What the name of a failed release begins with where dead letters are listed; its tag follows. */
export const releasePrefix = 'release ';

/** Name of the note that a version was released in an environment: when, and at which commit. */
const noteOf = (model: string, version: number, environment: string): string =>
  `released/${releaseTag(model, version)}/${environment}`;

/** What is not there (any more) is no reason to make no release. */
async function orNull<T>(ask: Promise<T>): Promise<T | null> {
  try {
    return await ask;
  } catch (error) {
    if (error instanceof UserError || (error instanceof UpstreamError && !error.retryable)) return null;
    throw error;
  }
}

/** What a commit's cdl.yaml says about a model, if it is what the candidate was made with. */
async function madeWith(
  context: BotContext,
  commit: string,
  model: string,
  config: Digest,
): Promise<MadeWith | null> {
  const read = await orNull(projectAt(context, commit));
  if (!read || 'problem' in read || !Object.hasOwn(read.project.models, model)) return null;
  const made = read.project.models[model]!;
  return configDigest(made) === config ? { model: made, data: read.project.datasets[made.data]! } : null;
}

/** The files at a commit that a model's code is, if they are what the candidate was made of. */
async function codeAt(
  { mirror }: BotContext,
  commit: string,
  { model }: MadeWith,
  code: Digest,
): Promise<CodeFile[] | null> {
  const files = await orNull(mirror.codeFiles(commit, model.code));
  return files && codeDigest(files) === code ? files : null;
}

/** What of a data version's manifest is told: numbers, for its words were written where changes may write. */
const itemsSchema = z.object({ count: z.number(), perClass: z.array(z.number()) });

async function versionOf(
  context: BotContext,
  model: string,
  candidate: Digest,
  commitOf: (version: number) => Promise<string | null>,
): Promise<ReleasedVersion> {
  const claim = await readClaim(context.trusted, candidate);
  if (!claim) return { candidate, claim, madeWith: null, files: null, items: null };
  const commit = await commitOf(claim.version);
  const made = commit ? await madeWith(context, commit, model, claim.candidate.config) : null;
  const data = await orNull(context.work.getArtifact(claim.candidate.dataset));
  return {
    candidate,
    claim,
    madeWith: made,
    files: commit && made ? await codeAt(context, commit, made, claim.candidate.code) : null,
    items: itemsSchema.safeParse(data?.meta).data ?? null,
  };
}

/** Reads all that a release tells. Throws UserError artifact-missing when its evaluation is gone, UpstreamError. */
async function readRelease(context: BotContext, promoted: Promoted): Promise<Release> {
  const { model, environment, live, decision } = promoted;
  const parsed = evaluationSchema.safeParse((await context.trusted.getArtifact(live.evaluation)).meta);
  const evaluation: Evaluation | null = parsed.success ? parsed.data : null;
  const id = changeNumber(decision);
  const change: Change | null = id === null ? null : await orNull(context.forge.getChange(id));
  const now = await versionOf(context, model, live.candidate, async () => live.commit);
  const before = decision.baseline
    ? await versionOf(context, model, decision.baseline, async (version) => {
        const note = await context.state.cursor(noteOf(model, version, environment));
        return note?.split(' ')[1] ?? null;
      })
    : null;
  return { ...promoted, change, evaluation, now, before };
}

/**
 * Makes the tag and the release of what was promoted, once for each version and environment: the newest environment's
 * text stays. A bot that may not make tags says so as a dead letter (`failed/release …`) and goes on;
 * the letter is gone when it could be made.
 */
export async function releasePromoted(context: BotContext, promoted: Promoted): Promise<void> {
  const { effects, state } = context;
  const { model, environment, live } = promoted;
  const tag = releaseTag(model, live.version);
  const done = noteOf(model, live.version, environment);
  if (await state.cursor(done)) return;
  const letter = `failed/${releasePrefix}${tag}`;
  try {
    const report = changelog(await readRelease(context, promoted));
    await effects.release({
      tag,
      commit: live.commit,
      title: report.title,
      description: renderMarkdown(report),
    });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    await effects.setCursor(letter, error.message);
    return;
  }
  if (await state.cursor(letter)) await effects.setCursor(letter, '');
  await effects.setCursor(done, `${context.now().toISOString()} ${live.commit}`);
}
