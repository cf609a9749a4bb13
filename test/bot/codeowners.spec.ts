import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ownersOf } from '../../bot/codeowners.ts';

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
  ])('in %j', (text, owners) => {
    expect(ownersOf(text, 'cdl.yaml')).toEqual(owners);
  });

  it('are found whatever the file holds', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(Array.isArray(ownersOf(text, 'cdl.yaml'))).toBe(true);
      }),
    );
  });
});
