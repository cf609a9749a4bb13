import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import type { z } from 'zod';
import { UserError } from './error.ts';
import { nearest } from './suggest.ts';

/** Where a value stands: keys and indices from the top. */
export type Path = readonly PropertyKey[];

/** A problem, and the offset in the text it is about. */
interface Problem {
  offset: number;
  text: string;
}

/** Offset of a path in the document, or of its nearest ancestor. */
function offsetOf(document: Document, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}

/** Offset of a key of the map at `path`, or of the map. */
function offsetOfKey(document: Document, path: Path, key: string): number {
  const map = path.length === 0 ? document.contents : document.getIn(path, true);
  const pair = isMap(map)
    ? map.items.find((item) => isScalar(item.key) && String(item.key.value) === key)
    : undefined;
  return isNode(pair?.key) && pair.key.range ? pair.key.range[0] : offsetOf(document, path);
}

/** What of zod's schema objects the search for known keys reads. */
interface SchemaNode {
  def: {
    innerType?: SchemaNode;
    in?: SchemaNode;
    shape?: Record<string, SchemaNode>;
    valueType?: SchemaNode;
    element?: SchemaNode;
    options?: SchemaNode[];
  };
}

/** A schema without its defaults, refinements and pipes; a union as each of its options. */
function unwrap(schema: SchemaNode | undefined): SchemaNode[] {
  if (!schema) return [];
  const { innerType, in: input, options } = schema.def;
  if (options) return options.flatMap(unwrap);
  return innerType || input ? unwrap(innerType ?? input) : [schema];
}

/** The keys the schema knows at a path. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  let schemas = unwrap(schema as unknown as SchemaNode);
  for (const part of path) {
    schemas = schemas.flatMap(({ def }) => {
      const shape = def.shape && Object.hasOwn(def.shape, part) ? def.shape[String(part)] : undefined;
      return unwrap(shape ?? def.valueType ?? def.element);
    });
  }
  return schemas.flatMap(({ def }) => Object.keys(def.shape ?? {}));
}

const meant = (typed: unknown, options: readonly string[]): string => {
  const guess = typeof typed === 'string' ? nearest(typed, options) : null;
  return guess ? ` — did you mean ${guess}?` : '';
};

const notOneOf = (given: unknown, options: readonly string[]): string =>
  options.length === 1
    ? `is not ${options[0]}`
    : `is not one of ${options.join(', ')}${meant(given, options)}`;

/** The discriminators a union knows; zod reports them without declaring them. */
function optionsOf(issue: z.core.$ZodIssueInvalidUnion): string[] {
  const { options } = issue as { options?: unknown };
  return Array.isArray(options) ? options.map(String) : [];
}

/** A problem that a schema cannot see, with the place in the file it is about. */
export interface RuleProblem {
  path: Path;
  text: string;
}

/**
 * Reads a YAML file that people write. Throws one UserError config-invalid that lists every problem, sorted, as
 * `file:line:column  what`, with the word that was probably meant where one is nearly right. `rules` are asked once the
 * schema is content, `parts` in any case: they look at what is written, and say nothing of what they cannot read.
 */
export function parseStrictYaml<S extends z.ZodType>(
  text: string,
  where: string,
  schema: S,
  rules: (value: z.output<S>) => RuleProblem[],
  parts: (written: unknown) => RuleProblem[],
): z.output<S> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const fail = (problems: Problem[]): never => {
    const list = problems
      .sort((a, b) => a.offset - b.offset)
      .map((problem) => {
        const { line, col } = lines.linePos(problem.offset);
        return `${where}:${Math.max(1, line)}:${Math.max(1, col)}  ${problem.text}`;
      });
    throw new UserError('config-invalid', [...new Set(list)].join('\n'));
  };
  const broken = [...syntaxProblems(document, text), ...nodeProblems(document)];
  if (broken.length > 0) return fail(broken);
  if (document.contents === null) return fail([{ offset: 0, text: 'the file is empty' }]);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 20 });
  } catch {
    return fail([
      { offset: 0, text: 'the aliases in this file are nested too deeply: write the values out' },
    ]);
  }
  const ruled = (found: RuleProblem[]): Problem[] =>
    found.map((one) => ({ offset: offsetOf(document, one.path), text: one.text }));
  const inParts = ruled(parts(value));
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    // A rule about a map whose keys are misspelt only repeats the misspelling.
    const misspelt = new Set(
      parsed.error.issues.filter((i) => i.code === 'unrecognized_keys').map((i) => i.path.join('\0')),
    );
    const issues = parsed.error.issues.filter((i) => i.code !== 'custom' || !misspelt.has(i.path.join('\0')));
    return fail([...issues.flatMap((issue) => issueProblems(schema, issue, document)), ...inParts]);
  }
  const broke = [...ruled(rules(parsed.data)), ...inParts];
  if (broke.length > 0) return fail(broke);
  return parsed.data;
}

/** What the YAML parser refuses or only warns of (unknown tags); duplicate keys by name. */
function syntaxProblems(document: Document.Parsed, text: string): Problem[] {
  return [...document.errors, ...document.warnings].map((error) => {
    const [offset, end] = error.pos;
    const message = error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
    const key = /^[\w-]+/.exec(text.slice(offset, Math.max(end, offset + 80)))?.[0] ?? '';
    return { offset, text: error.code === 'DUPLICATE_KEY' ? `the key ${key} stands here twice` : message };
  });
}

/** Aliases without an anchor, and `__proto__` as a key: zod drops it unseen, and nothing unseen may stand in the file. */
function nodeProblems(document: Document): Problem[] {
  const problems: Problem[] = [];
  visit(document, {
    Alias: (_key, alias) => {
      if (alias.resolve(document)) return;
      problems.push({ offset: alias.range?.[0] ?? 0, text: `*${alias.source} names no anchor above it` });
    },
    Pair: (_index, { key }) => {
      if (isScalar(key) && key.value === '__proto__') {
        problems.push({ offset: key.range?.[0] ?? 0, text: '__proto__ is not a known key' });
      }
    },
  });
  return problems;
}

/** What one of zod's issues says to people. */
function issueProblems(schema: z.ZodType, issue: z.core.$ZodIssue, document: Document): Problem[] {
  // One alone may stand where a list is meant: then it is the first of the list.
  const isAlone = issue.path.at(-1) === 0 && isScalar(document.getIn(issue.path.slice(0, -1), true));
  const path = isAlone ? issue.path.slice(0, -1) : issue.path;
  const at = path.map(String).join('.') || 'the file';
  const offset = offsetOf(document, path);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      offset: offsetOfKey(document, issue.path, key),
      text: `${[...issue.path, key].join('.')} is not a known key${meant(key, keysAt(schema, issue.path))}`,
    }));
  }
  if (issue.code === 'invalid_key') {
    const key = String(issue.path.at(-1));
    const why = issue.issues.map((one) => one.message).join(', ');
    return [{ offset: offsetOfKey(document, issue.path.slice(0, -1), key), text: `${at}: ${why}` }];
  }
  const given = path.length === 0 ? document.contents : document.getIn(path);
  if (given === undefined) return [{ offset, text: `${at} is missing` }];
  const shown = ['string', 'number', 'boolean'].includes(typeof given) ? ` ${JSON.stringify(given)}` : '';
  if (issue.code === 'invalid_value') {
    return [{ offset, text: `${at}${shown} ${notOneOf(given, issue.values.map(String))}` }];
  }
  if (issue.code === 'invalid_union' && issue.discriminator !== undefined) {
    return [{ offset, text: `${at}${shown} ${notOneOf(given, optionsOf(issue))}` }];
  }
  // One option of the union that is right from the outside: what is wrong with its inside.
  const inside =
    issue.code === 'invalid_union'
      ? issue.errors.filter((option) => option.every((one) => one.path.length > 0))
      : [];
  if (inside.length === 1) {
    return inside[0]!.flatMap((one) =>
      issueProblems(schema, { ...one, path: [...issue.path, ...one.path] }, document),
    );
  }
  // A union says nothing itself; the first complaint of each of its options does.
  const messages =
    issue.code === 'invalid_union' && issue.errors.length > 0
      ? issue.errors.flatMap((option) => option.slice(0, 1).map((one) => one.message))
      : [issue.message];
  const plain = messages.map((message) => message.replace(/^Invalid input: /, ''));
  const received = /, received .*$/.exec(plain[0]!)?.[0] ?? '';
  const short = plain.every((message) => message.endsWith(received))
    ? plain.map((message, i) =>
        message.slice(i === 0 ? 0 : 'expected '.length, message.length - received.length),
      )
    : plain;
  return [{ offset, text: `${at}${shown}: ${short.join(' or ')}${short === plain ? '' : received}` }];
}
