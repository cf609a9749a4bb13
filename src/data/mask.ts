import type { Sensitive } from '../core/project-data-rules.ts';
import type { RawItem } from './raw-item.ts';

/** What stands where a sensitive value was. */
export const masked = '***';

/** Whether a field's values must not be shown. */
export function isSensitive(sensitive: Sensitive | undefined, field: string): boolean {
  return sensitive === true || (sensitive?.includes(field) ?? false);
}

/** A record with the named fields replaced; anything else unchanged. */
export function maskFields(
  record: Readonly<Record<string, unknown>>,
  sensitive: Sensitive | undefined,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(record).map(([name, value]) => [name, isSensitive(sensitive, name) ? masked : value]),
  );
}

/**
 * The text of an item as people may see it: at most `length` characters of it, sensitive fields masked. Null when nothing
 * of it may be shown, or it is no text.
 */
export function excerpt(item: RawItem, sensitive: Sensitive | undefined, length: number): string | null {
  if (sensitive === true) return null;
  const text = decodeUtf8(item.bytes);
  if (text === null) return null;
  const record = sensitive === undefined ? null : parseRecord(text);
  // Fields cannot be told apart in what is no record: then none of it is shown.
  if (sensitive !== undefined && record === null) return null;
  const shown = record === null ? text : JSON.stringify(maskFields(record, sensitive));
  const line = shown.replace(/\s+/gu, ' ').trim();
  const characters = [...line.slice(0, length * 2 + 2)];
  return characters.length > length ? `${characters.slice(0, length).join('')}…` : line;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The bytes as text; null when they are not UTF-8. A byte order mark is left out. */
export function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

/** A JSON object; null when the text is none. */
export function parseRecord(text: string): Record<string, unknown> | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}
