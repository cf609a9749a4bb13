/** Secrets shorter than this are not masked: they would blank out ordinary words. GitLab's own limit for masked variables. */
const shortest = 8;

/** Every form in which a secret tends to reach a log: as is, URL-encoded, base64 with user prefix, JSON-escaped. */
function forms(secret: string): string[] {
  const percent = encodeURIComponent(secret);
  const strict = percent.replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const form = new URLSearchParams({ s: secret }).toString().slice(2);
  const lower = percent.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
  const json = JSON.stringify(secret).slice(1, -1);
  const base64 = Buffer.from(secret).toString('base64');
  return [secret, percent, strict, form, lower, json, base64, base64.replace(/=+$/, '')];
}

/**
 * A function that replaces every given secret (and its URL-encoded, JSON-escaped and base64 forms) by `[MASKED]`,
 * and the password of any URL by the same.
 */
export function createRedactor(secrets: Iterable<string | undefined>): (text: string) => string {
  const all = new Set<string>();
  for (const secret of secrets) {
    if (secret && secret.length >= shortest) for (const form of forms(secret)) all.add(form);
  }
  const longestFirst = [...all].sort((a, b) => b.length - a.length);
  return (text) => {
    let out = text;
    for (const secret of longestFirst) out = out.replaceAll(secret, '[MASKED]');
    return out.replace(/([a-z][a-z0-9+.-]*:\/\/[^\s/:@]*:)[^\s/@]+@/gi, '$1[MASKED]@');
  };
}

/** Names of environment variables whose values are secrets. */
export function isSecretName(name: string): boolean {
  return /(TOKEN|SECRET|PASSWORD|PRIVATE|ACCESS_KEY|SIGNING|CREDENTIAL)/i.test(name);
}
