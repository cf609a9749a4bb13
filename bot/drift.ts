import { driftReport, findDrift, readDrift, renderMarkdown, UserError } from '../src/index.ts';
import { lockAt, projectAt } from './read.ts';
import type { BotContext } from './types.ts';

/** The issue's key. */
export const driftKey = 'drift';

/**
 * Compares registry, lock, decisions and what is live of the default branch, and keeps one issue about what does not agree;
 * closed when all does. Throws UpstreamError (try again later) and UserError.
 */
export async function keepDrift(context: BotContext): Promise<void> {
  const { forge, mirror, work, trusted, keys, effects } = context;
  const branch = await forge.defaultBranch();
  const tip = await mirror.head(branch);
  const read = tip ? await projectAt(context, tip) : null;
  if (!tip || !read || 'problem' in read) return;
  const { project } = read;
  const { lock, problem } = await lockAt(context, tip);
  if (problem !== null) throw new UserError('lock-invalid', problem);
  const facts = await readDrift({ work, trusted, keys, project, lock });
  const found = findDrift(facts);
  const report = driftReport(project.project, found, facts.length);
  await effects.driftIssue(
    found.length === 0
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
