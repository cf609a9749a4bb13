import { z } from 'zod';
import {
  type Decision,
  type Digest,
  digestSchema,
  type Lock,
  lockEntry,
  lockFile,
  type ModelConfig,
  type Project,
} from '../src/index.ts';
import type { BotState, Facts } from './types.ts';

/** One environment of one model. */
export interface Place {
  model: string;
  environment: string;
  /** The first environment that cdl.yaml lists for the model: what the code of a change makes is proposed for it. */
  isFirst: boolean;
  config: ModelConfig;
}

/** Every environment of every model. */
export function placesOf(project: Project): Place[] {
  return Object.entries(project.models).flatMap(([model, config]) =>
    Object.keys(config.environments).map((environment, index) => ({
      model,
      environment,
      isFirst: index === 0,
      config,
    })),
  );
}

/**
 * What a change is about: the first environment of each model, and every environment whose entry in cdl.lock it alters (or
 * that was decided about on it). A change of nothing but cdl.lock is about the altered entries alone: its code made
 * nothing.
 */
export async function proposedPlaces(input: {
  places: readonly Place[];
  lockEdits: readonly Place[];
  isMerged: boolean;
  isDecided(place: Place): boolean;
  /** Whether the entry may be a way back to what ran there before. */
  mayReturn(place: Place): boolean;
  changedFiles(): Promise<string[]>;
}): Promise<{ places: Place[]; lockOnly: boolean }> {
  const { places, lockEdits, isMerged, isDecided, mayReturn, changedFiles } = input;
  const isAbout = (place: Place) => place.isFirst || lockEdits.includes(place) || isDecided(place);
  // Nearly always the bot's own entry for what the code makes: then nobody need be asked which files changed.
  const isSpecial = lockEdits.some((place) => !place.isFirst || mayReturn(place));
  if (isSpecial) {
    const files = await changedFiles();
    if (files.length > 0 && files.every((file) => file === lockFile)) {
      return { places: [...lockEdits], lockOnly: true };
    }
  }
  // Once merged, the lock differs no more: what it was about is what was decided on it.
  const decided = isMerged ? places.filter(isDecided) : [];
  return { places: decided.length > 0 ? decided : places.filter(isAbout), lockOnly: false };
}

/** Where a lock goes back to: a candidate promoted here and not revoked since, or nothing after a first one was revoked. */
export function returnOf(
  head: Lock,
  base: Lock,
  place: Pick<Place, 'model' | 'environment'>,
  decisions: readonly Decision[],
): Facts['returns'] {
  const [to, from] = [head, base].map((lock) => lockEntry(lock, place.model, place.environment));
  const lastAbout = (candidate: Digest) => decisions.filter((one) => one.candidate === candidate);
  if (!to) {
    const isRevoked = from && lastAbout(from.candidate).at(-1)?.decision === 'revoked';
    return isRevoked ? { candidate: null, version: null } : null;
  }
  if (to.candidate === from?.candidate) return null;
  const about = lastAbout(to.candidate);
  const ran = about.some((one) => one.decision === 'promoted' && one.evaluation === to.evaluation);
  const isBack = ran && about.at(-1)?.decision !== 'revoked';
  return isBack ? { candidate: to.candidate, version: to.info.version } : null;
}

const keptReturn = z.object({
  model: z.string(),
  environment: z.string(),
  candidate: digestSchema.nullable(),
  version: z.number().nullable(),
});

/** What a change went back to, as noted while it was open: once merged, the lock does not tell it from any other. */
export async function readReturn(
  state: Pick<BotState, 'cursor'>,
  change: number,
): Promise<z.infer<typeof keptReturn> | null> {
  const text = await state.cursor(returnCursor(change));
  return text ? keptReturn.parse(JSON.parse(text)) : null;
}

/** The text that {@link readReturn} reads. */
export function renderReturn(facts: Facts & { returns: NonNullable<Facts['returns']> }): string {
  const { model, environment, returns } = facts;
  return JSON.stringify({ model, environment, ...returns });
}

/** Name of the note about what a change went back to. */
export function returnCursor(change: number): string {
  return `return/${change}`;
}
