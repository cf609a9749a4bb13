import type { GitlabAccess, TokenAccess } from '../src/index.ts';

/** Something that was looked at. `exit` is what a command that found it ends with. */
export interface Finding {
  name: string;
  state: 'ok' | 'note' | 'problem';
  text: string;
  exit: 0 | 3 | 5 | 69 | 75;
}

/** A finding that all is well. */
export const ok = (name: string, text: string): Finding => ({ name, state: 'ok', text, exit: 0 });
/** A finding that somebody may want to change. */
export const note = (name: string, text: string): Finding => ({ name, state: 'note', text, exit: 0 });
/** A finding that stops the bot, or gives it too much. */
export const problem = (name: string, text: string, exit: Finding['exit'] = 5): Finding => ({
  name,
  state: 'problem',
  text,
  exit,
});

const levels: Record<number, string> = {
  5: 'Minimal access',
  10: 'Guest',
  15: 'Planner',
  20: 'Reporter',
  30: 'Developer',
  40: 'Maintainer',
  50: 'Owner',
};
const levelName = (level: number | null) =>
  level === null ? 'no member' : (levels[level] ?? `level ${level}`);

/** Beyond these the forge's signatures (5 minutes) and an app's own token (1 minute) are in danger, in seconds. */
const noticed = 30;
const tooFar = 60;

/** The forge's clock beside ours. */
export function judgeClock(ahead: number | null): Finding {
  if (ahead === null) return note('clock', 'the forge does not say what time it is');
  const text = `${Math.abs(ahead)} s ${ahead < 0 ? 'behind' : 'ahead of'} this machine's`;
  if (Math.abs(ahead) < noticed) return ok('clock', 'the same as the forge’s');
  return Math.abs(ahead) < tooFar
    ? note('clock', `the forge's is ${text}`)
    : problem('clock', `the forge's is ${text}: signed deliveries will be refused; set both by NTP`, 69);
}

/** Scopes with which a token does more than `api`, and those that `api` includes (doc: security/tokens). */
const dangerous = new Set(['sudo', 'admin_mode']);
const included = new Set(['api', 'read_api', 'read_user', 'read_repository', 'write_repository']);

/** What kind of identity a token speaks as, and why another would be better; null when it is the best one. */
function describeIdentity({ username, bot }: NonNullable<TokenAccess['user']>): {
  kind: string;
  hint: string | null;
} {
  if (/^project_\d+_bot/.test(username)) return { kind: 'project access token', hint: null };
  if (/^group_\d+_bot/.test(username))
    return {
      kind: 'group access token',
      hint: 'it reaches every project of its group: a project access token is enough',
    };
  return bot
    ? { kind: 'token of a bot user', hint: null }
    : {
        kind: 'personal access token',
        hint: `all the bot writes will be from @${username}, and it reaches all projects of @${username}: a project access token reaches this one alone (where those are paid for: the token of a user made for the bot)`,
      };
}

/** A token that GitLab refuses or that does not see the project; null when it is good enough to go on. */
function judgeAnswer(name: string, variable: string, access: TokenAccess, project: string): Finding | null {
  const { user, project: seen } = access.status;
  if (user === 401) {
    return problem(
      name,
      `401: GitLab does not know this token: it is mistyped, expired or revoked; make a new one and set ${variable}`,
    );
  }
  if (user === 403) {
    return problem(
      name,
      `403: the token is known but may not even say whose it is: it needs the scope api${access.scopes ? ` and has ${access.scopes.join(', ')}` : ''}`,
    );
  }
  if (access.user === null) return problem(name, `${user}: GitLab does not say whose token this is`, 75);
  if (seen === 404) {
    return problem(
      name,
      `404: for @${access.user.username} there is no project ${project}. GitLab hides what a token may not see: check the path, or add @${access.user.username} to it`,
    );
  }
  if (seen === 403) {
    return problem(
      name,
      `403: @${access.user.username} may not read ${project}: the token needs the scope api${access.scopes ? ` and has ${access.scopes.join(', ')}` : ''}`,
    );
  }
  return seen === 200 ? null : problem(name, `${seen} for ${project}`, 75);
}

function judgeScopes(name: string, scopes: string[] | null): Finding {
  if (scopes === null) return note(name, 'GitLab does not say which scopes the token has');
  const said = `scopes ${scopes.join(', ') || 'none'}`;
  if (!scopes.includes('api')) return problem(name, `${said}: too little, api is needed`);
  const worst = scopes.filter((scope) => dangerous.has(scope));
  if (worst.length > 0) return problem(name, `${said}: too much, ${worst.join(' and ')} must go`);
  const more = scopes.filter((scope) => !included.has(scope));
  return more.length > 0 ? note(name, `${said}: more than needed, api is enough`) : ok(name, said);
}

function judgeExpiry(name: string, expires: string | null, now: Date): Finding[] {
  if (expires === null) return [];
  const days = Math.floor((Date.parse(expires) - now.getTime()) / 86_400_000);
  return days < 14 ? [note(name, `ends on ${expires}, in ${Math.max(0, days)} days: renew it`)] : [];
}

function judgeBot(access: GitlabAccess, project: string, now: Date): Finding[] {
  const { bot, defaultBranch } = access;
  const refused = judgeAnswer('bot token', 'CDL_BOT_TOKEN', bot, project);
  if (refused || !bot.user) return refused ? [refused] : [];
  const { kind, hint } = describeIdentity(bot.user);
  const who = `${kind}, @${bot.user.username}`;
  const found: Finding[] = [hint ? note('bot token', `${who}: ${hint}`) : ok('bot token', who)];
  if (bot.user.admin)
    found.push(problem('bot token', `@${bot.user.username} is an administrator of this GitLab: too much`));
  found.push(judgeScopes('bot scopes', bot.scopes), ...judgeExpiry('bot token', bot.expires, now));
  const role = levelName(bot.level);
  if ((bot.level ?? 0) < 30) found.push(problem('bot role', `${role}: too little, Developer is needed`));
  else if (bot.level === 30) found.push(ok('bot role', role));
  else
    found.push(
      note('bot role', `${role}: Developer is enough, unless the bot is to look after its webhook itself`),
    );
  if (bot.push)
    found.push(
      problem(
        'bot role',
        `may push to ${defaultBranch} without review: make it a Developer, or let nobody push there`,
      ),
    );
  return found;
}

function judgeEvaluator(access: GitlabAccess, project: string, now: Date): Finding[] {
  const { bot, evaluator, defaultBranch } = access;
  const name = 'evaluation token';
  if (!evaluator) {
    const unset = 'CDL_EVALUATION_TOKEN is not set';
    const branch = defaultBranch ?? 'the default branch';
    if (bot.start === false)
      return [
        problem(
          name,
          `${unset}, and the bot may not start pipelines on ${branch}: nothing will be evaluated`,
        ),
      ];
    return [
      note(
        name,
        bot.start === null
          ? `${unset}, and whether the bot may start pipelines on ${branch} GitLab does not say`
          : `${unset}: evaluations start as the bot; whoever may change what it pushes may start them`,
      ),
    ];
  }
  const refused = judgeAnswer(name, 'CDL_EVALUATION_TOKEN', evaluator, project);
  if (refused || !evaluator.user) return refused ? [refused] : [];
  const who = `${describeIdentity(evaluator.user).kind}, @${evaluator.user.username}`;
  const found: Finding[] = [];
  if (evaluator.user.id === bot.user?.id)
    found.push(
      problem(
        name,
        `@${evaluator.user.username} is the bot itself: what the bot pushes could start evaluations`,
      ),
    );
  else found.push(ok(name, who));
  if (evaluator.user.admin)
    found.push(problem(name, `@${evaluator.user.username} is an administrator: too much`));
  found.push(judgeScopes('its scopes', evaluator.scopes), ...judgeExpiry(name, evaluator.expires, now));
  const role = levelName(evaluator.level);
  if (evaluator.start === false)
    found.push(
      problem('its role', `${role}: may not start pipelines on ${defaultBranch}: allow it to merge there`),
    );
  else if (evaluator.start === null)
    found.push(
      note('its role', `${role}: whether it may start pipelines on ${defaultBranch} GitLab does not say`),
    );
  else if (evaluator.push)
    found.push(
      note(
        'its role',
        `${role}: may also push to ${defaultBranch}; "allowed to push: no one" takes that away`,
      ),
    );
  else found.push(ok('its role', `${role}: may start pipelines on ${defaultBranch} and not push to it`));
  return found;
}

/** What a GitLab and two tokens on it are found to be like; the first finding that makes others pointless is the last one. */
export function judgeGitlab(access: GitlabAccess, url: string, project: string, now: Date): Finding[] {
  const { version, location, status } = { ...access.version };
  if (status >= 300 && status < 400)
    return [
      problem(
        'GitLab',
        `${url} sends elsewhere (${status}): set CDL_GITLAB_URL to ${location ?? 'that place'}`,
        3,
      ),
    ];
  if (version === null && status !== 401 && status !== 403)
    return [
      problem(
        'GitLab',
        `${url} answers ${status}, but not as GitLab's API does: is GitLab below a sub-path? Then CDL_GITLAB_URL ends in it (https://host/gitlab)`,
        status >= 500 ? 75 : 3,
      ),
    ];
  const named = new URL(url).pathname.replace(/\/+$/, '');
  const below = named ? `, below ${named}` : '';
  const reached = version
    ? ok('GitLab', `${version} at ${url}${below}`)
    : ok('GitLab', `answers at ${url}${below}`);
  const found = [
    reached,
    judgeClock(access.ahead),
    ...judgeBot(access, project, now),
    ...judgeEvaluator(access, project, now),
  ];
  if (access.defaultBranch === null) return found;
  const branch = access.defaultBranch;
  if (access.protected === null)
    found.push(note('default branch', `GitLab does not say whether ${branch} is protected`));
  else if (access.protected) found.push(ok('default branch', `${branch} is protected`));
  else
    found.push(
      problem(
        'default branch',
        `${branch} is not protected: anybody who may push decides what is deployed; protect it`,
      ),
    );
  return found;
}
