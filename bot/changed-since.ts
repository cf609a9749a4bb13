import { type Change, UserError } from '../src/index.ts';
import { contentOf, type Made } from './content.ts';
import { projectAt } from './read.ts';
import type { Sources } from './types.ts';

/** What an earlier commit made of a model; null when it is gone, or had no such model. */
async function contentAt(sources: Pick<Sources, 'mirror'>, model: string, commit: string) {
  try {
    const read = await projectAt(sources, commit);
    if (!read || 'problem' in read || !Object.hasOwn(read.project.models, model)) return null;
    return await contentOf(sources, { model, headProject: read.project }, commit);
  } catch (error) {
    if (error instanceof UserError) return null;
    throw error;
  }
}

/**
 * Whether the models of a change were made of something else at a time (ISO 8601), as far as its pipelines tell what its head
 * was then. A head without a pipeline, or a change without one that early, is taken for what it was.
 */
export async function changedSince(
  sources: Pick<Sources, 'forge' | 'mirror'>,
  change: Change,
  models: readonly Made[],
  time: string,
): Promise<boolean> {
  const pipelines = await sources.forge.changePipelines(change.id);
  const until = Date.parse(time);
  const earlier = pipelines.filter((one) => Date.parse(one.createdAt) <= until);
  const [seen] = earlier;
  const isNew = (sha: string) =>
    pipelines.some((one) => one.sha === sha) && earlier.every((one) => one.sha !== sha);
  if (!seen || !isNew(change.head)) return false;
  for (const facts of models) {
    const [then, now] = await Promise.all([
      contentAt(sources, facts.model, seen.sha),
      contentOf(sources, facts, change.head),
    ]);
    if (then !== now) return true;
  }
  return false;
}
