import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/core/error.ts';
import { evaluationRules } from '../../src/core/evaluation.ts';
import { configDigest, modelConfig, parseProject } from '../../src/core/project.ts';
import { slicesOf } from '../../src/core/slices.ts';
import { compareSlices, scoreSlices } from '../../src/model/sliced.ts';

const fashion = readFileSync(new URL('../golden/config/fashion.yaml', import.meta.url), 'utf8');

describe('slices of a withheld set', () => {
  it('hold each item once a field, in order, and leave out only the rarest values', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.integer({ min: 0, max: 30 })), { maxLength: 200 }), (values) => {
        const attributes = values.map((value) => (value === null ? {} : { light: String(value) }));
        const y = values.map(() => 0);
        const found = slicesOf({ fields: ['light'], classes: {} }, { y, classes: ['a'], attributes });
        for (const [name, places] of found) {
          const wanted = values.flatMap((value, place) => (name === `light=${value}` ? [place] : []));
          expect(places).toEqual(wanted);
        }
        const kinds = new Set(values.filter((value) => value !== null));
        expect(found.size).toBe(Math.min(20, kinds.size));
        const rarest = Math.min(...[...found.values()].map((places) => places.length));
        for (const kind of kinds) {
          if (found.has(`light=${kind}`)) continue;
          expect(values.filter((value) => value === kind).length).toBeLessThanOrEqual(rarest);
        }
      }),
    );
  });

  it('are measured as the whole would be without the other items', () => {
    const classes = ['a', 'b'];
    const y = [0, 0, 1, 1, 0];
    const better = Float32Array.from([0.9, 0.1, 0.8, 0.2, 0.2, 0.8, 0.3, 0.7, 0.1, 0.9]);
    const worse = Float32Array.from([0.9, 0.1, 0.2, 0.8, 0.2, 0.8, 0.3, 0.7, 0.1, 0.9]);
    const attributes = [{ light: 'day' }, { light: 'night' }, { light: 'day' }, { light: 'night' }, {}];
    const slices = slicesOf({ fields: ['light'], classes: { only_a: ['a'] } }, { y, classes, attributes });
    const scored = scoreSlices(better, y, classes, slices);
    const accuracy = (name: string) => scored[`accuracy[${name}]`]?.value;
    expect(['light=day', 'light=night', 'only_a'].map(accuracy)).toEqual([1, 1, 2 / 3]);
    const compared = compareSlices(better, worse, y, classes, slices);
    expect(compared['accuracy[light=day]']).toEqual({ value: 0, low: 0, high: 0 });
    expect(compared['accuracy[light=night]']!.value).toBe(0.5);
  });

  it('change neither the identity of a model nor, where there are none, what is asked', () => {
    const plain = parseProject(fashion);
    const model = Object.keys(plain.models)[0]!;
    const sliced = parseProject(
      fashion.replace(/^( +)gates:/m, '$1evaluate: { slices: { classes: { tops: [Shirt] } } }\n$1gates:'),
    );
    expect(modelConfig(sliced, model).evaluate).toBeDefined();
    expect(configDigest(modelConfig(sliced, model))).toBe(configDigest(modelConfig(plain, model)));
  });

  it('are not all: with numbers for classes the errors of numbers are asked for, and are another question', () => {
    const numbers = fashion
      .replace(/classes: \[.*\]/, 'classes: ["1", "2", "3.5"]')
      .replace(/^( +)gates:[\s\S]*?(?=^ {4}\w)/m, '$1gates: [{ metric: mae, max: 0.5 }]\n');
    const regression = numbers.replace(/^( +)gates:/m, '$1evaluate: { task: regression }\n$1gates:');
    const model = Object.keys(parseProject(regression).models)[0]!;
    const asked = (text: string) => {
      const { models, datasets } = parseProject(text);
      return evaluationRules(models[model]!, datasets[models[model]!.data]);
    };
    expect(asked(regression)).toMatchObject({ task: 'regression', slices: { fields: [], classes: {} } });
    expect(() => parseProject(numbers)).toThrow(/mae is measured with evaluate: \{ task: regression \} only/);
    expect(() => parseProject(regression.replace('"3.5"', '"2.0"'))).toThrow(
      /classes that are numbers, each another one/,
    );
    expect(() => parseProject(regression.replace('"3.5"', 'many'))).toThrow(/the data has 1, 2, many/);
  });

  it('of fields that are sensitive are refused: each value would be a line of a report', () => {
    const news = (sensitive: string) =>
      readFileSync(new URL('../../templates/news/cdl.yaml', import.meta.url), 'utf8')
        .replace(/^( +)item: text$/m, `$1item: text\n$1sensitive: ${sensitive}`)
        .replace(/^( +)gates:/m, '$1evaluate: { slices: { fields: [author, day] } }\n$1gates:');
    expect(() => parseProject(news('[author]'))).toThrow(
      /models\.news\.evaluate\.slices\.fields would tell the values of author in reports/,
    );
    expect(() => parseProject(news('true'))).toThrow(/the values of author, day in reports/);
    expect(Object.keys(parseProject(news('[reader]')).models)).toEqual(['news']);
  });

  it.each([
    ['accuracy[tops]', /names no slice of evaluate\.slices; they are none/, ''],
    ['accuracy[topz]', /did you mean accuracy\[tops\]/, 'classes: { tops: [Shirt] }'],
    ['accuracy', /"Shrt" is no class of the data — did you mean Shirt\?/, 'classes: { tops: [Shrt] }'],
    ['accuracy', /tensors have no attributes/, 'fields: [light]'],
  ])('are declared before a gate names them: %s', (metric, message, slices) => {
    const declared = slices && `evaluate: { slices: { ${slices} } }\n$1`;
    const text = fashion
      .replace(/^( +)gates:/m, `$1${declared}gates: [{ metric: '${metric}', min: 0.1 }]\n$1x:`)
      .replace(/^ +x:[\s\S]*?(?=^ {4}\w)/m, '');
    let said = '';
    try {
      parseProject(text);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      said = error.message;
    }
    expect(said).toMatch(message);
  });
});
