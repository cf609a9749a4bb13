import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRedactor, environmentSecrets, isSecretName, urlPasswords } from '../../src/core/redact.ts';

const secret = 'p@ss/w"rd<1>&\'(x)+=é!';

describe('a redactor', () => {
  const redact = createRedactor([secret, undefined, '']);
  const rfc3986 = encodeURIComponent(secret).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  it.each([
    ['as it is', secret],
    ['URL-encoded', encodeURIComponent(secret)],
    ['URL-encoded as RFC 3986 wants it', rfc3986],
    ['URL-encoded in lower case', rfc3986.replace(/%../g, (code) => code.toLowerCase())],
    ['form-encoded', new URLSearchParams({ a: secret }).toString().slice(2)],
    ['JSON-escaped', JSON.stringify(secret).slice(1, -1)],
    [
      'JSON-escaped as Ruby does',
      JSON.stringify(secret)
        .slice(1, -1)
        .replace('<', '\\u003c')
        .replace('>', '\\u003e')
        .replace('&', '\\u0026'),
    ],
    ['JSON-escaped as PHP does', JSON.stringify(secret).slice(1, -1).replace('/', '\\/')],
    ['JSON-escaped as Python does', JSON.stringify(secret).slice(1, -1).replace('é', '\\u00e9')],
    ['JSON-escaped twice', JSON.stringify(JSON.stringify(secret).slice(1, -1)).slice(1, -1)],
    ['URL-encoded twice', encodeURIComponent(encodeURIComponent(secret))],
    ['in HTML', 'p@ss/w&quot;rd&lt;1&gt;&amp;&#39;(x)+=é!'],
    ['in HTML with numbers', 'p@ss/w&#34;rd&lt;1&gt;&amp;&#x27;(x)+=é!'],
    ['hexadecimal', Buffer.from(secret).toString('hex')],
    ['base64', Buffer.from(secret).toString('base64')],
    ['base64url', Buffer.from(secret).toString('base64url')],
  ])('masks a secret %s', (_form, text) => {
    expect(redact(`before ${text} after`)).toBe('before [MASKED] after');
  });

  it('masks a secret in basic credentials, whatever the user is called', () => {
    const token = 'glpat-0123456789abcdef';
    const hide = createRedactor([token]);
    for (const user of ['', 'a', 'ab', 'oauth2', 'gitlab-ci-token']) {
      const header = Buffer.from(`${user}:${token}`).toString('base64');
      const left = hide(`Authorization: Basic ${header}`);
      expect(left).toContain('[MASKED]');
      const shown = Buffer.from(left.replace(/.*Basic /, '').replace('[MASKED]', '')).toString();
      expect(Buffer.from(shown, 'base64').toString('latin1')).not.toMatch(/0123|9abc/);
    }
  });

  it('leaves no tail of secrets that contain or overlap one another', () => {
    const hide = createRedactor(['abcdefgh', 'abcdefghijkl', 'ijklmnopq']);
    expect(hide('<abcdefghijkl>')).toBe('<[MASKED]>');
    expect(hide('<abcdefghijklmnopq>')).toBe('<[MASKED]>');
    expect(hide('<abcdefgh> <ijklmnopq>')).toBe('<[MASKED]> <[MASKED]>');
    expect(createRedactor(['aaaaaaaa'])('<aaaaaaaaaaa>')).toBe('<[MASKED]>');
  });

  it('masks the lines of a key that is printed line by line', () => {
    const line = 'MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF';
    const hide = createRedactor([`-----BEGIN PRIVATE KEY-----\n${line}\n-----END PRIVATE KEY-----\n`]);
    expect(hide(`  | ${line}`)).toBe('  | [MASKED]');
    expect(hide(encodeURIComponent(line))).toBe('[MASKED]');
    expect(hide(Buffer.from(line).toString('base64'))).toBe('[MASKED]');
  });

  it('leaves short words alone', () => {
    expect(createRedactor(['main', 'true123'])('main true123')).toBe('main true123');
  });

  it.each([
    ['postgres://cdl:hunter2@db:5432/x', 'postgres://cdl:[MASKED]@db:5432/x'],
    ['https://oauth2:abc@git.example/x.git', 'https://oauth2:[MASKED]@git.example/x.git'],
    ['redis://:pw@host', 'redis://:[MASKED]@host'],
    ['amqp://u:a@b@host/', 'amqp://u:[MASKED]@host/'],
    ['s3+https://a:b@one/ s3+https://c:d@two/', 's3+https://a:[MASKED]@one/ s3+https://c:[MASKED]@two/'],
    ['https://host:8080/a@b', 'https://host:8080/a@b'],
    ['ssh://git@host:22/x', 'ssh://git@host:22/x'],
    ['{"a":"http://h:80","b":"x@y"}', '{"a":"http://h:80","b":"x@y"}'],
  ])('masks the password in %s', (text, expected) => {
    expect(createRedactor([])(text)).toBe(expected);
  });

  it('never lets a secret through, wherever it stands', () => {
    const word = fc.string({ minLength: 8, maxLength: 12, unit: fc.constantFrom('a', 'b', 'c') });
    fc.assert(
      fc.property(
        fc.array(word, { minLength: 1, maxLength: 4 }),
        fc.string({ unit: fc.constantFrom('a', 'b', 'c') }),
        (secrets, text) => {
          const out = createRedactor(secrets)(`${text}${secrets.join('')}${text}`);
          for (const one of secrets) expect(out).not.toContain(one);
          expect(createRedactor(secrets)(out)).toBe(out);
        },
      ),
    );
  });
});

describe('the secrets of an environment', () => {
  it('are what secret names hold, each of several in one value, and the passwords of URLs, encoded or not', () => {
    const found = environmentSecrets({
      CDL_SIGNING_TOKEN: 'whsec_aaaaaaaaaaaaaaaa whsec_bbbbbbbbbbbbbbbb',
      CDL_DATABASE: 'postgres://cdl:p%40ss%2Fword@db:5432/x',
      HTTPS_PROXY: 'http://user:pr0xy-pass@proxy:3128',
      CDL_STORE: 'file:///work',
      PATH: '/bin',
      EMPTY: undefined,
    });
    expect(found).toEqual([
      'whsec_aaaaaaaaaaaaaaaa whsec_bbbbbbbbbbbbbbbb',
      'whsec_aaaaaaaaaaaaaaaa',
      'whsec_bbbbbbbbbbbbbbbb',
      'aaaaaaaaaaaaaaaa',
      'bbbbbbbbbbbbbbbb',
      'p%40ss%2Fword',
      'p@ss/word',
      'pr0xy-pass',
      'pr0xy-pass',
    ]);
    const hide = createRedactor(found);
    expect(hide('Proxy-Authorization: Basic dXNlcjpwcjB4eS1wYXNz, p@ss/word')).toBe(
      'Proxy-Authorization: Basic dXNlcjp[MASKED], [MASKED]',
    );
  });

  it.each([null, undefined, '', 'http://host', 'ssh://git@host:22/x', 'user:password@host'])(
    'hold no password in %s',
    (text) => expect(urlPasswords(text)).toEqual([]),
  );

  it('take a password that is no URL-encoding as it stands', () => {
    expect(urlPasswords('http://u:100%@h')).toEqual(['100%']);
  });
});

describe('the name of a secret', () => {
  it.each(['GITLAB_TOKEN', 'CDL_SIGNING_KEY', 'AWS_SECRET_ACCESS_KEY', 'MINIO_ROOT_PASSWORD'])(
    'is %s',
    (name) => expect(isSecretName(name)).toBe(true),
  );
  it.each(['PATH', 'CI_COMMIT_SHA', 'CDL_STORE'])('is not %s', (name) =>
    expect(isSecretName(name)).toBe(false),
  );
});
