import { type Document, isMap, isScalar, LineCounter, parseAllDocuments, type Scalar, visit } from 'yaml';

/** A problem of a pipeline's configuration, in words a person can act on. Never a bug. */
export class CiConfigError extends Error {
  override readonly name = 'CiConfigError';
  readonly messages: string[];

  constructor(messages: string | string[]) {
    const list = typeof messages === 'string' ? [messages] : messages;
    super(list.join('\n'));
    this.messages = list;
  }
}

/** One YAML file of a pipeline. `label` is how messages name it. */
export interface YamlSource {
  label: string;
  /** The `spec:` header, null when the file has none. */
  header: Document | null;
  body: Document;
  lines: LineCounter;
}

const withoutTypes = /:(timestamp|binary|omap|pairs|set|int#time|float#time)$/;

/**
 * Parses a CI file: an optional header document with `spec:`, then the configuration. YAML 1.1 as GitLab's parser reads it
 * (`yes` is true, `<<` merges), but without dates. Throws CiConfigError with file and line.
 */
export function parseSource(label: string, text: string): YamlSource {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    version: '1.1',
    merge: true,
    lineCounter: lines,
    logLevel: 'silent',
    customTags: (tags) =>
      tags.filter(
        (tag) =>
          typeof tag === 'string' ||
          !(withoutTypes.test(tag.tag) || ('format' in tag && tag.format === 'TIME')),
      ),
  });
  if ('empty' in documents) throw new CiConfigError(`${label}: the file is empty`);
  // The first error of a document is the one to put right; the rest mostly follow from it.
  const problems = documents.flatMap(({ errors: [error] }) =>
    error === undefined
      ? []
      : [
          `${label}:${error.linePos?.[0].line ?? 1}: ${error.message.replace(/ at line \d+, column [\s\S]*$/, '')}`,
        ],
  );
  if (problems.length > 0) throw new CiConfigError(problems);
  const [first, second, third] = documents;
  if (third !== undefined) throw new CiConfigError(`${label}: more than a header and one document`);
  if (first === undefined) throw new CiConfigError(`${label}: the file is empty`);
  const hasHeader = isMap(first.contents) && first.contents.has('spec');
  if (hasHeader) {
    if (second === undefined)
      throw new CiConfigError(`${label}: a spec: header must be followed by --- and jobs`);
    return { label, header: first, body: second, lines };
  }
  if (second !== undefined) {
    throw new CiConfigError(`${label}: only a header with spec: may stand before ---`);
  }
  return { label, header: null, body: first, lines };
}

/** A `!reference [a, b]`, kept as data until the configuration is written out again. */
export interface Reference {
  '!reference': unknown[];
}

/** Whether a value stands for a `!reference`. */
export function isReference(value: unknown): value is Reference {
  return isObject(value) && Array.isArray(value['!reference']);
}

/** Whether a value is a plain mapping. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The configuration as plain data; `!reference` becomes a {@link Reference}. Throws CiConfigError for anything but a mapping. */
export function toData(source: YamlSource): Record<string, unknown> {
  const document = source.body;
  visit(document, {
    Seq(_, node) {
      if (node.tag !== '!reference') return;
      node.tag = '';
      delete node.tag;
      return document.createNode({ '!reference': node.toJS(document) });
    },
  });
  const data: unknown = document.toJS({ maxAliasCount: 1000 });
  if (data === null || data === undefined) return {};
  if (!isObject(data)) throw new CiConfigError(`${source.label}: the configuration must be a mapping`);
  return data;
}

/** Where a key was written, as `file:line`; the file's own name when it cannot be found, null when no source has it. */
export function locate(sources: readonly YamlSource[], path: readonly string[]): string | null {
  for (const source of sources) {
    let node: unknown = source.body.contents;
    let key: Scalar | null = null;
    for (const segment of path) {
      const pair = isMap(node)
        ? node.items.find((item) => isScalar(item.key) && String(item.key.value) === segment)
        : undefined;
      key = pair !== undefined && isScalar(pair.key) ? pair.key : null;
      if (key === null) break;
      node = pair?.value;
    }
    if (key !== null) {
      return key.range ? `${source.label}:${source.lines.linePos(key.range[0]).line}` : source.label;
    }
  }
  return null;
}

/** Merges two configurations as GitLab does for includes: mappings deeply, everything else is replaced by `over`. */
export function mergeConfig(
  base: Record<string, unknown>,
  over: Record<string, unknown>,
): Record<string, unknown> {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] =
      isObject(before) && isObject(value) && !isReference(before) && !isReference(value)
        ? mergeConfig(before, value)
        : value;
  }
  return merged;
}
