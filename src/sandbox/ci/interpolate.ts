import { isPair, isScalar, isSeq, visit } from 'yaml';
import { expandText } from './expand-variables.ts';
import { CiConfigError, isObject, type YamlSource } from './yaml-source.ts';

const types = ['string', 'number', 'boolean', 'array'] as const;
const keywords = ['default', 'description', 'options', 'regex', 'type'];
const maxFunctions = 3;
const maxInputs = 50;

/** One entry of `spec:inputs` (doc: ci/inputs). Without a default the input is mandatory. */
export interface InputSpec {
  type: (typeof types)[number];
  default: { value: unknown } | null;
  options: unknown[] | null;
  regex: RegExp | null;
}

/** What blocks may refer to besides inputs. */
export interface InterpolationContext {
  /** For `expand_vars`. */
  variables: ReadonlyMap<string, string>;
  /** `component.name|sha|version|reference` where the file is used as a component; null elsewhere. */
  component: Record<string, string> | null;
}

function isOfType(value: unknown, type: InputSpec['type']): boolean {
  return type === 'array' ? Array.isArray(value) : typeof value === type;
}

/** Reads the `spec:inputs` of a file; throws CiConfigError naming the file and the input. */
export function readInputSpecs(source: YamlSource): Map<string, InputSpec> {
  const header: unknown = source.header?.toJS() ?? { spec: null };
  const spec = isObject(header) ? header.spec : null;
  const inputs = isObject(spec) ? (spec.inputs ?? {}) : {};
  const fail = (message: string): never => {
    throw new CiConfigError(`${source.label}: spec:inputs${message}`);
  };
  if (isObject(spec)) {
    const other = Object.keys(spec).filter((key) => key !== 'inputs' && key !== 'component');
    if (other.length > 0)
      throw new CiConfigError(`${source.label}: spec config contains unknown keys: ${other}`);
  }
  if (!isObject(inputs)) return fail(' must be a mapping');
  if (Object.keys(inputs).length > maxInputs) fail(` has more than ${maxInputs} inputs`);
  const specs = new Map<string, InputSpec>();
  for (const [name, raw] of Object.entries(inputs)) {
    const entry = raw ?? {};
    if (!isObject(entry)) return fail(`:${name} must be a mapping`);
    const unknown = Object.keys(entry).filter((key) => !keywords.includes(key));
    if (unknown.length > 0) fail(`:${name} contains unknown keys: ${unknown.join(', ')}`);
    const type = types.find((known) => known === (entry.type ?? 'string'));
    if (type === undefined) return fail(`:${name}:type is not one of ${types.join(', ')}`);
    const options = entry.options ?? null;
    if (options !== null && !Array.isArray(options)) return fail(`:${name}:options must be a list`);
    const pattern = entry.regex;
    if (pattern !== undefined && (typeof pattern !== 'string' || type !== 'string')) {
      return fail(`:${name}:regex must be a text, and its input a string`);
    }
    let regex: RegExp | null = null;
    try {
      if (typeof pattern === 'string') regex = new RegExp(pattern.replace(/^\/(.*)\/$/s, '$1'));
    } catch {
      fail(`:${name}:regex is not a valid expression`);
    }
    const value = entry.default;
    const found: InputSpec = { type, default: value === undefined ? null : { value }, options, regex };
    if (found.default !== null) checkInput(source.label, name, found, value, 'default');
    specs.set(name, found);
  }
  return specs;
}

function checkInput(
  label: string,
  name: string,
  spec: InputSpec,
  value: unknown,
  which: 'default' | 'provided',
): void {
  const fail = (message: string): never => {
    throw new CiConfigError(`${label}: \`${name}\` input: ${message}`);
  };
  if (!isOfType(value, spec.type))
    fail(`${which} value is not ${spec.type === 'array' ? 'an' : 'a'} ${spec.type}`);
  const shown = `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
  if (spec.options !== null && !spec.options.some((option) => option === value)) {
    const allowed = spec.options.map((option) => String(option)).join(', ');
    fail(`${shown} cannot be used because it is not in the list of allowed options: ${allowed}`);
  }
  if (spec.regex !== null && !spec.regex.test(String(value))) {
    fail(`${which} value ${shown} does not match required RegEx pattern ${spec.regex.source}`);
  }
}

/** The values of all inputs of a file. Throws CiConfigError for an unknown, missing or ill-fitting one. */
export function resolveInputs(
  label: string,
  specs: ReadonlyMap<string, InputSpec>,
  given: Readonly<Record<string, unknown>>,
): Map<string, unknown> {
  const problems: string[] = [];
  const values = new Map<string, unknown>();
  const unknown = Object.keys(given).filter((name) => !specs.has(name));
  if (unknown.length > 0) {
    const known = [...specs.keys()].join(', ') || 'none';
    problems.push(`${label}: unknown input arguments: ${unknown.join(', ')} (known: ${known})`);
  }
  for (const [name, spec] of specs) {
    const value = given[name];
    if (value === undefined) {
      if (spec.default === null)
        problems.push(`${label}: \`${name}\` input: required value has not been provided`);
      else values.set(name, spec.default.value);
      continue;
    }
    try {
      checkInput(label, name, spec, value, 'provided');
      values.set(name, value);
    } catch (error) {
      if (!(error instanceof CiConfigError)) throw error;
      problems.push(...error.messages);
    }
  }
  if (problems.length > 0) throw new CiConfigError(problems);
  return values;
}

/** Quotes like Ruby's Shellwords.escape, which GitLab's `posix_escape` calls. */
export function posixEscape(text: string): string {
  if (text === '') return "''";
  return text.replace(/[^A-Za-z0-9_\-.,:+/@\n]/gu, '\\$&').replace(/\n/g, "'\n'");
}

function callFunction(text: string, value: string, context: InterpolationContext): string {
  if (text === 'expand_vars') {
    // Unlike in a job, a name nobody defines stays as written: the runner may know it later.
    const known = new Map(context.variables);
    return value.replace(/\$\{([a-zA-Z_]\w*)\}|\$([a-zA-Z_]\w*)/g, (match, braced, plain) =>
      known.has(braced ?? plain) ? expandText(match, known) : match,
    );
  }
  if (text === 'posix_escape') return posixEscape(value);
  const truncate = /^truncate\(\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(text);
  if (truncate !== null) {
    const characters = [...value];
    const from = Number(truncate[1]);
    return characters.slice(from, from + Number(truncate[2])).join('');
  }
  throw new CiConfigError(
    `no function matching \`${text}\`: known are expand_vars, truncate(offset,length), posix_escape`,
  );
}

/** The value of one block's content, as `inputs.name | truncate(0,8)`. Throws CiConfigError. */
export function evaluateBlock(
  content: string,
  inputs: ReadonlyMap<string, unknown>,
  context: InterpolationContext,
): unknown {
  const [access = '', ...functions] = content.split('|').map((part) => part.trim());
  const dot = access.indexOf('.');
  const [scope, name] = [access.slice(0, dot), access.slice(dot + 1)];
  let value: unknown;
  if (scope === 'inputs' && inputs.has(name)) value = inputs.get(name);
  else if (scope === 'component' && context.component?.[name] !== undefined) value = context.component[name];
  else throw new CiConfigError(`unknown interpolation key: \`${access}\``);
  if (functions.length > maxFunctions) {
    throw new CiConfigError(`too many functions in interpolation block (at most ${maxFunctions})`);
  }
  for (const text of functions) {
    if (typeof value !== 'string') throw new CiConfigError(`\`${text}\` in \`${content}\` needs a string`);
    value = callFunction(text, value, context);
  }
  return value;
}

const block = /\$\[\[\s*([^\]]*?)\s*\]\]/g;
const wholeBlock = /^\$\[\[\s*([^\]]*?)\s*\]\]$/;

/** Replaces the blocks of a text; a text that is exactly one block gives the value with its type. */
export function interpolateText(
  text: string,
  inputs: ReadonlyMap<string, unknown>,
  context: InterpolationContext,
): unknown {
  const whole = wholeBlock.exec(text);
  if (whole !== null) return evaluateBlock(whole[1] ?? '', inputs, context);
  return text.replace(block, (_, content: string) => {
    const value = evaluateBlock(content, inputs, context);
    return typeof value === 'string' ? value : JSON.stringify(value);
  });
}

/** Interpolates keys and values of a file in place, so that messages keep their lines. Files without a header are left alone. */
export function interpolateSource(
  source: YamlSource,
  inputs: ReadonlyMap<string, unknown>,
  context: InterpolationContext,
): void {
  if (source.header === null) return;
  const document = source.body;
  visit(document, {
    Scalar(position, node, ancestors): symbol | undefined {
      if (typeof node.value !== 'string' || !node.value.includes('$[[')) return undefined;
      try {
        const value = interpolateText(node.value, inputs, context);
        if (typeof value === 'object' && value !== null) {
          const parent = ancestors.at(-1);
          const list = document.createNode(value);
          // Put in by hand and skipped: what an input holds is not interpolated again.
          if (isPair(parent) && position !== 'key') parent.value = list;
          else if (isSeq(parent) && typeof position === 'number') parent.items[position] = list;
          else throw new CiConfigError('a list cannot be a key');
          return visit.SKIP;
        }
        node.value = value;
        // A plain `123` or `true` from a string must stay a string.
        delete node.source;
      } catch (error) {
        if (!(error instanceof CiConfigError) || !isScalar(node) || !node.range) throw error;
        const line = source.lines.linePos(node.range[0]).line;
        throw new CiConfigError(error.messages.map((message) => `${source.label}:${line}: ${message}`));
      }
      return undefined;
    },
  });
}
