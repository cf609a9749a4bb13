import type { Run, RunFacts } from '../model/runs.ts';

/** Values by `<prefix>.<name>`. */
export function under(prefix: string, values: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(values).map(([name, value]) => [`${prefix}.${name}`, value]);
}

/** What a training was set to, by name: hyperparameters, seed, versions of what it ran on. */
export function settingsOf(facts: RunFacts | undefined): Record<string, unknown> {
  if (!facts) return {};
  return Object.fromEntries([
    ...under('hyperparameters', facts.hyperparameters),
    ...under('environment', facts.environment),
    ['seed', facts.seed],
  ]);
}

/** What a training was made of and made, by name. */
export function partsOfRun(run: Run): Record<string, unknown> {
  const { facts, dataset, transform, checkpoint } = run;
  const all = { code: facts.code, config: facts.config, dataset, transform, checkpoint };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
}

/** Values as `epochs 8, hidden 64`. */
export const pairsText = (values: Readonly<Record<string, unknown>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

/** A time without its milliseconds. */
export const timeText = (iso: string): string => iso.replace(/\.\d+Z$/, 'Z');

/** Metrics of a training whose lower value is the better one. */
export const isLowerBetter = (metric: string): boolean =>
  /loss|error|perplexity|brier|(^|_)(ece|mae|mse|rmse)($|_)/i.test(metric);
