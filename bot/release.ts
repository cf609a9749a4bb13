import {
  type Block,
  type Decision,
  evaluationSchema,
  type Live,
  type Measure,
  type Report,
  renderMarkdown,
  shortDigest,
  UserError,
} from '../src/index.ts';
import type { BotContext } from './types.ts';

/** What became live by a decision, in one environment. */
export interface Promoted {
  model: string;
  environment: string;
  live: Live;
  decision: Pick<Decision, 'change' | 'approvers' | 'baseline' | 'override'>;
}

const number = (one: Measure | undefined): string => (one ? one.value.toFixed(4) : '–');

/** The text of a release: where from, who approved, what changed in numbers. */
export function changelog(
  promoted: Promoted,
  evaluation: ReturnType<typeof evaluationSchema.parse> | null,
): Report {
  const { model, environment, live, decision } = promoted;
  const approvers = decision.approvers.map((one) => `${one.name} (${one.role})`).join(', ');
  return {
    key: `release:${model}`,
    title: `${model} version ${live.version}`,
    verdict: evaluation?.verdict ?? 'pass',
    summary: `Promoted in ${environment}${decision.baseline ? `, in place of ${shortDigest(decision.baseline)}` : ', the first version there'}.`,
    blocks: [
      {
        kind: 'facts',
        facts: [
          ['change', decision.change],
          ['approved by', approvers || '–'],
          ...(decision.override
            ? ([['a gate was overruled', decision.override.reason]] as [string, string][])
            : []),
        ],
      },
      ...(evaluation
        ? ([
            {
              kind: 'table',
              head: ['metric', 'this version', 'before', 'difference'],
              align: ['left', 'right', 'right', 'right'],
              rows: Object.keys(evaluation.scores.metrics).map((name) => [
                name,
                number(evaluation.scores.metrics[name]),
                number(evaluation.baselineScores?.metrics[name]),
                number(evaluation.differences[name]),
              ]),
            },
            { kind: 'gates', gates: evaluation.gates },
          ] satisfies Block[])
        : []),
    ],
    refs: { candidate: live.candidate, evaluation: live.evaluation, package: live.package, plan: live.plan },
  };
}

/** Tag of a version of a model. */
export function releaseTag(model: string, version: number): string {
  return `model/${model}/v${version}`;
}

/** What the name of a failed release begins with where dead letters are listed; its tag follows. */
export const releasePrefix = 'release ';

/**
 * Makes the tag and the release of what was promoted, once for each version and environment: the newest environment's
 * text stays. A bot that may not make tags says so as a dead letter (`failed/release …`) and goes on;
 * the letter is gone when it could be made.
 */
export async function releasePromoted(context: BotContext, promoted: Promoted): Promise<void> {
  const { effects, state, trusted } = context;
  const { model, environment, live } = promoted;
  const tag = releaseTag(model, live.version);
  const done = `released/${tag}/${environment}`;
  if (await state.cursor(done)) return;
  const letter = `failed/${releasePrefix}${tag}`;
  try {
    const meta = (await trusted.getArtifact(live.evaluation)).meta;
    const parsed = evaluationSchema.safeParse(meta);
    const report = changelog(promoted, parsed.success ? parsed.data : null);
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
  await effects.setCursor(done, context.now().toISOString());
}
