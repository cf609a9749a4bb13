import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { commands } from '../../src/cli/commands.ts';
import { UserError } from '../../src/core/error.ts';
import { componentInputs, parameterVariable, renderComponent } from '../../src/steps/component.ts';
import { parameterVariables } from '../../src/steps/context.ts';
import { steps } from '../../src/steps/index.ts';
import { parametersOf, parseParameters } from '../../src/steps/parameters.ts';
import type { Step } from '../../src/steps/types.ts';

const params = z.object({
  model: z.string().default('').describe('Which.'),
  batch_size: z.number().default(64),
  shuffle: z.boolean().default(true),
  side: z.enum(['train', 'test']).default('train'),
  metrics: z.array(z.string()).default([]),
  candidate: z.string().describe('Needed.'),
  note: z.string().optional(),
});

const step: Step<typeof params> = {
  name: 'example',
  summary: 'An example',
  epoch: 1,
  stage: 'data',
  params,
  inputs: async () => ({ subject: '', zone: 'work', key: {}, files: [], artifacts: [], cache: false }),
  run: async () => {
    throw new Error('not run');
  },
};

/** The message and code of a refusal. */
function refusal(given: Record<string, string>): string {
  try {
    parseParameters(params, given);
  } catch (error) {
    if (error instanceof UserError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

describe('parameters', () => {
  it('are read from the zod object: type, default, options, whether one is required', () => {
    expect(
      parametersOf(params).map(({ name, type, required, options }) => [name, type, required, options]),
    ).toEqual([
      ['model', 'string', false, null],
      ['batch_size', 'number', false, null],
      ['shuffle', 'boolean', false, null],
      ['side', 'string', false, ['train', 'test']],
      ['metrics', 'array', false, null],
      ['candidate', 'string', true, null],
      ['note', 'string', false, null],
    ]);
    expect(parametersOf(params)[1]).toMatchObject({ default: 64 });
    expect(parametersOf(params)[0]).toMatchObject({ description: 'Which.' });
  });

  it('that are no scalars, enums or arrays are refused when the step is written', () => {
    expect(() => parametersOf(z.object({ deep: z.object({ a: z.string() }) }))).toThrow(
      /deep is of type object/,
    );
  });

  it('get their defaults and keep what is given', () => {
    expect(
      parseParameters(params, { candidate: 'c', batch_size: '8', shuffle: 'false', metrics: 'a,b' }),
    ).toEqual({
      model: '',
      batch_size: 8,
      shuffle: false,
      side: 'train',
      metrics: ['a', 'b'],
      candidate: 'c',
    });
  });

  it.each([
    [{ candidate: 'c', modle: 'x' }, 'usage: there is no parameter modle — did you mean model?'],
    [{ candidate: 'c', zzzzzz: 'x' }, 'usage: there is no parameter zzzzzz'],
    [{ candidate: 'c', batch_size: 'many' }, 'usage: batch_size takes a number, not "many"'],
    [{ candidate: 'c', batch_size: '' }, 'usage: batch_size takes a number, not ""'],
    [{ candidate: 'c', batch_size: 'Infinity' }, 'usage: batch_size takes a number, not "Infinity"'],
    [{ candidate: 'c', shuffle: 'yes' }, 'usage: shuffle takes true or false, not "yes"'],
    [{ candidate: 'c', side: 'both' }, 'usage: --side: Invalid option: expected one of "train"|"test"'],
    [{}, 'usage: --candidate: is required'],
  ])('%j are refused by name, value and what is allowed', (given, message) => {
    expect(refusal(given as Record<string, string>)).toBe(message);
  });

  it('survive the way from a value through a component variable back to the value', () => {
    const value = fc.record({
      model: fc.string(),
      batch_size: fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
      shuffle: fc.boolean(),
      side: fc.constantFrom('train' as const, 'test' as const),
      metrics: fc.array(fc.stringMatching(/^[^,]+$/)),
      candidate: fc.string({ minLength: 1 }),
    });
    fc.assert(
      fc.property(value, (value) => {
        const variables = Object.fromEntries(
          Object.entries(value).map(([name, one]) => [parameterVariable(name), String(one)]),
        );
        const given = parameterVariables(variables, Object.keys(params.shape));
        expect(parseParameters(params, given)).toEqual(value);
      }),
    );
  });
});

describe('a component', () => {
  const document = (text: string) => {
    const [header, body] = text.split('\n---\n') as [string, string];
    return { spec: parse(header).spec, body: parse(body) as Record<string, Record<string, unknown>> };
  };

  it('has an input for every parameter, required where the parameter is', () => {
    const { spec } = document(renderComponent(step, '1.2.3'));
    expect(spec.inputs['batch-size']).toMatchObject({ type: 'string', default: '64' });
    expect(spec.inputs.side).toMatchObject({ type: 'string', options: ['train', 'test'], default: 'train' });
    expect(spec.inputs.candidate).not.toHaveProperty('default');
    expect(Object.keys(spec.inputs)).toEqual(Object.keys(componentInputs(step, '1.2.3')));
    expect(Object.keys(spec.inputs).length).toBeLessThanOrEqual(50);
  });

  it('hands parameters on by variables that are not expanded, and its script is the name of the step alone', () => {
    const { body } = document(renderComponent(step, '1.2.3'));
    expect(Object.keys(body)).toEqual(['$[[ inputs.job-name ]]']);
    const job = Object.values(body)[0]!;
    expect(job.script).toEqual(['cdl example']);
    expect((job.variables as Record<string, unknown>).CDL_PARAM_BATCH_SIZE).toEqual({
      value: '$[[ inputs.batch-size ]]',
      expand: false,
    });
  });
});

describe('the table of steps', () => {
  let loaded: Step[];
  beforeAll(async () => {
    loaded = await Promise.all(steps.map((entry) => entry.load()));
  });
  afterAll(() => {
    loaded = [];
  });

  it('says the same as the steps themselves', () => {
    expect(steps.map(({ name, summary }) => ({ name, summary }))).toEqual(
      loaded.map(({ name, summary }) => ({ name, summary })),
    );
  });

  it('has summaries that fit a line of help, and no name twice', () => {
    for (const { name, summary } of [...steps, ...commands]) {
      expect(summary.length, `${name}: ${summary}`).toBeLessThanOrEqual(63);
      expect(summary, name).toMatch(/^[A-Z].*[^.]$/);
    }
    const names = [...steps, ...commands].map((one) => one.name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('has parameters that no common input of a component hides, each with a description', () => {
    for (const step of loaded) {
      const own = parametersOf(step.params);
      const inputs = Object.keys(componentInputs(step, '1.0.0'));
      expect(new Set(inputs).size, step.name).toBe((step.shards ? 11 : 10) + own.length);
      for (const one of own) expect(one.description, `${step.name}.${one.name}`).toMatch(/^[A-Z].*\.$/);
    }
  });
});
