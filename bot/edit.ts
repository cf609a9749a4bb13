import { type Document, isMap, isScalar, parseDocument, stringify } from 'yaml';
import { type Project, parseProject, UserError } from '../src/index.ts';

type Scalar = number | string | boolean;

/** Hyperparameters that fit, and how to write them into a text of cdl.yaml; or why they do not fit. */
export type Edit = { values: Record<string, Scalar>; apply(text: string): string } | { problem: string };

/** A word as the type that stands there now; null when it is none. */
function typed(word: string, now: Scalar): Scalar | null {
  if (typeof now === 'boolean') return word === 'true' ? true : word === 'false' ? false : null;
  if (typeof now === 'string') return word.length > 0 && word.length <= 200 ? word : null;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word)) return null;
  const value = Number(word);
  if (!Number.isFinite(value)) return null;
  return Number.isInteger(now) && now !== 0 && !Number.isInteger(value) && Math.abs(now) >= 2 ? null : value;
}

/** A part of a text and what comes in its place. */
interface Splice {
  from: number;
  to: number;
  text: string;
}

/** Where a value stands, so that only its own characters change. Throws UserError config-invalid. */
function place(document: Document, path: readonly string[], value: Scalar): Splice {
  const text = stringify(value, { lineWidth: 0 }).trimEnd();
  const node = document.getIn(path, true);
  if (isScalar(node) && node.range) return { from: node.range[0], to: node.range[1], text };
  const parent = document.getIn(path.slice(0, -1), true);
  const first = isMap(parent) ? parent.items[0]?.key : undefined;
  // An alias is refused: it would change other places with this one.
  if (node !== undefined || !isMap(parent) || !isScalar(first) || !first.range) {
    throw new UserError(
      'config-invalid',
      `${path.join('.')} of cdl.yaml is not a plain value that can be set`,
    );
  }
  const [at] = first.range;
  const line = `${path.at(-1)}: ${text}`;
  return { from: at, to: at, text: parent.flow ? `${line}, ` : `${line}\n` };
}

/** Writes values into a text of cdl.yaml; comments and layout stay. Throws UserError config-invalid when it would not parse. */
function rewrite(text: string, path: readonly string[], values: Readonly<Record<string, Scalar>>): string {
  const document = parseDocument(text);
  if (document.errors.length > 0)
    throw new UserError('config-invalid', 'cdl.yaml of this branch cannot be read');
  const splices = Object.entries(values)
    .map(([key, value]) => place(document, [...path, key], value))
    .sort((a, b) => b.from - a.from);
  let written = text;
  for (const { from, to, text: value } of splices) {
    // A new line takes the indentation of the one it comes before.
    const indent = /[^\n]*$/.exec(written.slice(0, from))![0];
    written = `${written.slice(0, from)}${value.endsWith('\n') ? `${value}${indent}` : value}${written.slice(to)}`;
  }
  parseProject(written);
  return written;
}

/** Sets hyperparameters that a model has, each in the type it has now. */
export function setHyperparameters(
  project: Project,
  model: string,
  words: Readonly<Record<string, string>>,
): Edit {
  const now = project.models[model]!.hyperparameters;
  const values: Record<string, Scalar> = {};
  for (const [key, word] of Object.entries(words)) {
    const before = now[key]!;
    const value = typed(word, before);
    if (value === null) {
      const kind =
        typeof before === 'number'
          ? Number.isInteger(before)
            ? 'a whole number'
            : 'a number'
          : typeof before === 'boolean'
            ? 'true or false'
            : 'a short text';
      return {
        problem: `\`${key}\` is ${kind} (now \`${String(before).replaceAll('`', 'ʼ').slice(0, 80)}\`).`,
      };
    }
    values[key] = value;
  }
  return { values, apply: (text) => rewrite(text, ['models', model, 'hyperparameters'], values) };
}

/** Sets the seed of a model in a text of cdl.yaml. */
export function setSeed(text: string, model: string, seed: number): string {
  return rewrite(text, ['models', model], { seed });
}

/** Puts other texts in the place of those at paths of a text of cdl.yaml. Throws UserError config-invalid. */
export function setPins(text: string, pins: readonly { path: readonly string[]; value: string }[]): string {
  let written = text;
  for (const { path, value } of pins)
    written = rewrite(written, path.slice(0, -1), { [path.at(-1)!]: value });
  return written;
}

/** Sets the seed of a model's search in a text of cdl.yaml. */
export function setTuneSeed(text: string, model: string, seed: number): string {
  return rewrite(text, ['models', model, 'tune'], { seed });
}
