import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeownersPaths, ownersOf } from '../../bot/codeowners.ts';

describe('the owners of a file by CODEOWNERS', () => {
  it.each<[text: string, owners: string[]]>([
    ['* @ada', ['@ada']],
    ['* @ada\ncdl.yaml @vera @acme/validators # both', ['@vera', '@acme/validators']],
    ['cdl.yaml @vera\n* @ada', ['@ada']],
    ['/cdl.yaml @vera\n/docs/ @ada\n*.md @ada', ['@vera']],
    ['docs/cdl.yaml @ada', []],
    ['*.yaml @vera\n*.yml @ada', ['@vera']],
    ['[Models] @acme/ml\ncdl.yaml\n[Docs]\n* @ada', ['@acme/ml', '@ada']],
    ['^[Optional][2] @@maintainers\n/*.yaml', ['@@maintainers']],
    ['# cdl.yaml @ada\n\n', []],
    ['cdl?yaml @vera\ncdl[.]yaml @ada', ['@vera']],
    ['* @ada\n!cdl.yaml\n*.yaml @vera', []],
    ['!/docs/\n* @ada', ['@ada']],
    ['* @ada\n[Models]\n*.yaml @vera\n!cdl.yaml\n[Rest]\n* @walt', ['@ada', '@walt']],
    ['[Models]\n!*.yaml\n[models] @vera\ncdl.yaml', []],
    ['* @ada\n\\!cdl.yaml @vera', ['@ada']],
  ])('in %j', (text, owners) => {
    expect(ownersOf(text, 'cdl.yaml', 'gitlab')).toEqual(owners);
  });

  it('have no exclusions on GitHub, which skips such a line', () => {
    expect(ownersOf('* @ada\n!cdl.yaml\n!*.md @vera', 'cdl.yaml', 'github')).toEqual(['@ada']);
  });

  it('stand in the file that the forge itself would take', () => {
    expect(codeownersPaths.github[0]).toBe('.github/CODEOWNERS');
    expect(codeownersPaths.gitlab).toEqual(['CODEOWNERS', 'docs/CODEOWNERS', '.gitlab/CODEOWNERS']);
  });

  it('are found whatever the file holds', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(Array.isArray(ownersOf(text, 'cdl.yaml', 'gitlab'))).toBe(true);
      }),
    );
  });
});
