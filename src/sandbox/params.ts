import { ApiError, type Call } from './route.ts';

/** A parameter of the body or the query, the body first. */
export function param(call: Call, name: string): unknown {
  return call.body[name] ?? call.query[name];
}

/** A text parameter; null when not given. Throws an ApiError 400 for lists and objects. */
export function text(call: Call, name: string): string | null {
  const value = param(call, name);
  if (value === undefined || value === null) return null;
  if (typeof value === 'object') throw new ApiError(400, { error: `${name} is invalid` });
  return String(value);
}

/** A text parameter that must be given. Throws an ApiError 400. */
export function requiredText(call: Call, name: string): string {
  const value = text(call, name);
  if (value === null) throw new ApiError(400, { error: `${name} is missing` });
  if (value === '') throw new ApiError(400, { error: `${name} is empty` });
  return value;
}

/** A truth value, as JSON or as form text; null when not given. */
export function flag(call: Call, name: string): boolean | null {
  const value = param(call, name);
  if (value === undefined || value === null || value === '') return null;
  if (value === true || value === 'true' || value === '1' || value === 1) return true;
  if (value === false || value === 'false' || value === '0' || value === 0) return false;
  throw new ApiError(400, { error: `${name} is invalid` });
}

/** A whole number; null when not given. Throws an ApiError 400. */
export function integer(call: Call, name: string): number | null {
  const value = text(call, name);
  if (value === null || value === '') return null;
  if (!/^-?\d+$/.test(value)) throw new ApiError(400, { error: `${name} is invalid` });
  return Number(value);
}

/** One of some words; null when not given. Throws an ApiError 400. */
export function oneOf<T extends string>(call: Call, name: string, words: readonly T[]): T | null {
  const value = text(call, name);
  if (value === null) return null;
  const found = words.find((word) => word === value);
  if (found === undefined) throw new ApiError(400, { error: `${name} does not have a valid value` });
  return found;
}

/** A list given as an array or with commas; null when not given. */
export function list(call: Call, name: string): string[] | null {
  const value = param(call, name);
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return value.map(String);
  return String(value)
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** A list of objects; forms send `name[0][key]` or `name[][key]`. Empty when not given. Throws an ApiError 400. */
export function objects(call: Call, name: string): Record<string, unknown>[] {
  const value = param(call, name);
  if (value === undefined || value === null) return [];
  const items: unknown[] = Array.isArray(value)
    ? value
    : typeof value === 'object'
      ? Object.values(value)
      : [value];
  return items.map((item) => {
    if (typeof item !== 'object' || item === null || Array.isArray(item))
      throw new ApiError(400, { error: `${name} is invalid` });
    return Object.fromEntries(Object.entries(item));
  });
}

/** An object; empty when not given. Throws an ApiError 400. */
export function object(call: Call, name: string): Record<string, unknown> {
  const value = param(call, name);
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value))
    throw new ApiError(400, { error: `${name} is invalid` });
  return Object.fromEntries(Object.entries(value));
}

/** The `variables` of a pipeline call. Throws an ApiError 400. */
export function variables(call: Call): { key: string; value: string }[] {
  return objects(call, 'variables').map((item) => {
    if (typeof item.key !== 'string') throw new ApiError(400, { error: 'variables is invalid' });
    return { key: item.key, value: String(item.value ?? '') };
  });
}
