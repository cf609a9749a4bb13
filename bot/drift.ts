import {
  type Drift,
  driftReport,
  findDrift,
  lockFile,
  projectFile,
  readDrift,
  renderMarkdown,
} from '../src/index.ts';
import { lockAt, projectAt } from './read.ts';
import type { BotContext } from './types.ts';

/** The issue's key. */
export const driftKey = 'drift';

/** What does not agree on the default branch; null when there is nothing to compare. A file that cannot be read is a row of its own. */
async function lookForDrift(
  context: BotContext,
  branch: string,
): Promise<{ name: string; found: Drift[]; models: number } | null> {
  const { forge, mirror, work, trusted, keys } = context;
  const tip = await mirror.head(branch);
  const read = tip ? await projectAt(context, tip) : null;
  if (!tip || !read) return null;
  const unreadable = (file: string, problem: string, next: string): Drift[] => [
    { model: '–', environment: null, what: `${file} of ${branch} cannot be read: ${problem}`, next },
  ];
  if ('problem' in read) {
    const next = 'merge a change that mends it; until then nothing is judged and nothing is compared';
    return { name: forge.project, found: unreadable(projectFile, read.problem, next), models: 0 };
  }
  const { project } = read;
  const { lock, problem } = await lockAt(context, tip);
  if (problem !== null) {
    const next = 'merge a change that restores it from an earlier commit; until then nothing is deployed';
    return { name: project.project, found: unreadable(lockFile, problem, next), models: 0 };
  }
  const facts = await readDrift({ work, trusted, keys, project, lock });
  return { name: project.project, found: findDrift(facts), models: facts.length };
}

/**
 * Compares registry, lock, decisions and what is live of the default branch, and keeps one issue about what does not agree,
 * also that its cdl.yaml or cdl.lock cannot be read; closed when all does. Throws UpstreamError (try again later) and
 * UserError.
 */
export async function keepDrift(context: BotContext): Promise<void> {
  const looked = await lookForDrift(context, await context.forge.defaultBranch());
  if (!looked) return;
  const report = driftReport(looked.name, looked.found, looked.models);
  await context.effects.driftIssue(
    looked.found.length === 0
      ? null
      : { title: `Drift: ${report.title}`, description: renderMarkdown(report), labels: ['cdl', 'drift'] },
  );
}

/** Queues the comparison when the last one is longer ago than `hours`. */
export async function scheduleDrift(context: BotContext, hours: number): Promise<void> {
  const { state, effects } = context;
  const now = context.now();
  const last = await state.cursor('drift/looked');
  if (last && now.getTime() - Date.parse(last) < hours * 3600_000) return;
  await effects.enqueue({ kind: 'drift' });
  await state.setCursor('drift/looked', now.toISOString());
}
