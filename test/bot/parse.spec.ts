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
      '>>>\n/approve 3f9a2c\n>>>',
      '>>>\n\nsaid\n\n/approve 3f9a2c\n\n>>>',
      '>>>>\n>>>\n>>>\n/approve 3f9a2c\n>>>>',
      '>>>\n/approve 3f9a2c',
      '> said\n>>>\n/approve 3f9a2c\n>>>',
      '- ```\n  /approve 3f9a2c\n  ```',
      '1. ```\n   /approve 3f9a2c\n   ```',
      '- one\n  - ~~~\n    /approve 3f9a2c\n    ~~~',
      '> said\n/approve 3f9a2c',
      '> - said\n/approve 3f9a2c',
      '<pre>\n/approve 3f9a2c\n</pre>',
      'so: <pre>\n\n/approve 3f9a2c\n\n</pre>',
      '<code>\n/approve 3f9a2c\n</code>',
      '<code>\n\n/approve 3f9a2c\n\n</code>',
      'so: <code>\n/approve 3f9a2c\n</code>',
      '<blockquote>\n\n/approve 3f9a2c\n\n</blockquote>',
      'so: `not\n/approve 3f9a2c\nyet`',
      'so: ``not `\n/approve 3f9a2c\nyet``',
      'so: <!--\n/approve 3f9a2c\n-->',
      '- /approve 3f9a2c',
      '# so\n    /approve 3f9a2c',
      '[note]:\n/approve',
    ]) {
      expect(names(body), body).toEqual([]);
    }
  });

  it('hears what stands below, between or right under something it ignores', () => {
    for (const body of [
      '```\ncode\n```\n/help',
      '- ```\n  code\n  ```\n\n/help',
      '- ```\n  code\n/help',
      '1. one\n2. two\n/help',
      '>>>\nsaid\n>>>\n/help',
      '```\n>>>\n```\n/help',
      '~~~\n>>>\n~~~\n/help\n````\n>>>\n~~~\n/status\n````',
      '> said\n\n/help',
      '<pre>\nx\n</pre>\n/help',
      'as `<pre>` does\n/help',
      'a \\` and a `\n/help',
      '/help\n--\nAda',
      '/help\n---',
      '/help <command>\n<digest>',
    ]) {
      expect(names(body), body).toEqual(['help']);
    }
  });

  it('never finds a command inside a quote or code, and always one on a line of its own', () => {
    const word = fc.stringMatching(/^[a-z ,.]{0,12}$/).map((text) => `x${text}`.trimEnd());
    const indent = (by: string, text: string) => text.replaceAll('\n', `\n${by}`);
    const forms: ((inner: string, word: string) => string)[] = [
      (inner) => `\`\`\`\n${inner}\n\`\`\``,
      (inner, some) => `~~~~text\n${some}\n${inner}\n~~~~`,
      (inner) => `- \`\`\`\n  ${indent('  ', inner)}\n  \`\`\``,
      (inner) => `1. \`\`\`\n   ${indent('   ', inner)}\n   \`\`\``,
      (inner, some) => `>>>\n${some}\n\n${inner}\n>>>`,
      (inner) => `> ${indent('> ', inner)}`,
      (inner, some) => `> ${some}\n${inner}`,
      (inner) => `<pre>\n${inner}\n</pre>`,
      (inner) => `<code>\n${inner}\n</code>`,
      (inner, some) => `${some} <pre>\n\n${inner}\n\n</pre>`,
      (inner) => `<blockquote>\n\n${inner}\n\n</blockquote>`,
      (inner, some) => `${some} \`${some}\n${inner}\n${some}\``,
      (inner, some) => `${some} \`\`${some}\n${inner}\n${some}\`\``,
      (inner) => `    ${indent('    ', inner)}`,
      (inner) => `<!--\n${inner}\n-->`,
    ];
    const part = fc.tuple(
      fc.constantFrom(...forms),
      word,
      fc.constantFrom('/approve 3f9a2c', 'cdl /approve 3f'),
    );
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 4 }),
        word,
        fc.constantFrom('\n', '\r\n'),
        (parts, said, end) => {
          const hidden = parts.map(([form, some, command]) => form(command, some)).join('\n\n');
          const write = (text: string) => text.replaceAll('\n', end);
          expect(names(write(hidden))).toEqual([]);
          expect(names(write(`${hidden}\n\n/status\n${said}`))).toEqual(['status']);
          expect(names(write(`${said}\n/status\n\n${hidden}\n\n/help`))).toEqual(['status', 'help']);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('reads a megabyte of nested quotes, lists and brackets to an end', () => {
    for (const one of [
      '> ',
      '- ',
      '1. ',
      '>',
      '<',
      '<a b=',
      '<!--',
      '[',
      '`',
      '~~~\n',
      '>>>\n',
      '- a\n',
      '> - ',
      '\\',
    ]) {
      const hostile = one.repeat(1_000_000 / one.length);
      expect(names(`/status\n\n${hostile}`), one).toEqual(['status']);
      expect(names(`/status\n\n${hostile.slice(0, 500).replaceAll('> ', '>\t')}\n${hostile}`), one).toEqual([
        'status',
      ]);
    }
    const steps = Array.from({ length: 400 }, (_, depth) => `${' '.repeat(2 * depth)}- a`).join('\n');
    expect(names(`/status\n\n${steps}`)).toEqual(['status']);
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
