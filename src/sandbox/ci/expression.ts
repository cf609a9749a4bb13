import { CiConfigError } from './yaml-source.ts';

type Operand =
  | { kind: 'variable'; name: string }
  | { kind: 'string'; value: string }
  | { kind: 'pattern'; value: RegExp }
  | { kind: 'null' };
type Expression =
  | Operand
  | { kind: 'and' | 'or'; left: Expression; right: Expression }
  | { kind: 'compare'; operator: '==' | '!=' | '=~' | '!~'; left: Expression; right: Expression };

type Token = { text: string; operand: Operand | null };

const lexemes =
  /\s*(?:(\$[a-zA-Z_]\w*)|"([^"]*)"|'([^']*)'|\/((?:\\.|[^/\\])+)\/([ims]*)|(null)\b|(==|!=|=~|!~|&&|\|\||\(|\)))/y;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const end = text.trimEnd().length;
  while (at < end) {
    lexemes.lastIndex = at;
    const match = lexemes.exec(text);
    if (match === null) throw new CiConfigError(`invalid expression syntax at \`${text.slice(at).trim()}\``);
    at = lexemes.lastIndex;
    const [all, variable, double, single, pattern, flags, nothing] = match;
    let operand: Operand | null = null;
    if (variable !== undefined) operand = { kind: 'variable', name: variable.slice(1) };
    else if (double !== undefined) operand = { kind: 'string', value: double };
    else if (single !== undefined) operand = { kind: 'string', value: single };
    else if (pattern !== undefined) operand = { kind: 'pattern', value: toRegExp(pattern, flags ?? '') };
    else if (nothing !== undefined) operand = { kind: 'null' };
    tokens.push({ text: all.trim(), operand });
  }
  return tokens;
}

function toRegExp(pattern: string, flags: string): RegExp {
  try {
    return new RegExp(pattern, flags);
  } catch {
    throw new CiConfigError(`/${pattern}/ is not a valid regular expression`);
  }
}

/** Parses a `rules:if` expression (doc: ci/jobs/job_rules, "CI/CD variable expressions"); `&&` binds closer than `||`. */
export function parseExpression(text: string): (values: ReadonlyMap<string, string>) => boolean {
  const tokens = tokenize(text);
  let at = 0;
  const fail = (): never => {
    throw new CiConfigError(`invalid expression syntax in \`${text}\``);
  };
  const accept = (...wanted: string[]): string | null => {
    const token = tokens[at];
    if (token === undefined || token.operand !== null || !wanted.includes(token.text)) return null;
    at += 1;
    return token.text;
  };
  const primary = (): Expression => {
    if (accept('(') !== null) {
      const inner = either();
      if (accept(')') === null) fail();
      return inner;
    }
    const operand = tokens[at]?.operand ?? fail();
    at += 1;
    return operand;
  };
  const comparison = (): Expression => {
    const left = primary();
    const operator = accept('==', '!=', '=~', '!~');
    if (operator !== '==' && operator !== '!=' && operator !== '=~' && operator !== '!~') return left;
    return { kind: 'compare', operator, left, right: primary() };
  };
  const both = (): Expression => {
    let left = comparison();
    while (accept('&&') !== null) left = { kind: 'and', left, right: comparison() };
    return left;
  };
  const either = (): Expression => {
    let left = both();
    while (accept('||') !== null) left = { kind: 'or', left, right: both() };
    return left;
  };
  const tree = either();
  if (at < tokens.length) fail();
  return (values) => truthy(evaluate(tree, values));
}

type Value = string | boolean | RegExp | null;

function truthy(value: Value): boolean {
  return value !== null && value !== '' && value !== false;
}

function evaluate(node: Expression, values: ReadonlyMap<string, string>): Value {
  switch (node.kind) {
    case 'variable':
      return values.get(node.name) ?? null;
    case 'string':
    case 'pattern':
      return node.value;
    case 'null':
      return null;
    case 'and': {
      const left = evaluate(node.left, values);
      return truthy(left) ? evaluate(node.right, values) : left;
    }
    case 'or': {
      const left = evaluate(node.left, values);
      return truthy(left) ? left : evaluate(node.right, values);
    }
    case 'compare': {
      const left = evaluate(node.left, values);
      const right = evaluate(node.right, values);
      if (node.operator === '==') return left === right;
      if (node.operator === '!=') return left !== right;
      const matches = typeof left === 'string' && (asPattern(right)?.test(left) ?? false);
      return node.operator === '=~' ? matches : !matches;
    }
  }
}

// A variable on the right may hold a pattern written as /…/; any other text never matches.
function asPattern(value: Value): RegExp | null {
  if (value instanceof RegExp) return value;
  const written = typeof value === 'string' ? /^\/(.+)\/([ims]*)$/s.exec(value) : null;
  return written === null ? null : toRegExp(written[1] ?? '', written[2] ?? '');
}
