import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { type CleanStep, cleanSchema, rulesSchema } from '../../src/core/project-data-rules.ts';
import { cleanItem, type DeclaredStep } from '../../src/data/clean.ts';
import { inspectItem } from '../../src/data/inspect.ts';
import { excerpt } from '../../src/data/mask.ts';
import type { RawItem } from '../../src/data/raw-item.ts';

function item(content: string | Uint8Array, more: Partial<RawItem> = {}): RawItem {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return { id: digestBytes(bytes), bytes, extension: 'txt', label: 0, attributes: {}, ...more };
}

function cleaned(content: string | Uint8Array, step: CleanStep, key: string | null = 'key') {
  const made = cleanItem(item(content), step as DeclaredStep, key);
  return 'reason' in made ? made.reason : Buffer.from(made.item.bytes).toString();
}

describe('cleaning', () => {
  it.each([
    ['normalize', 'e\u0301', 'é'],
    ['strip_control', 'a\u0000b\u0007\tc\u200b\ufeff\n', 'ab\tc\n'],
    ['trim', '  a b \n', 'a b'],
    ['lowercase', 'ÄB', 'äb'],
    ['collapse_spaces', 'a \t b \r\n  c\n\n\n\nd', 'a b\nc\n\nd'],
    [
      'strip_html',
      '<p class="x">5 < 6 &amp; &#163;1</p><script>alert(1)</script><!-- no -->',
      ' 5 < 6 & £1   ',
    ],
    ['strip_html', '<script>never closed', ' '],
  ] as const)('%s turns %j into %j', (step, from, to) => {
    expect(cleaned(from, step)).toBe(to);
  });

  it('recode reads bytes that are no UTF-8 as windows-1252, and leaves UTF-8 alone', () => {
    expect(cleaned(Buffer.from('cost \xa35', 'latin1'), 'recode')).toBe('cost £5');
    expect(cleaned('cost £5', 'recode')).toBe('cost £5');
  });

  it('a text step sets aside what is no text, with the reason', () => {
    expect(cleaned(Buffer.from([0xff, 0x41]), 'trim')).toBe('not UTF-8');
  });

  it('gives the item the id of its new bytes, and the same item when nothing changed', () => {
    const before = item(' a ');
    const made = cleanItem(before, 'trim', null);
    expect(made).toMatchObject({ changed: true, item: { id: digestBytes(Buffer.from('a')) } });
    const same = item('a');
    expect(cleanItem(same, 'trim', null)).toEqual({ item: same, changed: false });
  });

  it('drops, masks and pseudonymises fields of records and attributes of the same name', () => {
    const record = JSON.stringify({ email: 'a@b.c', age: 3, none: null });
    expect(cleaned(record, { drop: ['email', 'missing'] })).toBe('{"age":3,"none":null}');
    expect(cleaned(record, { mask: ['email', 'none'] })).toBe('{"email":"***","age":3,"none":null}');
    const one = JSON.parse(cleaned(record, { pseudonymise: ['email'] })) as { email: string };
    expect(one.email).toMatch(/^[0-9a-f]{20}$/);
    expect(cleaned(record, { pseudonymise: ['email'] }, 'other')).not.toContain(one.email);
    const attributed = cleanItem(
      item('x', { attributes: { email: 'a@b.c', path: 'p' } }),
      { drop: ['email'] },
      null,
    );
    expect(attributed).toMatchObject({ changed: true, item: { attributes: { path: 'p' } } });
    expect('item' in attributed && Object.keys(attributed.item.attributes)).toEqual(['path']);
  });

  test('every declared step but masking does nothing the second time', () => {
    const steps: DeclaredStep[] = [
      'recode',
      'normalize',
      'strip_control',
      'collapse_spaces',
      'trim',
      'lowercase',
    ];
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.constantFrom(...steps), (text, step) => {
        const once = cleanItem(item(Buffer.from(text).toString()), step, null);
        if ('reason' in once) throw new Error(once.reason);
        // Lower case of a few letters has another lower case in Unicode; twice is where it settles.
        const twice = cleanItem(once.item, step, null);
        expect('item' in twice && twice.changed).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it('the schema refuses an unknown step and a custom function that is neither module nor command', () => {
    expect(cleanSchema.safeParse(['trim', { mask: ['a'] }]).success).toBe(true);
    expect(cleanSchema.safeParse(['shine']).success).toBe(false);
    expect(cleanSchema.safeParse([{ run: { code: ['x.ts'] } }]).success).toBe(false);
  });
});

describe('rules for single items', () => {
  const inspect = (content: string | Uint8Array, rules: object, more: Partial<RawItem> = {}) =>
    inspectItem(item(content, more), rulesSchema.parse(rules));

  it('say each broken rule once, without the value', async () => {
    expect(
      await inspect('secret', { bytes: { min: 10 }, characters: { max: 3 }, extensions: ['md'] }),
    ).toEqual(['fewer than 10 bytes', 'not one of .md', 'more than 3 characters']);
    expect(await inspect(Buffer.from([0xc3]), { encoding: 'utf-8' })).toEqual(['not UTF-8']);
    expect(await inspect('a', { labelled: true }, { label: null })).toEqual(['no label']);
    expect(await inspect('😀', { characters: { max: 1 } })).toEqual([]);
  });

  it.each([
    [{}, 'field age: missing'],
    [{ age: '7' }, 'field age: not of type integer'],
    [{ age: 1.5 }, 'field age: not of type integer'],
    [{ age: -1 }, 'field age: below 0'],
    [{ age: 200 }, 'field age: above 150'],
    [{ age: 7, mail: 'nobody' }, 'field mail: does not match its pattern'],
    [{ age: 7, sex: 'x' }, 'field sex: not an allowed value'],
    [{ age: 7, mail: 'a@b', sex: 'f', more: [] }, null],
    [[], 'not a JSON record'],
  ])('of a record %j: %s', async (record, reason) => {
    const fields = {
      age: { type: 'integer', required: true, minimum: 0, maximum: 150 },
      mail: { type: 'string', pattern: '^[^@]+@[^@]+$' },
      sex: { enum: ['f', 'm'] },
    };
    expect(await inspect(JSON.stringify(record), { fields })).toEqual(reason === null ? [] : [reason]);
  });

  it('a picture must decode to its last pixel, whatever its name says', async () => {
    const { default: sharp } = await import('sharp');
    const noise = Buffer.from(Array.from({ length: 64 * 64 * 3 }, (_, at) => (at * 7919) % 251));
    const raw = sharp(noise, { raw: { width: 64, height: 64, channels: 3 } });
    for (const format of ['png', 'jpeg', 'gif', 'webp'] as const) {
      const bytes = await raw.clone().toFormat(format).toBuffer();
      expect(await inspect(bytes, { image: {} })).toEqual([]);
      expect(await inspect(bytes, { image: { width: { max: 63 } } })).toEqual(['width above 63 pixels']);
      const cut = bytes.subarray(0, Math.floor(bytes.length * 0.6));
      expect(await inspect(cut, { image: {} }), format).toEqual(['does not decode as a picture']);
    }
    expect(
      await inspect('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', { image: {} }),
    ).toEqual(['a picture, but not png, jpeg, gif, webp']);
    expect(await inspect('no picture', { image: {} })).toEqual(['does not decode as a picture']);
  });
});

describe('what people may see of an item', () => {
  const record = item(JSON.stringify({ name: 'Ada', text: 'long '.repeat(50) }));
  it('is short, and without sensitive fields', () => {
    expect(excerpt(item('a\n\n b'), undefined, 10)).toBe('a b');
    expect(excerpt(record, ['name'], 30)).toBe('{"name":"***","text":"long lon…');
    expect(excerpt(record, true, 30)).toBeNull();
    expect(excerpt(item('Ada says'), ['name'], 30)).toBeNull();
  });
});
