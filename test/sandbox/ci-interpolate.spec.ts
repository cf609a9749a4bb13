import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expandText, resolveVariables } from '../../src/sandbox/ci/expand-variables.ts';
import { parseExpression } from '../../src/sandbox/ci/expression.ts';
import { newestVersion } from '../../src/sandbox/ci/include.ts';
import {
  interpolateSource,
  interpolateText,
  posixEscape,
  readInputSpecs,
  resolveInputs,
} from '../../src/sandbox/ci/interpolate.ts';
import { parseDuration } from '../../src/sandbox/ci/jobs.ts';
import { environmentSlug } from '../../src/sandbox/ci/names.ts';
import { parseSource, toData } from '../../src/sandbox/ci/yaml-source.ts';

const braced = (name: string): string => `$\u007b${name}}`;
const nothing = { variables: new Map<string, string>(), component: null };

describe('interpolation', () => {
  it('gives back any value of a block that stands alone, with its type', () => {
    const value = fc.oneof(fc.string(), fc.double({ noNaN: true }), fc.boolean(), fc.array(fc.string()));
    fc.assert(
      fc.property(value, (given) => {
        expect(interpolateText('$[[ inputs.x ]]', new Map([['x', given]]), nothing)).toEqual(given);
      }),
    );
  });

  it('puts any text between other text and never interprets what it inserted', () => {
    const text = fc.oneof(fc.string(), fc.constant('$[[ inputs.x ]]'), fc.constant('$& $1 $$'));
    fc.assert(
      fc.property(text, fc.string({ maxLength: 5 }), (given, around) => {
        fc.pre(!around.includes('$') && !around.includes('['));
        const result = interpolateText(`${around}$[[inputs.x]]|`, new Map([['x', given]]), nothing);
        expect(result).toBe(`${around}${given}|`);
      }),
    );
  });

  it('cannot be used to add structure: a text stays one scalar wherever it is inserted', () => {
    fc.assert(
      fc.property(fc.string(), (given) => {
        const yaml =
          'spec:\n  inputs:\n    x:\n---\njob:\n  script: ["$[[ inputs.x ]]", "a $[[ inputs.x ]]"]\n';
        const source = parseSource('f.yml', yaml);
        interpolateSource(source, resolveInputs('f.yml', readInputSpecs(source), { x: given }), nothing);
        expect(toData(source)).toEqual({ job: { script: [given, `a ${given}`] } });
      }),
    );
  });

  it('does not interpolate again what a list holds', () => {
    const source = parseSource(
      'f.yml',
      'spec:\n  inputs:\n    x: {type: array}\n---\njob: {script: "$[[ inputs.x ]]"}\n',
    );
    const values = resolveInputs('f.yml', readInputSpecs(source), { x: ['$[[ inputs.x ]]'] });
    interpolateSource(source, values, nothing);
    expect(toData(source)).toEqual({ job: { script: ['$[[ inputs.x ]]'] } });
  });

  it('escapes so that a shell reads exactly the text', () => {
    const printable = fc.string({ unit: fc.constantFrom(...'aZ0 $"\'`\\!*?[](){}<>|&;#~=%\n\tä') });
    const samples = fc.sample(printable, 60);
    const script = samples.map((text) => `printf '%s\\0' ${posixEscape(text)}`).join('\n');
    expect(execFileSync('sh', ['-c', script]).toString('utf8').split('\0').slice(0, -1)).toEqual(samples);
  });

  it('applies at most three functions, in order', () => {
    const inputs = new Map([['x', 'abc $A']]);
    const context = { variables: new Map([['A', 'value']]), component: null };
    const apply = (functions: string) => interpolateText(`$[[ inputs.x | ${functions} ]]`, inputs, context);
    expect(apply('expand_vars')).toBe('abc value');
    expect(apply('truncate(1,3) | posix_escape')).toBe('bc\\ ');
    expect(() => apply('posix_escape | posix_escape | posix_escape | posix_escape')).toThrow(
      /too many functions/,
    );
    expect(() => apply('upper')).toThrow(/no function matching `upper`/);
    expect(() => interpolateText('$[[ inputs.y ]]', inputs, nothing)).toThrow(
      /unknown interpolation key: `inputs.y`/,
    );
  });

  it('refuses a header that cannot be meant', () => {
    const read = (inputs: string) =>
      readInputSpecs(parseSource('f.yml', `spec:\n  inputs: ${inputs}\n---\na: {}\n`));
    expect(() => read('{x: {type: text}}')).toThrow(
      'f.yml: spec:inputs:x:type is not one of string, number, boolean, array',
    );
    expect(() => read('{x: {defualt: 1}}')).toThrow('f.yml: spec:inputs:x contains unknown keys: defualt');
    expect(() => read('{x: {default: 1}}')).toThrow('f.yml: `x` input: default value is not a string');
    expect(() => read('{x: {regex: "^v", default: w}}')).toThrow(/does not match required RegEx/);
  });
});

describe('variables', () => {
  it('expand in any order, end on loops and leave raw values alone', () => {
    const cooked = (key: string, value: string) => ({ key, value, expand: true });
    const values = resolveVariables([
      cooked('A', `a ${braced('B')}`),
      cooked('B', 'b $C'),
      { key: 'C', value: '$A', expand: false },
      cooked('LOOP', 'x$LOOP'),
      cooked('PRICE', '$$5'),
    ]);
    expect(Object.fromEntries(values)).toEqual({ A: 'a b $A', B: 'b $A', C: '$A', LOOP: 'x', PRICE: '$5' });
    expect(expandText(`$A-${braced('MISSING')}-$B`, values)).toBe('a b $A--b $A');
  });
});

describe('rules:if', () => {
  const values = new Map([
    ['A', 'main'],
    ['EMPTY', ''],
    ['PATTERN', '/^ma/'],
  ]);
  it.each([
    ['$A', true],
    ['$EMPTY', false],
    ['$NO', false],
    ['$A == "main"', true],
    ["$A != 'main'", false],
    ['$NO == null', true],
    ['$EMPTY == null', false],
    ['$EMPTY == ""', true],
    ['$A =~ /^MA/i', true],
    ['$A !~ /x\\/y/', true],
    ['$NO =~ /.*/', false],
    ['$A =~ $PATTERN', true],
    ['$A == "main" || $NO && $NO', true],
    ['($A == "main" || $NO) && $NO', false],
    ['"production" == "production"', true],
  ])('%s is %s', (text, expected) => {
    expect(parseExpression(text)(values)).toBe(expected);
  });

  it.each(['$A = "x"', '$A &&', braced('A'), '($A', '$A == /[/', 'process.exit()'])('refuses %s', (text) => {
    expect(() => parseExpression(text)).toThrow(/expression/);
  });
});

describe('small words', () => {
  it.each([
    ['1h 30m', 5400],
    ['90 minutes', 5400],
    ['3600', 3600],
    ['2 hours and 5 min', 7500],
    ['1 day', 86_400],
    ['soon', null],
    ['', null],
  ])('a timeout of %j is %j seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it('picks the newest release of a partial version by number, not by text', () => {
    const tags = ['1.2.0', '1.10.0', '1.9.9', '2.0.0-rc1', 'v2.1.0', 'other'];
    expect(newestVersion(tags, '1')).toBe('1.10.0');
    expect(newestVersion(tags, '1.2')).toBe('1.2.0');
    expect(newestVersion(tags, '~latest')).toBe('v2.1.0');
    expect(newestVersion(tags, '3')).toBeNull();
  });

  it('makes environment slugs that are short, valid and different', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (name) => {
        expect(environmentSlug(name)).toMatch(/^[a-z][a-z0-9-]{0,23}$/);
      }),
    );
    expect(environmentSlug('review/a')).not.toBe(environmentSlug('review-a'));
  });
});
