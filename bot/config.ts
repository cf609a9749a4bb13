import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import {
  type ForgeOptions,
  type GithubAuth,
  keyId,
  type ProxySettings,
  readProxies,
  type StoreCredentials,
  UserError,
} from '../src/index.ts';

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
  /** PATH on which git is. */
  path: string;
  ca: string | null;
  /** On the way to the forge. */
  proxy?: ProxySettings | null;
  log: 'silent' | 'info' | 'debug';
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

/** The process environment. */
export type Environment = Readonly<Record<string, string | undefined>>;

function need(env: Environment, name: string, what: string): string {
  const value = env[name];
  if (value) return value;
  throw new UserError('environment-missing', `${name} is not set: ${what}`, 'see bot/README.md');
}

async function textOrFile(value: string): Promise<string> {
  return value.includes('-----BEGIN') ? value : readFile(value, 'utf8');
}

function credentialsOf(env: Environment, prefix: string): StoreCredentials | null {
  const accessKey = env[`${prefix}_ACCESS_KEY`];
  const secretKey = env[`${prefix}_SECRET_KEY`];
  if (!accessKey || !secretKey) return null;
  const ca = env.CDL_STORE_CA;
  return { accessKey, secretKey, ...(ca ? { ca } : {}) };
}

async function readForge(env: Environment): Promise<ForgeConfig> {
  const kind = env.CDL_FORGE || 'gitlab';
  const evaluationToken = env.CDL_EVALUATION_TOKEN || null;
  if (kind === 'gitlab') {
    return {
      kind,
      url: need(env, 'CDL_GITLAB_URL', 'where GitLab is'),
      token: need(env, 'CDL_BOT_TOKEN', 'a project access token with the scope api'),
      evaluationToken,
      webhookSecret: env.CDL_WEBHOOK_SECRET || null,
      signingToken: need(env, 'CDL_SIGNING_TOKEN', 'whsec_… that GitLab signs webhooks with'),
    };
  }
  if (kind !== 'github') {
    throw new UserError('config-invalid', `CDL_FORGE "${kind}" is not one of gitlab, github`);
  }
  const appId = env.CDL_GITHUB_APP_ID;
  const auth: GithubAuth = appId
    ? {
        kind: 'app',
        appId,
        privateKey: await textOrFile(
          need(env, 'CDL_GITHUB_PRIVATE_KEY', 'private key of the GitHub App, PEM or a path'),
        ),
      }
    : { kind: 'token', token: need(env, 'CDL_BOT_TOKEN', 'a token, unless CDL_GITHUB_APP_ID is set') };
  return {
    kind,
    url: env.CDL_GITHUB_URL || 'https://api.github.com',
    auth,
    evaluationToken,
    webhookSecret: need(env, 'CDL_WEBHOOK_SECRET', 'the secret that GitHub signs webhooks with'),
    workflow: env.CDL_GITHUB_WORKFLOW || 'cdl.yml',
  };
}

/** As much of a bot's configuration as it takes to speak to its forge. Throws UserError environment-missing, config-invalid. */
export async function readForgeConfig(
  env: Environment,
): Promise<Pick<BotConfig, 'forge' | 'projects' | 'ca' | 'proxy'>> {
  return {
    forge: await readForge(env),
    projects: need(env, 'CDL_PROJECT', 'full path of the project (several: separated by commas)')
      .split(',')
      .map((one) => one.trim())
      .filter(Boolean),
    ca: env.CDL_FORGE_CA ? await textOrFile(env.CDL_FORGE_CA) : null,
    proxy: readProxies(env),
  };
}

/** The configuration that an environment describes. Throws UserError environment-missing, config-invalid. */
export async function readBotConfig(env: Environment): Promise<BotConfig> {
  const number = (name: string, standard: number): number => {
    const value = Number(env[name] ?? standard);
    if (Number.isFinite(value) && value >= 0) return value;
    throw new UserError('config-invalid', `${name} "${env[name]}" is not a number`);
  };
  const pems = env.CDL_TRUSTED_KEYS ? await textOrFile(env.CDL_TRUSTED_KEYS) : '';
  const trustedKeys = new Map(
    (pems.match(/-----BEGIN PUBLIC KEY-----[\s\S]+?-----END PUBLIC KEY-----/g) ?? []).map((pem) => {
      const key = createPublicKey(pem);
      return [keyId(key), key] as const;
    }),
  );
  const store = (zone: 'WORK' | 'TRUSTED', what: string): StoreConfig => ({
    url: need(env, `CDL_${zone}_STORE`, what),
    credentials: credentialsOf(env, `CDL_${zone}`),
  });
  const stores = {
    work: store('WORK', 'URL of the zone that change pipelines write'),
    trusted: store('TRUSTED', 'URL of the zone that only protected jobs and the bot write'),
  };
  return {
    ...(await readForgeConfig(env)),
    signingKey: await textOrFile(need(env, 'CDL_SIGNING_KEY', 'Ed25519 private key, PEM or a path')),
    trustedKeys,
    stores,
    database: env.CDL_DATABASE || null,
    folder: need(env, 'CDL_BOT_FOLDER', 'a folder for mirrors and the embedded database'),
    host: env.CDL_BOT_HOST || '127.0.0.1',
    port: number('CDL_BOT_PORT', 8080),
    publicUrl: env.CDL_BOT_URL || null,
    reconcileSeconds: number('CDL_RECONCILE_SECONDS', 60) || 60,
    driftHours: number('CDL_DRIFT_HOURS', 24) || 24,
    path: env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    log: env.CDL_LOG === 'silent' || env.CDL_LOG === 'debug' ? env.CDL_LOG : 'info',
  };
}
