import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import {
  type ForgeOptions,
  type GithubAuth,
  type ProxySettings,
  parsePublicKeys,
  readProxies,
  type StoreCredentials,
  UserError,
} from '../src/index.ts';
import type { NotifySettings } from './notify.ts';
import type { TraceSettings } from './trace.ts';
import {
  type Environment,
  readVariable,
  type Variable,
  type VariableName,
  variableNamed,
  variables,
} from './variables.ts';

export type { Environment } from './variables.ts';

/** How much is logged, most first. */
export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const;

/** One of {@link logLevels}. */
export type LogLevel = (typeof logLevels)[number];

/** How the bot speaks to its forge, and how the forge's webhooks are known. */
export type ForgeConfig =
  | {
      kind: 'gitlab';
      url: string;
      token: string;
      /** Starts evaluations; of another identity than `token`. */
      evaluationToken: string | null;
      /** For GitLab before 19.0, which does not sign; null refuses what is not signed. */
      webhookSecret: string | null;
      /** `whsec_…`; two, separated by a space, while one is replaced. */
      signingToken: string;
    }
  | {
      kind: 'github';
      /** Base of the REST API. */
      url: string;
      auth: GithubAuth;
      evaluationToken: string | null;
      /** What GitHub signs webhooks with. */
      webhookSecret: string;
      /** File below .github/workflows. */
      workflow: string;
    };

/** What a bot needs. Paths are absolute; times in seconds. */
export interface BotConfig {
  forge: ForgeConfig;
  /** Full paths, `group/project`. */
  projects: string[];
  /** Ed25519 private key, PEM. */
  signingKey: string;
  /** Further public keys whose decisions count. */
  trustedKeys: ReadonlyMap<string, KeyObject>;
  stores: { work: StoreConfig; trusted: StoreConfig };
  /** URL of a PostgreSQL, or null for one of our own below `folder`. */
  database: string | null;
  /** Mirrors of the repositories, and the embedded database. */
  folder: string;
  host: string;
  port: number;
  /** How the forge reaches the bot; `auto` = where it listens; null installs no webhook. */
  publicUrl: string | null;
  reconcileSeconds: number;
  /** How often registry, lock and what is live are compared. */
  driftHours: number;
  /** What opens the status page; null: there is none. */
  statusToken?: string | null;
  /** What notifications of the store's bucket carry; null: none are taken. */
  bucketToken?: string | null;
  /** How receivers of `notify:` are reached; null: not at all. */
  notify?: NotifySettings | null;
  /** Where traces go; null: there are none. */
  traces?: TraceSettings | null;
  /** PATH on which git is. */
  path: string;
  ca: string | null;
  /** On the way to the forge. */
  proxy?: ProxySettings | null;
  log: LogLevel;
}

/** One zone's URL and credentials. */
export interface StoreConfig {
  url: string;
  credentials: StoreCredentials | null;
}

/** How to open one of the projects. */
export function forgeOptions(
  config: Pick<BotConfig, 'forge' | 'ca' | 'proxy'>,
  project: string,
): ForgeOptions {
  const { forge } = config;
  const shared = {
    project,
    url: forge.url,
    evaluationToken: forge.evaluationToken ?? undefined,
    ca: config.ca ?? undefined,
    proxy: config.proxy,
  };
  return forge.kind === 'gitlab'
    ? { kind: 'gitlab', ...shared, token: forge.token }
    : { kind: 'github', ...shared, auth: forge.auth, workflow: forge.workflow };
}

function need(env: Environment, name: VariableName): string {
  const value = readVariable(env, name);
  if (value !== null) return value;
  const { meaning } = variableNamed(name);
  throw new UserError(
    'environment-missing',
    `${name} is not set: ${meaning.replaceAll('`', '')}`,
    'cdl bot --help lists every variable, bot/README.md tells more',
  );
}

/** A URL of http or https. What stands there instead is not repeated: it may hold a password. */
function checkUrl(name: VariableName, url: string): string {
  if (/^https?:\/\//i.test(url) && URL.canParse(url)) return url;
  throw new UserError('config-invalid', `${name} is no URL of http or https`, 'it begins with https://');
}

/** How the forge reaches the bot: a URL, `auto`, or null. Throws UserError config-invalid. */
export function readPublicUrl(env: Environment): string | null {
  const url = readVariable(env, 'CDL_BOT_URL');
  return url === null || url === 'auto' ? url : checkUrl('CDL_BOT_URL', url);
}

/** A text in PEM, given as it is or as the path of its file. */
async function pemOf(name: VariableName, value: string): Promise<string> {
  if (value.includes('-----BEGIN')) return value;
  return readFile(value, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    // The path may be a secret that somebody put there in place of the PEM.
    const what = `${name} is no PEM, and no file that can be read: ${cause.code}`;
    throw new UserError('config-invalid', what, 'give the PEM itself, or the path of a file with it', {
      cause,
    });
  });
}

/** The configuration of one zone's store. */
function readStore(env: Environment, zone: 'WORK' | 'TRUSTED'): StoreConfig {
  const url = need(env, `CDL_${zone}_STORE`);
  const accessKey = readVariable(env, `CDL_${zone}_ACCESS_KEY`);
  const secretKey = readVariable(env, `CDL_${zone}_SECRET_KEY`);
  if (accessKey === null || secretKey === null) return { url, credentials: null };
  const ca = readVariable(env, 'CDL_STORE_CA');
  return { url, credentials: { accessKey, secretKey, ...(ca !== null && { ca }) } };
}

/** Bytes of a secret (Standard Webhooks, symmetric signatures). */
const [shortestSecret, longestSecret] = [24, 64];

/** Secrets of Standard Webhooks in one variable, with spaces between. Throws UserError config-invalid. */
function checkSecrets(name: VariableName, value: string): string[] {
  const secrets = value.split(/\s+/).filter(Boolean);
  for (const secret of secrets) {
    const bytes = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret)?.[1];
    const length = bytes === undefined ? 0 : Buffer.from(bytes, 'base64').length;
    if (length >= shortestSecret && length <= longestSecret) continue;
    throw new UserError(
      'config-invalid',
      `${name} is not whsec_ and ${shortestSecret} to ${longestSecret} bytes in base64`,
      'echo "whsec_$(openssl rand -base64 32)" makes one',
    );
  }
  return secrets;
}

async function readForge(env: Environment): Promise<ForgeConfig> {
  const kind = need(env, 'CDL_FORGE');
  const evaluationToken = readVariable(env, 'CDL_EVALUATION_TOKEN');
  if (kind === 'gitlab') {
    return {
      kind,
      url: checkUrl('CDL_GITLAB_URL', need(env, 'CDL_GITLAB_URL')),
      token: need(env, 'CDL_BOT_TOKEN'),
      evaluationToken,
      webhookSecret: readVariable(env, 'CDL_WEBHOOK_SECRET'),
      signingToken: checkSecrets('CDL_SIGNING_TOKEN', need(env, 'CDL_SIGNING_TOKEN')).join(' '),
    };
  }
  if (kind !== 'github') {
    throw new UserError('config-invalid', `CDL_FORGE "${kind}" is not one of gitlab, github`);
  }
  const appId = readVariable(env, 'CDL_GITHUB_APP_ID');
  const auth: GithubAuth =
    appId !== null
      ? {
          kind: 'app',
          appId,
          privateKey: await pemOf('CDL_GITHUB_PRIVATE_KEY', need(env, 'CDL_GITHUB_PRIVATE_KEY')),
        }
      : { kind: 'token', token: need(env, 'CDL_BOT_TOKEN') };
  return {
    kind,
    url: checkUrl('CDL_GITHUB_URL', need(env, 'CDL_GITHUB_URL')),
    auth,
    evaluationToken,
    webhookSecret: need(env, 'CDL_WEBHOOK_SECRET'),
    workflow: need(env, 'CDL_GITHUB_WORKFLOW'),
  };
}

/** As much of a bot's configuration as it takes to speak to its forge. Throws UserError environment-missing, config-invalid. */
export async function readForgeConfig(
  env: Environment,
): Promise<Pick<BotConfig, 'forge' | 'projects' | 'ca' | 'proxy'>> {
  const ca = readVariable(env, 'CDL_FORGE_CA');
  return {
    forge: await readForge(env),
    projects: need(env, 'CDL_PROJECT')
      .split(',')
      .map((one) => one.trim())
      .filter(Boolean),
    ca: ca === null ? null : await pemOf('CDL_FORGE_CA', ca),
    proxy: readProxies(env),
  };
}

function readNumber(env: Environment, name: VariableName, most: number): number {
  const text = need(env, name);
  const value = Number(text);
  if (value >= 0 && value <= most) return value;
  throw new UserError('config-invalid', `${name} "${text}" is not a number from 0 to ${most}`);
}

function readPort(env: Environment): number {
  const port = readNumber(env, 'CDL_BOT_PORT', 65_535);
  if (Number.isInteger(port)) return port;
  throw new UserError('config-invalid', `CDL_BOT_PORT "${port}" is not a whole number`);
}

function readLevel(env: Environment): LogLevel {
  const text = need(env, 'CDL_LOG');
  const level = logLevels.find((one) => one === text);
  if (level) return level;
  throw new UserError('config-invalid', `CDL_LOG "${text}" is not one of ${logLevels.join(', ')}`);
}

/** A token shorter than this can be tried out. */
const shortestToken = 16;

function readToken(env: Environment, name: 'CDL_STATUS_TOKEN' | 'CDL_BUCKET_TOKEN'): string | null {
  const token = readVariable(env, name);
  if (token === null || token.length >= shortestToken) return token;
  throw new UserError(
    'config-invalid',
    `${name} has ${token.length} characters; it takes at least ${shortestToken}`,
    'openssl rand -hex 32 makes one',
  );
}

function isMailServer(text: string): boolean {
  try {
    const { protocol, hostname, username, password } = new URL(text);
    decodeURIComponent(username + password);
    return /^smtps?:$/.test(protocol) && hostname !== '';
  } catch {
    return false;
  }
}

/** How receivers of `notify:` are reached. Throws UserError config-invalid. */
export function readNotify(env: Environment): NotifySettings {
  const url = readVariable(env, 'CDL_SMTP_URL');
  const from = readVariable(env, 'CDL_SMTP_FROM');
  const secrets = checkSecrets('CDL_NOTIFY_SECRET', readVariable(env, 'CDL_NOTIFY_SECRET') ?? '');
  const proxy = readProxies(env);
  if (url === null) return { secrets, smtp: null, proxy };
  if (!isMailServer(url)) {
    throw new UserError(
      'config-invalid',
      'CDL_SMTP_URL is not smtp://… or smtps://… (user and password percent-encoded)',
    );
  }
  if (from === null || !/^[^\s@<>,;:"]+@[^\s@<>,;:"]+$/.test(from)) {
    throw new UserError(
      'config-invalid',
      'CDL_SMTP_FROM is no address, and CDL_SMTP_URL needs one to send from',
      'set it to the address that mails of the bot come from',
    );
  }
  return { secrets, smtp: { url, from }, proxy };
}

/** As the OpenTelemetry specification has it (OTLP exporter configuration). */
function readTraces(env: Environment): TraceSettings | null {
  const base = readVariable(env, 'OTEL_EXPORTER_OTLP_ENDPOINT');
  const whole = readVariable(env, 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT');
  const pairs = readVariable(env, 'OTEL_EXPORTER_OTLP_HEADERS')?.split(',') ?? [];
  const service = need(env, 'OTEL_SERVICE_NAME');
  const url = whole ?? (base === null ? null : `${base.replace(/\/+$/, '')}/v1/traces`);
  if (url === null) return null;
  checkUrl(whole === null ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', url);
  const headers: Record<string, string> = {};
  for (const pair of pairs) {
    const [, name, value] = /^\s*([!#$%&'*+.^_`|~\w-]+)\s*=(.*)$/.exec(pair) ?? [];
    try {
      if (name === undefined || value === undefined) throw new URIError();
      headers[name] = decodeURIComponent(value.trim());
    } catch {
      throw new UserError(
        'config-invalid',
        'OTEL_EXPORTER_OTLP_HEADERS is not name=value,… (percent-encoded)',
      );
    }
  }
  return { url, headers, service };
}

/** Names every variable at once that has to be set and is not. Throws UserError environment-missing. */
function needAll(env: Environment): void {
  const kind = need(env, 'CDL_FORGE');
  const all: readonly Variable[] = variables;
  const missing = all
    .filter(
      ({ name, required }) =>
        required.some((one) => one === kind) && readVariable(env, name as VariableName) === null,
    )
    .map(({ name }) => name);
  if (missing.length < 2) return;
  throw new UserError(
    'environment-missing',
    `not set: ${missing.join(', ')}`,
    'cdl bot --help says what they mean, bot/README.md tells more',
  );
}

/** The configuration that an environment describes. Throws UserError environment-missing, config-invalid. */
export async function readBotConfig(env: Environment): Promise<BotConfig> {
  needAll(env);
  const trusted = readVariable(env, 'CDL_TRUSTED_KEYS');
  const pems = trusted === null ? null : await pemOf('CDL_TRUSTED_KEYS', trusted);
  return {
    ...(await readForgeConfig(env)),
    signingKey: await pemOf('CDL_SIGNING_KEY', need(env, 'CDL_SIGNING_KEY')),
    trustedKeys: pems === null ? new Map() : parsePublicKeys(pems, 'CDL_TRUSTED_KEYS'),
    stores: { work: readStore(env, 'WORK'), trusted: readStore(env, 'TRUSTED') },
    database: readVariable(env, 'CDL_DATABASE'),
    folder: need(env, 'CDL_BOT_FOLDER'),
    host: need(env, 'CDL_BOT_HOST'),
    port: readPort(env),
    publicUrl: readPublicUrl(env),
    // Timers take no more than 24 days.
    reconcileSeconds: readNumber(env, 'CDL_RECONCILE_SECONDS', 604_800) || 60,
    driftHours: readNumber(env, 'CDL_DRIFT_HOURS', 8_760) || 24,
    statusToken: readToken(env, 'CDL_STATUS_TOKEN'),
    bucketToken: readToken(env, 'CDL_BUCKET_TOKEN'),
    notify: readNotify(env),
    traces: readTraces(env),
    path: need(env, 'PATH'),
    log: readLevel(env),
  };
}
