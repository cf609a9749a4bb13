import { createRedactor, environmentSecrets, type Forge, secretParts, urlPasswords } from '../src/index.ts';
import type { BotConfig, Environment, ForgeConfig } from './config.ts';

/** What speaks in public: whatever reaches these is read by everybody who sees the project. */
const speaking: ReadonlySet<string> = new Set<keyof Forge>([
  'ensureComment',
  'ensureReply',
  'ensureChange',
  'ensureIssue',
  'ensureLineThreads',
  'ensureRelease',
  'setStatus',
]);

function forgeSecrets(forge: ForgeConfig): (string | null)[] {
  const shared = [forge.evaluationToken, forge.webhookSecret];
  if (forge.kind === 'gitlab') return [...shared, forge.token, ...secretParts(forge.signingToken)];
  return [...shared, forge.auth.kind === 'app' ? forge.auth.privateKey : forge.auth.token];
}

/**
 * What the bot is lent for an hour and no configuration holds: an app's tokens and the JWT it asks for them with (docs.github.com,
 * authenticating as a GitHub App), by their form, and whatever a request says of who sends it.
 */
const lent =
  /\bgh[a-z]_[A-Za-z0-9_.-]{16,}|\beyJ[\w-]{8,4096}\.[\w-]{8,4096}\.[\w-]{8,4096}|\b((?:basic|bearer)(?:\s|%20){1,8})[A-Za-z0-9+/_=.~-]{16,}/gi;

const withLent =
  (mask: (text: string) => string) =>
  (text: string): string =>
    mask(text).replace(lent, (_, scheme = '') => `${scheme}[MASKED]`);

/** A function that masks everything in a text that only the bot may know: tokens, keys, passwords, in any usual encoding. */
export function botRedactor(config: BotConfig): (text: string) => string {
  const { work, trusted } = config.stores;
  const credentials = [work, trusted].flatMap((one) => [
    one.credentials?.accessKey,
    one.credentials?.secretKey,
    one.credentials?.sessionToken,
    ...urlPasswords(one.url),
  ]);
  const urls = [
    config.database,
    config.proxy?.http,
    config.proxy?.https,
    config.forge.url,
    config.traces?.url,
    config.notify?.smtp?.url,
  ];
  const secrets = [
    ...forgeSecrets(config.forge),
    config.signingKey,
    config.statusToken,
    config.bucketToken,
    ...(config.notify?.secrets ?? []).flatMap(secretParts),
    // `Bearer …`: the token by itself as well.
    ...Object.values(config.traces?.headers ?? {}).flatMap((one) => [one, ...one.split(' ')]),
    ...credentials,
    ...urls.flatMap(urlPasswords),
  ];
  return withLent(createRedactor(secrets.map((one) => one ?? undefined)));
}

/** As {@link botRedactor}, while there is no configuration yet. */
export function startRedactor(env: Environment): (text: string) => string {
  return withLent(createRedactor(environmentSecrets(env)));
}

function maskDeep<T>(value: T, mask: (text: string) => string): T {
  if (typeof value === 'string') return mask(value) as T;
  if (Array.isArray(value)) return value.map((one) => maskDeep(one, mask)) as T;
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, maskDeep(one, mask)])) as T;
}

/** Further down than this there is nothing that anybody prints. */
const deepest = 10;

/** Masks what an error says: what a server said may repeat what it was told, and goes into logs, dead letters and comments. */
export function maskError(error: unknown, mask: (text: string) => string): void {
  let one = error;
  for (let depth = 0; one instanceof Error && depth < deepest; depth++) {
    one.message = mask(one.message);
    if (one.stack) one.stack = mask(one.stack);
    one = one.cause;
  }
}

/** A port (forge, git mirror) that says no secret: neither in what is written for everybody nor in the errors it throws. */
export function discreet<T extends object>(port: T, mask: (text: string) => string): T {
  return new Proxy(port, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const fail = (error: unknown): never => {
          maskError(error, mask);
          throw error;
        };
        const said = speaking.has(String(name)) ? maskDeep(args, mask) : args;
        try {
          const result: unknown = Reflect.apply(value, target, said);
          return result instanceof Promise ? result.catch(fail) : result;
        } catch (error) {
          return fail(error);
        }
      };
    },
  });
}
