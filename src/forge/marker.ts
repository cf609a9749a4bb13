import { digestBytes, shortDigest } from '../core/digest.ts';

/** Longest body GitLab takes, in characters (doc: administration/instance_limits, size of comments). */
export const longestBody = 1_000_000;

const escapePattern = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** The beginning of a text, of at most so many characters as forges count them (UTF-16), never half of one. */
export function cut(text: string, longest: number): string {
  return text.slice(0, longest).replace(/[\ud800-\udbff]$/, '');
}

/** Topics become part of an HTML comment: only letters, digits and `:._/-`, nothing that could end it. */
function safeKey(key: string): string {
  return key.replace(/[^A-Za-z0-9:._/]/g, (char) => (char === '-' ? '-' : '_')).replaceAll('--', '-_');
}

/** Puts the hidden marker `<!-- cdl:key hash -->` under a text (shortened to `longest` characters). `hash` is of the text itself. */
export function withMarker(key: string, markdown: string, longest = longestBody): string {
  const room = longest - 500;
  const text =
    markdown.length > room ? `${cut(markdown, room)}\n\n… shortened: the report is too long.` : markdown;
  return `${text.trimEnd()}\n\n<!-- cdl:${safeKey(key)} ${shortDigest(digestBytes(text))} -->`;
}

/** The marker with this key at the very end of a body, where we put it; a quoted one in the middle does not count. */
export function hasMarker(key: string, body: string): boolean {
  return new RegExp(`<!-- cdl:${escapePattern(safeKey(key))} [0-9a-f]{12} -->\\s*$`).test(body);
}

/** The key of the marker at the very end of a body; null when there is none. */
export function markerKey(body: string): string | null {
  return /<!-- cdl:([A-Za-z0-9:._/-]+) [0-9a-f]{12} -->\s*$/.exec(body)?.[1] ?? null;
}
