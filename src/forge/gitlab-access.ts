import { z } from 'zod';
import { askOnce, type Said } from './ask.ts';
import type { Network } from './network.ts';

const userSchema = z.object({
  id: z.int(),
  username: z.string(),
  bot: z.boolean().optional(),
  is_admin: z.boolean().optional(),
});
const tokenSchema = z.object({ scopes: z.array(z.string()), expires_at: z.string().nullish() });
const roleSchema = z.object({ access_level: z.int() });
const levelsSchema = z.array(z.object({ access_level: z.int().nullable() }));
const ruleSchema = z.object({ push_access_levels: levelsSchema, merge_access_levels: levelsSchema });
const projectSchema = z.object({ default_branch: z.string().nullable() });
const branchSchema = z.object({
  protected: z.boolean(),
  can_push: z.boolean(),
  developers_can_merge: z.boolean(),
});

/** What a token is worth on a GitLab, as GitLab tells it; a part is null when it was not told. */
export interface TokenAccess {
  /** Status of `GET /user`, `GET /projects/:id`. */
  status: { user: number; project: number };
  user: { id: number; username: string; bot: boolean; admin: boolean } | null;
  scopes: string[] | null;
  /** Day on which it ends. */
  expires: string | null;
  /** Access level in the project (30 developer, 40 maintainer). */
  level: number | null;
  /** May push to the default branch. */
  push: boolean | null;
  /** May start pipelines on the default branch: who may merge or push there (doc: ci/pipelines, protected branches). */
  start: boolean | null;
}

/** A project on GitLab, as two tokens see it. */
export interface GitlabAccess {
  version: { status: number; version: string | null; location: string | null };
  /** Seconds that GitLab's clock is ahead; null: it does not say. */
  ahead: number | null;
  defaultBranch: string | null;
  protected: boolean | null;
  bot: TokenAccess;
  evaluator: TokenAccess | null;
}

const ofSchema = <T>(schema: z.ZodType<T>, said: Said): T | null => {
  const parsed = schema.safeParse(said.status === 200 ? said.json : null);
  return parsed.success ? parsed.data : null;
};

/** Reads what two tokens may do in a project. Throws UpstreamError when GitLab does not answer. */
export async function readGitlabAccess(options: {
  url: string;
  project: string;
  token: string;
  evaluationToken: string | null;
  network: Network;
}): Promise<GitlabAccess> {
  const base = `${options.url.replace(/\/+$/, '')}/api/v4/`;
  const path = `projects/${encodeURIComponent(options.project)}`;
  const ask = (token: string, what: string) =>
    askOnce(new URL(`${base}${what}`), { 'private-token': token }, options.network);

  const version = await ask(options.token, 'version');
  let defaultBranch: string | null = null;
  let isProtected: boolean | null = null;

  async function readToken(token: string): Promise<TokenAccess> {
    const [userSaid, selfSaid, projectSaid] = await Promise.all([
      ask(token, 'user'),
      ask(token, 'personal_access_tokens/self'),
      ask(token, path),
    ]);
    const user = ofSchema(userSchema, userSaid);
    const self = ofSchema(tokenSchema, selfSaid);
    const project = ofSchema(projectSchema, projectSaid);
    defaultBranch ??= project?.default_branch ?? null;
    const access: TokenAccess = {
      status: { user: userSaid.status, project: projectSaid.status },
      user: user && {
        id: user.id,
        username: user.username,
        bot: user.bot ?? false,
        admin: user.is_admin ?? false,
      },
      scopes: self?.scopes ?? null,
      expires: self?.expires_at ?? null,
      level: null,
      push: null,
      start: null,
    };
    if (!user || !project?.default_branch) return access;
    const name = encodeURIComponent(project.default_branch);
    const [roleSaid, branchSaid, ruleSaid] = await Promise.all([
      ask(token, `${path}/members/all/${user.id}`),
      ask(token, `${path}/repository/branches/${name}`),
      ask(token, `${path}/protected_branches/${name}`),
    ]);
    const level = ofSchema(roleSchema, roleSaid)?.access_level ?? null;
    const branch = ofSchema(branchSchema, branchSaid);
    if (branch) isProtected = branch.protected;
    const rule = ofSchema(ruleSchema, ruleSaid);
    // Rules for single users and groups have no level; who they name is only shown by what the branch says of the caller.
    const merge = rule
      ? rule.merge_access_levels.some(
          (one) => one.access_level && level !== null && level >= one.access_level,
        )
      : (level ?? 0) >= (branch?.developers_can_merge ? 30 : 40);
    const push = branch?.can_push ?? null;
    const start = branch === null ? null : !branch.protected ? (level ?? 0) >= 30 : merge || branch.can_push;
    return { ...access, level, push, start };
  }

  const bot = await readToken(options.token);
  const evaluator = options.evaluationToken === null ? null : await readToken(options.evaluationToken);
  const named = z.object({ version: z.string() }).safeParse(version.json);
  return {
    version: {
      status: version.status,
      version: named.success ? named.data.version : null,
      location: version.headers.location ?? null,
    },
    ahead: version.ahead,
    defaultBranch,
    protected: isProtected,
    bot,
    evaluator,
  };
}
