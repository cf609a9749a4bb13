import { digestJson, type ModelConfig, type Project, policyDigest } from '../src/index.ts';

/** What of the rules that a model is judged by is another one at the head than on the default branch. Pure. */
export function changedRules(head: Project, base: Project, model: string): string[] {
  const changed: string[] = [];
  if (policyDigest(head) !== policyDigest(base)) changed.push('roles or approval rules');
  if (digestJson(head.models[model]?.gates ?? []) !== digestJson(base.models[model]?.gates ?? [])) {
    changed.push('gates');
  }
  const evaluated = [head, base].map((one) => one.models[model]?.evaluate ?? null);
  if (digestJson(evaluated[0]!) !== digestJson(evaluated[1]!)) changed.push('what is evaluated (evaluate:)');
  const [headData, baseData] = [head, base].map((one) => one.datasets[one.models[model]?.data ?? '']);
  if (digestJson(headData ?? null) !== digestJson(baseData ?? null)) changed.push('the data set');
  return changed;
}

/** Longest value that is shown. */
const longest = 80;

const shown = (value: unknown): string => {
  const text = value === undefined ? 'not set' : JSON.stringify(value);
  return text.length <= longest ? text : `${text.slice(0, longest)}…`;
};

/**
 * How a model is rolled out differently by the head than by the default branch: the canary's steps and its gate, what it
 * runs on. As `max_error_rate: 1 (was 0.01)`; empty when both say the same. Pure.
 */
export function changedRollout(
  head: Pick<ModelConfig, 'environments'>,
  base: Pick<ModelConfig, 'environments'>,
  environment: string,
): string[] {
  const [ours, theirs] = [head, base].map(({ environments }): Record<string, unknown> | null =>
    Object.hasOwn(environments, environment) ? { ...environments[environment] } : null,
  );
  if (!ours) return [];
  if (!theirs) return [`the environment ${environment} (is new)`];
  const keys = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].sort();
  return keys.flatMap((key) => {
    const [now, was] = [ours[key], theirs[key]];
    return digestJson((now ?? null) as never) === digestJson((was ?? null) as never)
      ? []
      : [`${key}: ${shown(now)} (was ${shown(was)})`];
  });
}
