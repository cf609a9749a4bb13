import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commandNames } from '../../bot/commands/index.ts';
import { parseComment } from '../../bot/parse.ts';

const names = (body: string) =>
  parseComment(body, commandNames).map((one) => (one.kind === 'command' ? one.name : `?${one.suggestion}`));

describe('the comment parser', () => {
  it('finds commands on lines of their own, several in one comment', () => {
    expect(parseComment('Looks good.\n/approve 3f9a2c\r\n/status', commandNames)).toEqual([
      { kind: 'command', name: 'approve', args: ['3f9a2c'], options: {}, line: '/approve 3f9a2c' },
      { kind: 'command', name: 'status', args: [], options: {}, line: '/status' },
    ]);
    expect(names('/cdl approve 3f9a2c')).toEqual(['approve']);
    expect(names('cdl /approve 3f9a2c')).toEqual(['approve']);
    expect(names('please /approve 3f9a2c')).toEqual([]);
  });

  it('reads quoted words and options', () => {
    const [one] = parseComment('/approve 3f9a2c --override "rare \\"class\\" is fine"', commandNames);
    expect(one).toMatchObject({ args: ['3f9a2c'], options: { override: 'rare "class" is fine' } });
    expect(parseComment('/reject train “too slow”', commandNames)[0]).toMatchObject({
      args: ['train', 'too slow'],
    });
    expect(parseComment('/approve --override=why abc', commandNames)[0]).toMatchObject({
      args: ['abc'],
      options: { override: 'why' },
    });
  });

  it('ignores code, quotes and hidden text', () => {
    for (const body of [
      '```\n/approve 3f9a2c\n```',
      '~~~~\n```\n/approve 3f9a2c\n~~~~',
      '> /approve 3f9a2c',
      '    /approve 3f9a2c',
      '\t/approve 3f9a2c',
      '<!-- /approve 3f9a2c -->',
      '<!--\n/approve 3f9a2c',
      '`/approve 3f9a2c`',
    ]) {
      expect(names(body), body).toEqual([]);
    }
    expect(names('```\ncode\n```\n/help')).toEqual(['help']);
  });

  it('asks about slips and leaves other slash words alone', () => {
    expect(names('/aprove 3f9a2c')).toEqual(['?approve']);
    expect(names('/label ~bug\n/assign @ada\n/shrug')).toEqual([]);
    expect(names('/etc/passwd\n/usr/bin/approve')).toEqual([]);
  });

  it('never throws, whatever the text', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '/approve ',
        '/cdl ',
        '```',
        '<!--',
        '-->',
        '"',
        '--override',
        '\n',
        '> ',
        '\\',
        '__proto__',
      ),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        for (const one of parseComment(pieces.join(''), commandNames)) {
          expect(one.kind === 'typo' || commandNames.includes(one.name)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
    const deep = `${'"'.repeat(50_000)}\n/approve ${'"a '.repeat(20_000)}`;
    expect(names(deep)).toEqual(['approve']);
  });

  it('finds exactly the commands that plain lines hold', () => {
    const plain = fc.stringMatching(/^[a-z ,.]{0,20}$/);
    fc.assert(
      fc.property(
        fc.array(fc.oneof(plain, fc.constantFrom(...commandNames.map((n) => `/${n}`))), { maxLength: 9 }),
        (lines) => {
          expect(names(lines.join('\n'))).toEqual(
            lines.filter((l) => l.startsWith('/')).map((l) => l.slice(1)),
          );
        },
      ),
    );
  });
});
