import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Artifact,
  artifactDigest,
  artifactKinds,
  decodeArtifact,
  encodeArtifact,
  isInsidePath,
} from '../../src/core/artifact.ts';
import { canonicalJson, digestBytes, digestJson, isDigest, shortDigest } from '../../src/core/digest.ts';

describe('canonical JSON', () => {
  it('gives the example of RFC 8785, section 3.2.2', () => {
    const value = {
      numbers: JSON.parse('[333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001]'),
      string: '\u20ac$\u000F\u000aA\'\u0042\u0022\u005c\\"/',
      literals: [null, true, false],
    };
    expect(canonicalJson(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  it('sorts keys by UTF-16 code units, as RFC 8785 section 3.2.3 shows', () => {
    const value = {
      '\u20ac': 'Euro Sign',
      '\r': 'Carriage Return',
      '\ufb33': 'Hebrew Letter Dalet With Dagesh',
      '1': 'One',
      '\ud83d\ude00': 'Emoji: Grinning Face',
      '\u0080': 'Control',
      '\u00f6': 'Latin Small Letter O With Diaeresis',
    };
    const order = Object.values(JSON.parse(canonicalJson(value)) as Record<string, string>);
    const inText = [...canonicalJson(value).matchAll(/:"([^"]+)"/g)].map((match) => match[1]);
    expect(inText).toEqual([
      'Carriage Return',
      'One',
      'Control',
      'Latin Small Letter O With Diaeresis',
      'Euro Sign',
      'Emoji: Grinning Face',
      'Hebrew Letter Dalet With Dagesh',
    ]);
    expect(order).toHaveLength(7);
  });

  it.each([
    [-0, '0'],
    [5e-324, '5e-324'],
    [1.7976931348623157e308, '1.7976931348623157e+308'],
    [9007199254740992, '9007199254740992'],
    [295147905179352830000, '295147905179352830000'],
    [999999999999999900000, '999999999999999900000'],
    [1e21, '1e+21'],
    [9.999999999999997e-7, '9.999999999999997e-7'],
    [0.000001, '0.000001'],
    [333333333.3333332, '333333333.3333332'],
  ])('writes the number %s as RFC 8785 appendix B does', (value, text) => {
    expect(canonicalJson(value)).toBe(text);
  });

  it('keeps unicode as it is, without normalizing it', () => {
    expect(canonicalJson('e\u0301')).not.toBe(canonicalJson('\u00e9'));
  });

  it('refuses what JSON cannot hold', () => {
    for (const value of [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '\ud800',
      10n,
      undefined,
      Symbol('x'),
      () => 1,
    ]) {
      expect(() => canonicalJson(value)).toThrow();
    }
  });

  it('does not depend on the order in which keys were set', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const turned = Object.fromEntries(Object.entries(value).reverse());
        expect(digestJson(turned)).toBe(digestJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

describe('a digest', () => {
  it('is sha256 (FIPS 180-2, appendix B.1: abc)', () => {
    expect(digestBytes('abc')).toBe(
      'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    expect(shortDigest(digestBytes('abc'), 6)).toBe('ba7816');
  });

  it.each([
    '',
    'sha256:',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
    `sha512:${'a'.repeat(64)}`,
    `sha256:${'a'.repeat(64)}\n`,
    7,
    null,
  ])('is not %j', (value) => expect(isDigest(value)).toBe(false));
});

/** Keys named `__proto__`, at any depth, are no part of a manifest: reading one refuses it. */
const jsonValue = fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)));
const digest = fc.string({ minLength: 1, maxLength: 4 }).map((text) => digestBytes(text));
const artifact: fc.Arbitrary<Artifact> = fc.record({
  kind: fc.constantFrom(...artifactKinds),
  name: fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }),
  files: fc.uniqueArray(
    fc.record({
      path: fc.stringMatching(/^[a-zé]{1,3}(\/[A-Z0-9. -]{1,3}x){0,2}$/),
      digest,
      size: fc.nat(),
    }),
    { selector: (file) => file.path, maxLength: 6 },
  ),
  parents: fc.uniqueArray(digest, { maxLength: 4 }),
  meta: fc.dictionary(
    fc.string().filter((key) => key !== '__proto__'),
    jsonValue.filter((value) => !JSON.stringify(value).includes('"__proto__"')),
    { maxKeys: 4 },
  ),
});

describe('an artifact', () => {
  it('has the same identity in whatever order its files and parents come, and however often a parent is named', () => {
    fc.assert(
      fc.property(artifact, (one) => {
        const turned = {
          ...one,
          files: [...one.files].reverse(),
          parents: [...one.parents, ...one.parents].reverse(),
        };
        expect(artifactDigest(turned)).toBe(artifactDigest(one));
      }),
    );
  });

  it('comes back from its bytes', () => {
    fc.assert(
      fc.property(artifact, (one) => {
        const back = decodeArtifact(encodeArtifact(one), artifactDigest(one));
        expect(encodeArtifact(back)).toBe(encodeArtifact(one));
        expect(new Set(back.files.map((file) => file.path))).toEqual(
          new Set(one.files.map((file) => file.path)),
        );
      }),
    );
  });

  const sample: Artifact = {
    kind: 'dataset',
    name: 'sample',
    files: [
      { path: 'b', digest: digestBytes('b'), size: 1 },
      { path: 'a', digest: digestBytes('a'), size: 1 },
    ],
    parents: [],
    meta: {},
  };

  it('lists no file twice', () => {
    const twice = { ...sample, files: [...sample.files, { path: 'a', digest: digestBytes('c'), size: 1 }] };
    expect(() => artifactDigest(twice)).toThrow(/lists the file a twice/);
  });

  it('is not decoded from other bytes than its digest names', () => {
    const text = encodeArtifact(sample);
    const wrong = digestBytes('wrong');
    expect(() => decodeArtifact(text, wrong)).toThrow(
      `artifact ${wrong} has the content of ${digestBytes(text)}`,
    );
  });

  it.each([
    ['no JSON', '{'],
    ['another shape', '{"kind":"dataset"}'],
    ['an unknown key', JSON.stringify({ ...sample, extra: 1 })],
    ['a path outside', JSON.stringify({ ...sample, files: [{ ...sample.files[0], path: '../b' }] })],
    ['files out of order', canonicalJson(sample)],
    ['a file twice', canonicalJson({ ...sample, files: [sample.files[1], { ...sample.files[1], size: 2 }] })],
    [
      'keys that would vanish',
      canonicalJson({ ...sample, files: [] }).replace('"meta":{}', '"meta":{"__proto__":1}'),
    ],
  ])('is not decoded from %s, although the digest is right', (_what, text) => {
    expect(() => decodeArtifact(text, digestBytes(text))).toThrow(
      expect.objectContaining({ code: 'artifact-corrupt' }),
    );
  });

  it.each(['', '/a', 'a/', 'a//b', '.', './a', 'a/../b', '..', 'a\\b', 'a\0b'])(
    'has no file at %j',
    (path) => {
      expect(isInsidePath(path)).toBe(false);
    },
  );
  it.each(['a', 'a/b.c', '...', '.a', 'a b/é'])('may have a file at %j', (path) => {
    expect(isInsidePath(path)).toBe(true);
  });
});
