import {
  differenceText,
  type Evaluation,
  escapeInline,
  escapeLine,
  type Gate,
  limitText,
  measureOf,
  measureText,
  metricText,
  nearest,
  signedText,
} from '../../src/index.ts';
import { quoted, subjectOf } from './subject.ts';
import type { Command } from './types.ts';

const interval = '95 % interval ';

function rule(gate: Gate): string {
  const { metric } = gate;
  const name = quoted(metric);
  const value = (limit: number) => limitText(metricText(metric, limit));
  const difference = (limit: number) => limitText(differenceText(metric, limit));
  if (gate.min !== undefined)
    return `${name} must be at least ${value(gate.min)}. The measured value itself counts, not its interval.`;
  if (gate.max !== undefined)
    return `${name} must be at most ${value(gate.max)}. The measured value itself counts, not its interval.`;
  if (gate.max_drop !== undefined) {
    return `${name} must not be worse than production by more than ${difference(gate.max_drop)}. The lower end of the 95 % interval of the difference counts: a small test set with a wide interval does not pass by luck.`;
  }
  return `${name} must not be higher than production by more than ${difference(gate.max_rise ?? 0)}. The upper end of the 95 % interval of the difference counts.`;
}

function numbers(gate: Gate, evaluation: Evaluation): string[] {
  const own = measureOf(evaluation.scores, gate.metric);
  const before = evaluation.baselineScores ? measureOf(evaluation.baselineScores, gate.metric) : null;
  const difference = Object.hasOwn(evaluation.differences, gate.metric)
    ? evaluation.differences[gate.metric]!
    : null;
  return [
    ...(own
      ? [`- this candidate: ${measureText(gate.metric, own, interval)}`]
      : ['- this candidate: not measured']),
    ...(before ? [`- production: ${measureText(gate.metric, before, interval)}`] : []),
    ...(difference
      ? [`- difference, paired by test item: ${signedText(gate.metric, difference, interval)}`]
      : []),
  ];
}

/** Says what a gate asks, what was measured and what could be done. */
export const explain: Command = {
  name: 'explain',
  usage: '/explain <gate> [--model name]',
  summary: 'What a gate asks, what was measured, and what helps.',
  examples: ['/explain accuracy', '/explain 2'],
  role: 'anyone',
  async handle(call) {
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { facts } = subject;
    const gates = facts.rules?.model.gates ?? [];
    if (gates.length === 0) {
      return {
        emoji: 'eyes',
        text: `${escapeLine(facts.defaultBranch)} defines no gate for **${facts.model}**.`,
      };
    }
    const asked = call.args.join(' ').toLowerCase();
    const index = /^\d{1,3}$/.test(asked) ? Number(asked) - 1 : -1;
    const hits = gates.flatMap((gate, at) =>
      at === index || (asked !== '' && gate.metric.toLowerCase() === asked) ? [{ gate, at }] : [],
    );
    if (hits.length === 0) {
      const names = gates.map((gate) => gate.metric);
      const guess = asked === '' ? null : nearest(asked, names);
      const meant = guess ? ` Did you mean ${quoted(guess)}?` : '';
      const list = gates.map((gate, at) => `${at + 1}. ${quoted(gate.metric)}`).join('\n');
      return { emoji: 'confused', text: `Please name a gate by its metric or number.${meant}\n\n${list}` };
    }
    const evaluation = facts.answer?.evaluation;
    const parts = hits.map(({ gate, at }) => {
      const line = evaluation?.gates[at];
      return [
        `**Gate ${at + 1}** of ${escapeInline(facts.defaultBranch)}: ${rule(gate)}`,
        ...(evaluation
          ? [numbers(gate, evaluation).join('\n')]
          : ['It has not been applied to this change yet.']),
        ...(line
          ? [
              `Verdict: **${line.status === 'skip' ? 'not applied' : line.status}**, ${quoted(line.explanation)}.`,
            ]
          : []),
        ...(line?.status === 'fail'
          ? [
              'Next: push an improvement, change hyperparameters with `/train`, or let a validator overrule it with `--override "why"`. Changing the gate takes a change of its own, merged first.',
            ]
          : []),
      ].join('\n\n');
    });
    return { emoji: 'eyes', text: parts.join('\n\n') };
  },
};
