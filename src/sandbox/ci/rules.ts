import picomatch from 'picomatch';
import { expandText } from './expand-variables.ts';
import { parseExpression } from './expression.ts';
import type { RawRule } from './strict.ts';
import { CiConfigError } from './yaml-source.ts';

/** What rules look at. */
export interface RuleContext {
  values: ReadonlyMap<string, string>;
  /** Paths changed by the push or the merge request, or against `compareTo`; null = no comparison, where `changes` is true. */
  changed(compareTo: string | null): Promise<string[] | null>;
  /** All paths at the commit. */
  files(): Promise<string[]>;
}

/** The first rule that holds, null when none does. Throws CiConfigError for an expression that cannot be read. */
export async function firstMatchingRule(
  rules: readonly RawRule[],
  context: RuleContext,
): Promise<RawRule | null> {
  for (const rule of rules) {
    if (await ruleHolds(rule, context)) return rule;
  }
  return null;
}

async function ruleHolds(rule: RawRule, context: RuleContext): Promise<boolean> {
  if (rule.if !== undefined) {
    try {
      if (!parseExpression(rule.if)(context.values)) return false;
    } catch (error) {
      if (!(error instanceof CiConfigError)) throw error;
      throw new CiConfigError(`rules:if ${error.message}`);
    }
  }
  if (rule.changes !== undefined) {
    const paths = Array.isArray(rule.changes) ? rule.changes : rule.changes.paths;
    const compareTo = Array.isArray(rule.changes) ? null : (rule.changes.compare_to ?? null);
    const changed = await context.changed(compareTo === null ? null : expandText(compareTo, context.values));
    if (changed !== null && !anyMatches(paths, changed, context.values)) return false;
  }
  if (rule.exists !== undefined) {
    const paths = Array.isArray(rule.exists) ? rule.exists : rule.exists.paths;
    if (!anyMatches(paths, await context.files(), context.values)) return false;
  }
  return true;
}

// As Ruby's File.fnmatch with PATHNAME, DOTMATCH and EXTGLOB, which GitLab uses.
function anyMatches(
  patterns: readonly string[],
  paths: readonly string[],
  values: ReadonlyMap<string, string>,
): boolean {
  const tests = patterns.map((pattern) =>
    picomatch(expandText(pattern, values).replace(/^\.?\//, ''), {
      dot: true,
      noextglob: true,
      nonegate: true,
    }),
  );
  return paths.some((path) => tests.some((test) => test(path)));
}
