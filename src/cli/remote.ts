import { readFile } from 'node:fs/promises';
import { UserError } from '../core/error.ts';
import { run } from '../exec/run.ts';
import { type Forge, openForge, readProxies } from '../forge/index.ts';
import type { CommandInput } from './types.ts';

/** Branches that `cdl run --remote` makes and removes. */
export const runBranches = 'cdl-run/';

/** The forge behind a git remote, as a person reaches it. */
export interface Remote {
  forge: Forge;
  /** Pushes a commit as a new branch, without a pipeline of its own. */
  push(commit: string, branch: string): Promise<void>;
  /** Removes a branch that is still at this commit. */
  drop(commit: string, branch: string): Promise<void>;
}

/** Server and project of a remote's URL, in any form git takes; null for a path of this machine. Pure. */
export function parseRemote(url: string): { server: string; path: string } | null {
  const tidy = (path: string) =>
    path
      .replace(/^\/+/, '')
      .replace(/\/+$/, '')
      .replace(/\.git$/, '');
  const web = /^(https?:)\/\/(?:[^@/]*@)?([^/]+)\/(.+)$/.exec(url);
  if (web) return { server: `${web[1]}//${web[2]}`, path: tidy(web[3]!) };
  const ssh =
    /^ssh:\/\/(?:[^@/]*@)?([^/:]+)(?::\d+)?\/(.+)$/.exec(url) ?? /^(?:[^@/:]+@)?([^/:]{2,}):(.+)$/.exec(url);
  return ssh && !url.startsWith('file:') ? { server: `https://${ssh[1]}`, path: tidy(ssh[2]!) } : null;
}

/**
 * The forge of the remote `name`, with the person's token (`CDL_FORGE_TOKEN`, scope api). `CDL_GITLAB_URL` says where it is
 * when the remote's URL does not (another host for ssh, a sub-path), `CDL_PROJECT` the project. Git uses what the person has
 * set up for the remote; over http the token goes along. Throws UserError input-missing, environment-missing, not-available.
 */
export async function openRemote(input: CommandInput, root: string, name: string): Promise<Remote> {
  const { env } = input;
  const told = await run('git', ['remote', 'get-url', '--', name], { cwd: root, env });
  if (told.code !== 0) {
    const hint = 'git remote add origin URL, or name another one: --to NAME';
    throw new UserError('input-missing', `this repository has no remote ${name}`, hint);
  }
  const url = told.stdout.toString().trim();
  const parsed = parseRemote(url);
  const server = (env.CDL_GITLAB_URL || parsed?.server)?.replace(/\/+$/, '');
  if (!server || (!parsed && !env.CDL_PROJECT)) {
    throw new UserError('input-missing', `${name} is ${url}, which is no forge`, 'push to a GitLab first');
  }
  if (env.CDL_FORGE === 'github' || new URL(server).hostname === 'github.com') {
    throw new UserError(
      'not-available',
      'on GitHub the log of a job can be read only when the job has ended, so there is nothing to follow',
      'push a branch and open a pull request',
    );
  }
  const token = env.CDL_FORGE_TOKEN;
  if (!token) {
    throw new UserError(
      'environment-missing',
      'CDL_FORGE_TOKEN is not set: as whom is the pipeline to be started?',
      `make a token with the scope api at ${server}/-/user_settings/personal_access_tokens`,
    );
  }
  const base = new URL(server).pathname.replace(/^\//, '');
  const path =
    parsed && base && parsed.path.startsWith(`${base}/`) ? parsed.path.slice(base.length + 1) : parsed?.path;
  const ca = env.CDL_FORGE_CA;
  const forge = await openForge({
    kind: 'gitlab',
    url: server,
    project: env.CDL_PROJECT || path!,
    token,
    ca: ca && !ca.includes('-----BEGIN') ? await readFile(ca, 'utf8') : ca,
    proxy: readProxies(env),
  });
  const gitEnv: NodeJS.ProcessEnv = {
    ...env,
    GIT_TERMINAL_PROMPT: '0',
    ...(await headerFor(url, server, token, env)),
  };
  const push = async (...args: string[]) => {
    const result = await run('git', ['push', '--quiet', ...args], { cwd: root, env: gitEnv });
    if (result.code === 0) return;
    throw new UserError(
      'forge-denied',
      `git push to ${name}: ${result.stderr.toString().trim().slice(-1000)}`,
    );
  };
  return {
    forge,
    // doc: topics/git/commit, push options: the pipeline is started by hand, with inputs.
    push: (commit, branch) => push('--push-option=ci.skip', '--', name, `${commit}:refs/heads/${branch}`),
    drop: (commit, branch) =>
      push(`--force-with-lease=refs/heads/${branch}:${commit}`, '--', name, `:refs/heads/${branch}`),
  };
}

/** The token as a header for this server alone, behind what the environment tells git already (git-config, GIT_CONFIG_COUNT). */
async function headerFor(url: string, server: string, token: string, env: NodeJS.ProcessEnv) {
  const { origin } = new URL(server);
  if (!/^https?:/.test(url) || new URL(url).origin !== origin) return {};
  const count = Number(env.GIT_CONFIG_COUNT || 0);
  const basic = Buffer.from(`oauth2:${token}`).toString('base64');
  return {
    GIT_CONFIG_COUNT: String(count + 1),
    [`GIT_CONFIG_KEY_${count}`]: `http.${origin}/.extraHeader`,
    [`GIT_CONFIG_VALUE_${count}`]: `Authorization: Basic ${basic}`,
  };
}
