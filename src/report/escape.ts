import { cleanLine } from './text.ts';

/** Parts a reference from what would make it one. It is an entity, so it also shows in the source of the comment. */
const gap = '&#8203;';

/**
 * Breaks what a forge turns into a reference after parsing: `@name #1 !2 ~label %3 $4 &5 ^alert`, `GH-1`, links, `:emoji:`. Those
 * filters run on the parsed text, where a backslash or an entity is already gone, so only something in between helps.
 * GitLab docs, user/markdown.md "GitLab-specific references".
 */
const referenceStart =
  /@|[#!~%$&^](?=[\p{L}\p{N}"'{_])|\[(?=\w+:|\[)|\bG[HL]-(?=\d)|:(?=\/\/|[a-z+-][\w+-]*(?::|$))|\bwww(?=\.)/giu;

/** Keys of an issue tracker that the forge may be linked with (Jira): capital letters only. */
const issueKey = /\b[A-Z][A-Z0-9_]+-(?=\d)/g;

/** Marks references in raw text with a private-use character, to be replaced after escaping. */
const mark = '\ue000';
function markReferences(text: string): string {
  return text
    .replaceAll(mark, '')
    .replace(referenceStart, (start) => start + mark)
    .replace(issueKey, (start) => start + mark);
}

/** What stands for the characters that mean something in HTML. */
export const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Untrusted text as content of an HTML element, one line, without references. */
export function escapeHtml(text: string): string {
  return markReferences(cleanLine(text))
    .replace(/[&<>"']/g, (c) => entities[c]!)
    .replaceAll(mark, gap);
}

/** Untrusted text as inline markdown on one line: no markup, no HTML, no references. For the middle of a line only. */
export function escapeInline(text: string): string {
  return markReferences(cleanLine(text))
    .replace(/[\\`*_[\]{}~$^|#]/g, '\\$&')
    .replace(/[&<>]/g, (c) => entities[c]!)
    .replaceAll(mark, gap);
}

/** As {@link escapeInline}, for the beginning of a line: neither a quick action (`/close`) nor a list, rule or heading. */
export function escapeLine(text: string): string {
  return escapeInline(text)
    .replace(/^[-+=:]/, '\\$&')
    .replace(/^(\d+)([.)])/, '$1\\$2')
    .replace(/^\//, '&#47;');
}

/**
 * Untrusted text as a code span, also inside a table cell. A backtick would need a longer fence, which the forge's own
 * scan for quick actions does not know; it is shown as an apostrophe.
 */
export function codeSpan(text: string): string {
  return `\`${cleanLine(text).replaceAll('`', 'ʼ').replaceAll('|', '¦') || ' '}\``;
}
