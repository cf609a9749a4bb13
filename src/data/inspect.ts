import type { DataRules } from '../core/project-data-rules.ts';
import { decodeUtf8, parseRecord } from './mask.ts';
import { decodePicture } from './picture.ts';
import type { RawItem } from './raw-item.ts';

type FieldRule = NonNullable<DataRules['fields']>[string];

/** Whether any rule speaks of single items, so that items must be looked at. */
export function hasItemRules(rules: DataRules): boolean {
  return (
    rules.labelled === true ||
    [
      rules.bytes,
      rules.characters,
      rules.encoding,
      rules.extensions,
      rules.image,
      rules.fields,
      rules.check,
    ].some((rule) => rule !== undefined)
  );
}

/**
 * Why an item breaks the declared rules; empty when it breaks none. Reasons name rule and field but never a value: they
 * are shown where sensitive values must not be. Custom checks are not part of this.
 */
export async function inspectItem(item: RawItem, rules: DataRules): Promise<string[]> {
  const reasons: string[] = [];
  const size = item.bytes.length;
  if (below(size, rules.bytes?.min)) reasons.push(`fewer than ${rules.bytes!.min} bytes`);
  if (above(size, rules.bytes?.max)) reasons.push(`more than ${rules.bytes!.max} bytes`);
  if (rules.extensions && !rules.extensions.includes(item.extension.toLowerCase()))
    reasons.push(`not one of .${rules.extensions.join(', .')}`);
  if (rules.labelled && item.label === null) reasons.push('no label');
  if (rules.encoding || rules.characters || rules.fields) reasons.push(...inspectText(item, rules));
  if (rules.image) reasons.push(...(await inspectPicture(item, rules.image)));
  return reasons;
}

function below(value: number, limit: number | undefined): boolean {
  return limit !== undefined && value < limit;
}

function above(value: number, limit: number | undefined): boolean {
  return limit !== undefined && value > limit;
}

function inspectText(item: RawItem, rules: DataRules): string[] {
  const text = decodeUtf8(item.bytes);
  if (text === null) return ['not UTF-8'];
  const reasons: string[] = [];
  if (rules.characters) {
    const length = characters(text);
    if (below(length, rules.characters.min)) reasons.push(`fewer than ${rules.characters.min} characters`);
    if (above(length, rules.characters.max)) reasons.push(`more than ${rules.characters.max} characters`);
  }
  if (rules.fields) {
    const record = parseRecord(text);
    if (record === null) return [...reasons, 'not a JSON record'];
    for (const [name, rule] of Object.entries(rules.fields)) {
      const value = Object.hasOwn(record, name) ? record[name] : undefined;
      const reason = inspectField(value, rule);
      if (reason) reasons.push(`field ${name}: ${reason}`);
    }
  }
  return reasons;
}

/** Code points, so that an emoji counts as one. */
function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

function inspectField(value: unknown, rule: FieldRule): string | null {
  if (value === undefined || (value === null && rule.type !== 'null'))
    return rule.required ? 'missing' : null;
  if (rule.type !== undefined && !isOfType(value, rule.type)) return `not of type ${rule.type}`;
  if (rule.enum && !rule.enum.some((one) => one === value)) return 'not an allowed value';
  if (typeof value === 'number') {
    if (below(value, rule.minimum)) return `below ${rule.minimum}`;
    if (above(value, rule.maximum)) return `above ${rule.maximum}`;
  }
  if (typeof value === 'string') {
    const length = characters(value);
    if (below(length, rule.min_length)) return `shorter than ${rule.min_length} characters`;
    if (above(length, rule.max_length)) return `longer than ${rule.max_length} characters`;
    if (rule.pattern !== undefined && !new RegExp(rule.pattern, 'u').test(value))
      return 'does not match its pattern';
  }
  return null;
}

function isOfType(value: unknown, type: NonNullable<FieldRule['type']>): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

async function inspectPicture(item: RawItem, rule: NonNullable<DataRules['image']>): Promise<string[]> {
  const picture = await decodePicture(item.bytes);
  if (!picture) return ['does not decode as a picture'];
  const reasons: string[] = [];
  if (!rule.formats.some((format) => format === picture.format))
    reasons.push(`a picture, but not ${rule.formats.join(', ')}`);
  for (const side of ['width', 'height'] as const) {
    if (below(picture[side], rule[side]?.min)) reasons.push(`${side} below ${rule[side]!.min} pixels`);
    if (above(picture[side], rule[side]?.max)) reasons.push(`${side} above ${rule[side]!.max} pixels`);
  }
  return reasons;
}
