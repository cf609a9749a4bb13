import {
  type AccuracyDifference,
  differenceText,
  type Evaluation,
  escapeInline,
  measureText,
  numberText,
  signedText,
} from '../../src/index.ts';
import { quoted, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

function table(own: Evaluation, other: Evaluation, version: number): string {
  const names = Object.keys(own.scores.metrics);
  const rows = names.map((name) => {
    const [a, b] = [own.scores.metrics[name], other.scores.metrics[name]];
    const value = a && b ? a.value - b.value : 0;
    const difference = signedText(name, a && b && { value, low: value, high: value });
    return `| ${quoted(name)} | ${measureText(name, a)} | ${measureText(name, b)} | ${difference} |`;
  });
  return [
    `| metric (95 % interval) | this candidate | version ${version} | difference |`,
    '|---|--:|--:|--:|',
    ...rows,
  ].join('\n');
}

/** What the items say that both were asked: only where the two disagree is there a difference. */
function pairedText(paired: AccuracyDifference, version: number): string {
  const { onlyCandidate, onlyBaseline, p, items, difference, half } = paired;
  const sign = difference > 0 ? '+' : '';
  const chance = p < 0.0001 ? 'less than 0.0001' : p.toFixed(4);
  const verdict =
    p < 0.05
      ? difference > 0
        ? 'better than chance would make it'
        : 'worse than chance would make it'
      : 'no more than chance would make';
  return `Item by item on ${numberText(items)}: only this candidate is right on ${numberText(onlyCandidate)}, only version ${version} on ${numberText(onlyBaseline)}. Accuracy ${sign}${differenceText('accuracy', difference)} ± ${differenceText('accuracy', half)} (95 %), McNemar p = ${chance}: ${verdict}.`;
}

/** Sets this candidate's evaluation beside that of an earlier version. */
export const compare: Command<Pick<Tools, 'evaluationOf'>> = {
  name: 'compare',
  usage: '/compare <version> [--model name]',
  summary: 'A table of this candidate beside an earlier version, both on the withheld test set.',
  examples: ['/compare 7'],
  role: 'anyone',
  async handle(call, tools) {
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { facts, plan } = subject;
    const version = Number(/^v?(\d{1,9})$/i.exec(call.args[0] ?? '')?.[1] ?? 0);
    if (version === 0) {
      return {
        emoji: 'confused',
        text: 'Please name the number of a version:\n\n```\n/compare 7\n```',
      };
    }
    const own = facts.answer?.evaluation;
    if (!own) {
      return {
        emoji: 'confused',
        text: `**${facts.model}** of this change is not evaluated yet (${escapeInline(plan.status.description)}), so there is nothing to compare.`,
      };
    }
    const found = await tools.evaluationOf(facts, version);
    switch (found.kind) {
      case 'unknown-version':
        return {
          emoji: 'confused',
          text: `**${facts.model}** has no version ${version}${found.known.length > 0 ? `; it has ${found.known.slice(-10).join(', ')}` : ''}.`,
        };
      case 'never-evaluated':
        return {
          emoji: 'eyes',
          text: `Version ${version} of **${facts.model}** was never evaluated in the trusted zone, so there are no numbers that can be trusted.`,
        };
      case 'found': {
        const { evaluation, paired } = found;
        const differs =
          evaluation.testset !== own.testset
            ? `⚠ Version ${version} was evaluated on **another test set** (and never on this one): the numbers cannot be compared item by item.`
            : paired
              ? pairedText(paired, version)
              : 'Both on the same withheld test set; one of the evaluations kept no items, so the differences have no intervals.';
        return { emoji: 'eyes', text: `${table(own, evaluation, version)}\n\n${differs}` };
      }
    }
  },
};
