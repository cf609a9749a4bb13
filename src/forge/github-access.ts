import { createPrivateKey } from 'node:crypto';
import { z } from 'zod';
import { askOnce, type Said } from './ask.ts';
import { appToken, type GithubAuth } from './github-client.ts';
import type { Network } from './network.ts';

const permissions = z.record(z.string(), z.string());
const appSchema = z.object({ slug: z.string(), permissions, events: z.array(z.string()) });
const installationSchema = z.object({
  permissions,
  repository_selection: z.string(),
  suspended_at: z.string().nullish(),
});
const userSchema = z.object({ id: z.int(), login: z.string() });
const repositorySchema = z.object({
  default_branch: z.string(),
  permissions: z.object({ admin: z.boolean(), push: z.boolean() }).optional(),
});
const branchSchema = z.object({ protected: z.boolean() });

/** What an account's token may do in a repository; a part is null when GitHub did not tell it. */
export interface AccountAccess {
  status: { user: number; repository: number };
  user: { id: number; login: string } | null;
  /** Of a classic token; null for a fine-grained one. */
  scopes: string[] | null;
  push: boolean | null;
  admin: boolean | null;
}

/** What an app may do in a repository. */
export interface AppAccess {
  status: { app: number; installation: number };
  slug: string | null;
  events: string[];
  /** As registered, and as accepted where it is installed. */
  wanted: Record<string, string>;
  granted: Record<string, string>;
  selection: string | null;
  suspended: boolean;
}

/** A repository on GitHub, as the bot and the evaluating account see it. */
export interface GithubAccess {
  reached: { status: number; isApi: boolean };
  ahead: number | null;
  defaultBranch: string | null;
  protected: boolean | null;
  app: AppAccess | null;
  bot: AccountAccess | null;
  evaluator: AccountAccess | null;
}

const ofSchema = <T>(schema: z.ZodType<T>, said: Said): T | null => {
  const parsed = schema.safeParse(said.status === 200 ? said.json : null);
  return parsed.success ? parsed.data : null;
};

/** Reads what an app or account may do in a repository. Throws UpstreamError when GitHub does not answer. */
export async function readGithubAccess(options: {
  url: string;
  project: string;
  auth: GithubAuth;
  evaluationToken: string | null;
  network: Network;
}): Promise<GithubAccess> {
  const base = options.url.replace(/\/+$/, '');
  const repository = `repos/${options.project}`;
  const ask = (token: string, path: string) =>
    askOnce(
      new URL(`${base}/${path}`),
      { authorization: `Bearer ${token}`, 'x-github-api-version': '2022-11-28' },
      options.network,
    );
  let defaultBranch: string | null = null;
  let isProtected: boolean | null = null;
  let first: Said | null = null;

  async function readAccount(token: string): Promise<AccountAccess> {
    const [userSaid, found] = await Promise.all([ask(token, 'user'), ask(token, repository)]);
    first ??= userSaid;
    const repo = ofSchema(repositorySchema, found);
    if (repo) {
      defaultBranch ??= repo.default_branch;
      const name = encodeURIComponent(repo.default_branch);
      isProtected ??=
        ofSchema(branchSchema, await ask(token, `${repository}/branches/${name}`))?.protected ?? null;
    }
    const scopes = userSaid.headers['x-oauth-scopes'];
    return {
      status: { user: userSaid.status, repository: found.status },
      user: ofSchema(userSchema, userSaid),
      scopes: scopes === undefined ? null : scopes.split(/,\s*/).filter(Boolean),
      push: repo?.permissions?.push ?? null,
      admin: repo?.permissions?.admin ?? null,
    };
  }

  async function readApp(appId: string, privateKey: string): Promise<AppAccess> {
    const token = appToken(appId, createPrivateKey(privateKey), Date.now());
    const [appSaid, found] = await Promise.all([ask(token, 'app'), ask(token, `${repository}/installation`)]);
    first ??= appSaid;
    const app = ofSchema(appSchema, appSaid);
    const installation = ofSchema(installationSchema, found);
    return {
      status: { app: appSaid.status, installation: found.status },
      slug: app?.slug ?? null,
      events: app?.events ?? [],
      wanted: app?.permissions ?? {},
      granted: installation?.permissions ?? {},
      selection: installation?.repository_selection ?? null,
      suspended: Boolean(installation?.suspended_at),
    };
  }

  const { auth } = options;
  const app = auth.kind === 'app' ? await readApp(auth.appId, auth.privateKey) : null;
  const bot = auth.kind === 'token' ? await readAccount(auth.token) : null;
  const evaluator = options.evaluationToken === null ? null : await readAccount(options.evaluationToken);
  const said = first as Said | null;
  return {
    reached: { status: said?.status ?? 0, isApi: said?.json !== null },
    ahead: said?.ahead ?? null,
    defaultBranch,
    protected: isProtected,
    app,
    bot,
    evaluator,
  };
}
