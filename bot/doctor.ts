import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  describeError,
  type ForgeOptions,
  githubHookEvents,
  openForge,
  openMirror,
  readGithubAccess,
  readGitlabAccess,
  UserError,
} from '../src/index.ts';
import { type Finding, judgeGitlab } from './access.ts';
import { judgeGithub } from './access-github.ts';
import { type Environment, forgeOptions, readForgeConfig, readPublicUrl } from './config.ts';
import { lookAtNotify } from './doctor-notify.ts';
import { wantedHook } from './hook.ts';
import { readVariable } from './variables.ts';

async function look(name: string, work: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await work();
  } catch (error) {
    const { message, exit } = describeError(error);
    return [{ name, state: 'problem', text: message, exit: exit as Finding['exit'] }];
  }
}

async function lookAtHook(options: ForgeOptions, url: string | null): Promise<Finding[]> {
  const name = 'webhook';
  if (url === null) return [{ name, state: 'note', text: 'CDL_BOT_URL is not set: not looked at', exit: 0 }];
  try {
    const hook = await (await openForge(options)).findHook(url);
    const text = ((): string | null => {
      if (hook === null) return `there is none to ${url}: run cdl bot install`;
      if (hook.health === 'off')
        return 'the forge switched it off because deliveries failed: run cdl bot install';
      if (hook.health === 'resting')
        return `rests until ${hook.until ?? 'later'} because deliveries failed: run cdl bot install`;
      return hook.missing.length > 0
        ? `is not told of ${hook.missing.join(', ')}: run cdl bot install`
        : null;
    })();
    if (text !== null) return [{ name, state: 'problem', text, exit: 69 }];
    return [{ name, state: 'ok', text: `${url}, ${hook?.signed ? 'signed' : 'not signed'}`, exit: 0 }];
  } catch (error) {
    if (!(error instanceof UserError && error.code === 'forge-denied')) throw error;
    const text =
      'the bot may not look at webhooks (that takes a Maintainer): it cannot mend it, cdl bot install as one can';
    return [{ name, state: 'note', text, exit: 0 }];
  }
}

async function lookAtGit(options: ForgeOptions, path: string): Promise<Finding[]> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-doctor-'));
  try {
    const forge = await openForge(options);
    const branch = await forge.defaultBranch();
    const mirror = await openMirror({ folder, access: forge.git(), path });
    const head = await mirror.head(branch);
    const text = head ? `reads ${branch} at ${head.slice(0, 12)}` : `there is no branch ${branch}`;
    return [{ name: 'git', state: head ? 'ok' : 'problem', text, exit: head ? 0 : 3 }];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Looks at everything between the bot and its forge: the way there, tokens, roles, branch, webhook, receivers of `notify:`, clock. By project; what
 * is wrong is a finding, never an exception. `withGit`: a clone, too, which takes as long as that does, and the mail server. Throws UserError environment-missing, config-invalid.
 */
export async function examineForge(
  env: Environment,
  { withGit = true }: { withGit?: boolean } = {},
): Promise<{ project: string; findings: Finding[] }[]> {
  const config = await readForgeConfig(env);
  const { forge } = config;
  const network = { ca: config.ca ?? undefined, proxy: config.proxy };
  const { url, evaluationToken } = forge;
  const named = readPublicUrl(env);
  const base = named === 'auto' ? null : named;
  const all: { project: string; findings: Finding[] }[] = [];
  for (const project of config.projects) {
    const options = forgeOptions(config, project);
    let isOpen = false;
    const findings = await look(forge.kind === 'gitlab' ? 'GitLab' : 'GitHub', async () => {
      const asked = { url, project, evaluationToken, network };
      if (forge.kind === 'gitlab') {
        const access = await readGitlabAccess({ ...asked, token: forge.token });
        isOpen = access.bot.status.project === 200;
        return judgeGitlab(access, url, project, new Date());
      }
      const access = await readGithubAccess({ ...asked, auth: forge.auth });
      const status = access.app?.status.installation ?? access.bot?.status.repository;
      isOpen = access.reached.isApi && status === 200;
      return judgeGithub(access, url, project, githubHookEvents);
    });
    // What a refused token cannot do need not be told three times.
    if (isOpen) {
      if (withGit) {
        findings.push(...(await look('git', () => lookAtGit(options, readVariable(env, 'PATH') ?? ''))));
      }
      findings.push(
        ...(await look('webhook', () => lookAtHook(options, base && wantedHook(forge, base).url))),
        ...(await look('notify', () => lookAtNotify(env, options, withGit))),
      );
    }
    all.push({ project, findings });
  }
  return all;
}
