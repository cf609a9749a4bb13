import { createHmac } from 'node:crypto';
import { digestBytes } from '../core/digest.ts';
import type { CleanStep } from '../core/project-data-rules.ts';
import { decodeUtf8, masked, parseRecord } from './mask.ts';
import type { RawItem } from './raw-item.ts';

/** A cleaning step without code of the project's own. */
export type DeclaredStep = Exclude<CleanStep, { run: unknown }>;

/** What a step made of an item: the item (its id is of the new bytes), or why it had to be set aside. */
export type Cleaned = { item: RawItem; changed: boolean } | { reason: string };

/** The name under which a step's changes are counted. */
export function stepName(step: CleanStep): string {
  return typeof step === 'string' ? step : Object.keys(step)[0]!;
}

/**
 * Does one declared step on one item. Pure: the same item and key give the same result on either side and any machine.
 * `key` is the secret of `pseudonymise` and may be null where no step needs it.
 */
export function cleanItem(item: RawItem, step: DeclaredStep, key: string | null): Cleaned {
  if (step === 'recode') return recode(item);
  const text = decodeUtf8(item.bytes);
  if (text === null) return { reason: 'not UTF-8' };
  if (typeof step === 'string') return withText(item, textSteps[step](text));
  const change = fieldChange(step, key);
  const named = 'drop' in step ? step.drop : 'mask' in step ? step.mask : step.pseudonymise;
  const attributes = changeFields(item.attributes, named, (value) => change(value) as string | undefined);
  const record = parseRecord(text);
  const fields = record && changeFields(record, named, change);
  const next =
    fields && fields !== record ? withText(item, JSON.stringify(fields)) : { item, changed: false };
  return attributes === item.attributes ? next : { item: { ...next.item, attributes }, changed: true };
}

const textSteps = {
  normalize: (text: string) => text.normalize('NFC'),
  // C0, DEL and C1 without tab, line feed and carriage return; then what is invisible but not a space.
  strip_control: (text: string) =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is removed
    text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u2060\ufeff]/gu, ''),
  strip_html: stripHtml,
  collapse_spaces: (text: string) =>
    text
      .replace(/\r\n?/gu, '\n')
      .replace(/[^\S\n]+/gu, ' ')
      .replace(/ ?\n ?/gu, '\n')
      .replace(/\n{3,}/gu, '\n\n'),
  trim: (text: string) => text.trim(),
  lowercase: (text: string) => text.toLowerCase(),
} satisfies Record<Exclude<Extract<CleanStep, string>, 'recode'>, (text: string) => string>;

const entities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: ' ',
  pound: '£',
  euro: '€',
};

/** Leaves the text between tags; scripts, styles and comments go whole. One pass each, linear in the length. */
function stripHtml(text: string): string {
  return text
    .replace(/<!--[\s\S]*?(?:-->|$)/gu, ' ')
    .replace(/<(script|style)\b[^>]*>[\s\S]*?(?:<\/\1\s*>|$)/giu, ' ')
    .replace(/<\/?[a-z][^<>]*>/giu, ' ')
    .replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/giu, (whole, decimal, hex, name) => {
      if (name) return entities[String(name).toLowerCase()] ?? whole;
      const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
      return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff)
        ? String.fromCodePoint(code)
        : ' ';
    });
}

const windows1252 = new TextDecoder('windows-1252');

function recode(item: RawItem): Cleaned {
  if (decodeUtf8(item.bytes) !== null) return { item, changed: false };
  return withText(item, windows1252.decode(item.bytes));
}

function withText(item: RawItem, text: string): { item: RawItem; changed: boolean } {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.equals(item.bytes)) return { item, changed: false };
  return { item: { ...item, id: digestBytes(bytes), bytes }, changed: true };
}

function fieldChange(step: Extract<DeclaredStep, object>, key: string | null): (value: unknown) => unknown {
  if ('drop' in step) return () => undefined;
  if ('mask' in step) return () => masked;
  if (key === null) throw new TypeError('pseudonymise without a key');
  // RFC 2104; 80 bits are enough that no two of a billion values meet.
  return (value) =>
    createHmac('sha256', key)
      .update(typeof value === 'string' ? value : JSON.stringify(value))
      .digest('hex')
      .slice(0, 20);
}

/** The same object when none of the fields is in it. A field that is null stays null: there is nothing to hide. */
function changeFields<T>(
  fields: Readonly<Record<string, T>>,
  named: readonly string[],
  change: (value: T) => T | undefined,
): Record<string, T> {
  if (!named.some((name) => Object.hasOwn(fields, name))) return fields;
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]): [string, T][] => {
      if (!named.includes(name)) return [[name, value]];
      const next = value === null ? value : change(value);
      return next === undefined ? [] : [[name, next]];
    }),
  );
}
