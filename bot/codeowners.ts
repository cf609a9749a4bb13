/**
 * Where a CODEOWNERS file may be, in the order in which each forge looks; the first one counts (GitLab doc:
 * user/project/codeowners; docs.github.com: about code owners).
 */
export const codeownersPaths = {
  gitlab: ['CODEOWNERS', 'docs/CODEOWNERS', '.gitlab/CODEOWNERS'],
  github: ['.github/CODEOWNERS', 'CODEOWNERS', 'docs/CODEOWNERS'],
} as const;

/** A pattern as .gitignore has them, without negation (GitLab doc: user/project/codeowners/reference). */
function matches(pattern: string, path: string): boolean {
  const anchored = pattern.includes('/') && pattern.indexOf('/') < pattern.length - 1;
  const body = pattern
    .replace(/^\//, '')
    .replace(/\/$/, '/**')
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*\*\/?|\*|\?/g, (one) =>
      one === '**/' ? '(?:.*/)?' : one === '**' ? '.*' : one === '*' ? '[^/]*' : '[^/]',
    );
  const start = anchored ? '^' : '^(?:.*/)?';
  return new RegExp(`${start}${body}(?:/.*)?$`).test(path);
}

/** Words of a line; `\ ` and `\#` stand for themselves. */
const wordsOf = (line: string): string[] =>
  (line.match(/(?:\\.|[^\s\\])+/g) ?? []).map((word) => word.replace(/\\(.)/g, '$1'));

/**
 * Owners of a path, as they are written (`@ada`, `@acme/validators`, `@@maintainer`, an address): in each section the last
 * rule that matches, with the section's own owners where the rule names none. On GitLab a line `!pattern` takes a path out
 * of its section for good, wherever in it the line stands. Total: a line that is no rule is skipped.
 */
export function ownersOf(text: string, path: string, kind: keyof typeof codeownersPaths): string[] {
  const sections = new Map<string, string[]>();
  const excluded = new Set<string>();
  let section = '';
  let standard: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const header = /^\^?\[([^\]]+)\](?:\[\d+\])?(.*)$/.exec(trimmed);
    if (header) {
      section = header[1]!.toLowerCase();
      standard = wordsOf(header[2]!);
      continue;
    }
    const [word, ...rest] = wordsOf(trimmed);
    const isExclusion = kind === 'gitlab' && trimmed.startsWith('!');
    const pattern = isExclusion ? word?.slice(1) : word;
    if (!pattern || pattern.length > 500 || !matches(pattern, path)) continue;
    if (isExclusion) {
      excluded.add(section);
      continue;
    }
    const comment = rest.findIndex((word) => word.startsWith('#'));
    const named = comment < 0 ? rest : rest.slice(0, comment);
    sections.set(section, named.length > 0 ? named : standard);
  }
  for (const name of excluded) sections.delete(name);
  return [...new Set([...sections.values()].flat())];
}
