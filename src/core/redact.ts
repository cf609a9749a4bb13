/** Secrets shorter than this are not masked: they would blank out ordinary words. GitLab's own limit for masked variables. */
const shortest = 8;

/** The part of a base64 text that a secret alone decides, wherever it stands in the encoded bytes (`user:secret`). */
function base64Cores(secret: Buffer): string[] {
  return [0, 1, 2].map((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), secret]).toString('base64');
    return text.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + secret.length) * 8) / 6));
  });
}

/** A secret, and each line of one that is a key in PEM: that is how a log shows it. */
function linesOf(secret: string): string[] {
  const lines = secret.split(/\r?\n/);
  return lines.length === 1 ? lines : [secret, ...lines.filter((line) => line.length >= 2 * shortest)];
}

/** Names that HTML has for characters; libraries differ in those of quotes. */
const entities: readonly Record<string, string>[] = [
  { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' },
  { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&#34;', "'": '&#x27;' },
];

const escaped = (code: string): string => `\\u${code.charCodeAt(0).toString(16).padStart(4, '0')}`;

/**
 * Every form in which a secret tends to reach a log: as is, URL-encoded (RFC 3986 and forms, either case, twice),
 * JSON-escaped (as JavaScript, Ruby, PHP and Python do it, and JSON within JSON), in HTML, hexadecimal, base64 and base64url at
 * any offset.
 */
function forms(secret: string): string[] {
  const percent = encodeURIComponent(secret);
  const strict = percent.replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const form = new URLSearchParams({ s: secret }).toString().slice(2);
  const lower = [percent, strict, form].map((text) =>
    text.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
  );
  const json = JSON.stringify(secret).slice(1, -1);
  const bytes = Buffer.from(secret);
  const base64 = [bytes.toString('base64'), ...base64Cores(bytes)];
  const base64url = base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, ''));
  const hex = bytes.toString('hex');
  return [
    secret,
    percent,
    strict,
    form,
    encodeURIComponent(percent),
    ...lower,
    json,
    json.replace(/[<>&]/g, escaped),
    json.replaceAll('/', '\\/'),
    json.replace(/[^ -~]/g, escaped),
    JSON.stringify(json).slice(1, -1),
    ...entities.map((names) => secret.replace(/[&<>"']/g, (c) => names[c]!)),
    hex,
    hex.toUpperCase(),
    ...base64,
    ...base64url,
  ];
}

/** Replaces every stretch of `text` that some word covers; overlapping words are masked as one, so that no tail remains. */
function mask(text: string, words: ReadonlySet<string>): string {
  const spans: [start: number, end: number][] = [];
  for (const word of words) {
    for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1))
      spans.push([at, at + word.length]);
  }
  spans.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  let out = '';
  let done = 0;
  for (const [start, end] of spans) {
    if (start >= done) out += `${text.slice(done, start)}[MASKED]`;
    done = Math.max(done, end);
  }
  return out + text.slice(done);
}

/**
 * A function that replaces every given secret (and its URL-encoded, JSON-escaped and base64 forms) by `[MASKED]`,
 * and the password of any URL by the same.
 */
export function createRedactor(secrets: Iterable<string | undefined>): (text: string) => string {
  const words = new Set<string>();
  for (const secret of secrets) {
    if (!secret || secret.length < shortest) continue;
    for (const line of linesOf(secret)) for (const form of forms(line)) words.add(form);
  }
  return (text) =>
    mask(text, words).replace(/([a-z][a-z0-9+.-]{0,30}:\/\/[^\s/:@]{0,255}:)[^\s/?#"<>]+@/gi, '$1[MASKED]@');
}

/** Names of environment variables whose values are secrets. */
export function isSecretName(name: string): boolean {
  return /(TOKEN|SECRET|PASSWORD|PRIVATE|ACCESS_KEY|SIGNING|CREDENTIAL)/i.test(name);
}

/** The passwords in a URL's authority, as they stand there and decoded; none where there is no such URL. */
export function urlPasswords(text: string | null | undefined): string[] {
  const raw = /^[a-z][a-z0-9+.-]{0,30}:\/\/[^\s/:@]{0,255}:([^\s/?#"<>]+)@/i.exec(text ?? '')?.[1];
  if (raw === undefined) return [];
  try {
    return [raw, decodeURIComponent(raw)];
  } catch {
    // A per cent sign that begins no code: it is the password as it is.
    return [raw];
  }
}

/** Every secret of an environment: what variables with a secret's name hold, and the passwords of URLs in any of them (proxies, databases). */
export function environmentSecrets(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(env).flatMap(([name, value = '']) => [
    ...(isSecretName(name) ? secretParts(value) : []),
    ...urlPasswords(value),
  ]);
}

/**
 * A secret, and each of several that stand in one text with spaces between (two signing tokens while one is replaced), with
 * and without what only says which kind it is.
 */
export function secretParts(value: string): string[] {
  const whole = value.trim();
  if (whole.includes('\n')) return [value];
  const parts = whole.split(/\s+/);
  const bare = parts.map((part) => part.replace(/^whsec_/, ''));
  const long = [...parts, ...bare].filter((part) => part.length >= 2 * shortest);
  return [...new Set([whole, ...long])];
}
