import type { GithubAccess } from '../src/index.ts';
import { type Finding, judgeClock, note, ok, problem } from './access.ts';

const needed: Record<string, 'read' | 'write'> = {
  contents: 'write',
  pull_requests: 'write',
  issues: 'write',
  checks: 'write',
  actions: 'write',
  deployments: 'read',
  merge_queues: 'read',
  metadata: 'read',
};
/** What some projects need: teams as roles. */
const optional: Record<string, 'read' | 'write'> = { members: 'read' };
const strength: Record<string, number> = { read: 1, write: 2, admin: 3 };
const isLess = (has: string | undefined, wants: string) =>
  (strength[has ?? ''] ?? 0) < (strength[wants] ?? 0);

function judgeApp(access: GithubAccess, project: string, eventsNeeded: readonly string[]): Finding[] {
  const app = access.app!;
  if (app.status.app === 401)
    return [
      problem(
        'app',
        '401: CDL_GITHUB_PRIVATE_KEY is not a key of the app CDL_GITHUB_APP_ID, or this clock is wrong',
      ),
    ];
  if (app.slug === null) return [problem('app', `${app.status.app}: GitHub does not know this app`)];
  if (app.status.installation === 404)
    return [problem('app', `${app.slug} is not installed on ${project} (404): install it there`)];
  const found: Finding[] = [ok('app', app.slug)];
  if (app.suspended) found.push(problem('app', 'its installation is suspended'));
  if (app.selection === 'all')
    found.push(note('app', `is installed on all repositories: ${project} alone is enough`));
  const wants = needed;
  const little = Object.entries(wants).filter(([name, wanted]) => isLess(app.granted[name], wanted));
  const pending = little.filter(([name, wanted]) => !isLess(app.wanted[name], wanted)).map(([name]) => name);
  const much = Object.entries(app.granted).filter(([name, has]) =>
    isLess({ ...wants, ...optional }[name], has),
  );
  for (const [name, wanted] of little) {
    const has = app.granted[name] ? `${app.granted[name]} is too little` : 'missing';
    const next = pending.includes(name)
      ? 'accept the new permissions where it is installed'
      : 'grant it in the settings of the app';
    found.push(problem('permissions', `${name}: ${has}, ${wanted} is needed: ${next}`));
  }
  if (much.length > 0)
    found.push(
      note('permissions', `more than needed: ${much.map(([name, has]) => `${name} ${has}`).join(', ')}`),
    );
  if (little.length === 0 && much.length === 0) found.push(ok('permissions', 'exactly what is needed'));
  const silent = eventsNeeded.filter((name) => !app.events.includes(name));
  found.push(
    silent.length > 0
      ? problem('events', `the app is not told of ${silent.join(', ')}: choose them in its settings`)
      : ok('events', 'all that the bot acts on'),
  );
  return found;
}

function judgeAccount(
  name: string,
  variable: string,
  account: NonNullable<GithubAccess['bot']>,
  project: string,
): Finding[] {
  const { user, repository } = account.status;
  if (user === 401)
    return [
      problem(
        name,
        `401: GitHub does not know this token: mistyped, expired or revoked; set ${variable} anew`,
      ),
    ];
  if (account.user === null)
    return [problem(name, `${user}: GitHub does not say whose token this is`, user >= 500 ? 75 : 5)];
  const who = `@${account.user.login}`;
  if (repository !== 200)
    return [
      problem(
        name,
        `${repository}: for ${who} there is no repository ${project}: check its name, choose it in the token's settings, or invite ${who}`,
      ),
    ];
  const found: Finding[] = [ok(name, `${who}, ${account.scopes ? 'classic token' : 'fine-grained token'}`)];
  if (account.scopes) {
    const more = account.scopes.filter((scope) => !['repo', 'public_repo', 'workflow'].includes(scope));
    found.push(
      note(
        name,
        `a classic token (${account.scopes.join(', ')}) reaches every repository of ${who}${more.length > 0 ? `, and ${more.join(', ')} is not needed` : ''}: a fine-grained one reaches this alone`,
      ),
    );
  }
  if (account.push === false) found.push(problem(name, `${who} may only read: too little, write is needed`));
  if (account.admin) found.push(note(name, `${who} administers ${project}: write is enough`));
  return found;
}

/** What a GitHub, and the app or accounts on it, are found to be like. */
export function judgeGithub(
  access: GithubAccess,
  url: string,
  project: string,
  eventsNeeded: readonly string[],
): Finding[] {
  if (!access.reached.isApi)
    return [
      problem(
        'GitHub',
        `${url} answers ${access.reached.status}, but not as GitHub's API: CDL_GITHUB_URL is https://api.github.com, or https://HOST/api/v3`,
        access.reached.status >= 500 ? 75 : 3,
      ),
    ];
  const found = [ok('GitHub', `answers at ${url}`), judgeClock(access.ahead)];
  if (access.app) found.push(...judgeApp(access, project, eventsNeeded));
  if (access.bot) found.push(...judgeAccount('bot token', 'CDL_BOT_TOKEN', access.bot, project));
  if (access.evaluator) {
    found.push(...judgeAccount('evaluation token', 'CDL_EVALUATION_TOKEN', access.evaluator, project));
    if (access.bot && access.evaluator.user?.id === access.bot.user?.id)
      found.push(
        problem(
          'evaluation token',
          'is of the same account as the bot: what the bot pushes could start evaluations',
        ),
      );
  } else {
    found.push(note('evaluation token', 'CDL_EVALUATION_TOKEN is not set: evaluations start as the bot'));
  }
  if (access.defaultBranch === null) return found;
  if (access.protected) found.push(ok('default branch', `${access.defaultBranch} is protected`));
  else
    found.push(
      access.protected === null
        ? note('default branch', `GitHub does not say whether ${access.defaultBranch} is protected`)
        : problem(
            'default branch',
            `${access.defaultBranch} is not protected: anybody who may push decides what is deployed; protect it`,
          ),
    );
  return found;
}
