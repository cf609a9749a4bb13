import { describe, expect, it } from 'vitest';
import { changedRollout, changedRules } from '../../bot/changed-rules.ts';
import { parseProject } from '../../src/index.ts';
import { projectYaml } from './world.ts';

const modelWith = (environments: string) =>
  parseProject(
    projectYaml().replace('    code: [model.ts]', `    code: [model.ts]\n    environments: ${environments}`),
  ).models.fashion!;
const usual = modelWith('{ production: {} }');

describe('what a change alters of the rules it is judged by', () => {
  const base = parseProject(projectYaml());
  it.each<[what: string, from: string, to: string, told: string[]]>([
    ['a gate', 'min: 0.85', 'min: 0.1', ['gates']],
    ['who validates', '[vera, walt, ada]', '[ada]', ['roles or approval rules']],
    ['the test side', 'test: 0.2', 'test: 0.3', ['the data set']],
    [
      'what is measured of it',
      '    gates:',
      '    evaluate: { slices: { classes: { wear: [shirt] } } }\n    gates:',
      ['what is evaluated (evaluate:)'],
    ],
    ['nothing of them', 'problem: Sort', 'problem: To sort', []],
  ])('is told where it is %s', (_what, from, to, told) => {
    expect(projectYaml()).toContain(from);
    expect(changedRules(parseProject(projectYaml().replace(from, to)), base, 'fashion')).toEqual(told);
  });
});

describe('how a change alters the way a model is rolled out', () => {
  it.each<[environments: string, told: string[]]>([
    ['{ production: { max_error_rate: 0.01 } }', []],
    ['{ production: { max_error_rate: 1 } }', ['max_error_rate: 1 (was 0.01)']],
    ['{ production: { traffic: [100] } }', ['traffic: [100] (was [20,100])']],
    ['{ production: { namespace: other } }', ['namespace: "other" (was not set)']],
    ['{ production: {}, staging: { max_error_rate: 1 } }', []],
  ])('as %s', (environments, told) => {
    expect(changedRollout(modelWith(environments), usual, 'production')).toEqual(told);
  });

  it('is told of an environment that the default branch does not have', () => {
    const head = modelWith('{ staging: {} }');
    expect(changedRollout(head, usual, 'staging')).toEqual(['the environment staging (is new)']);
  });
});
