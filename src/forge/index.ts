import type { GithubOptions } from './github.ts';
import type { GitlabOptions } from './gitlab.ts';
import type { Forge } from './types.ts';

export { type GithubAccess, readGithubAccess } from './github-access.ts';
export type { GithubAuth } from './github-client.ts';
export { hookEvents as githubHookEvents } from './github-hooks.ts';
export { type GitlabAccess, readGitlabAccess, type TokenAccess } from './gitlab-access.ts';
export { dispatcherOf, type Network, type ProxySettings, readProxies } from './network.ts';
export { type ForgeRequest, watchForge } from './requests.ts';
export type * from './types.ts';

/** Which forge, and how to reach a project there. */
export type ForgeOptions = ({ kind: 'gitlab' } & GitlabOptions) | ({ kind: 'github' } & GithubOptions);

/** Opens a project on a forge; the driver and its library load on use. */
export async function openForge(options: ForgeOptions): Promise<Forge> {
  if (options.kind === 'github') {
    const { openGithub } = await import('./github.ts');
    return openGithub(options);
  }
  const { openGitlab } = await import('./gitlab.ts');
  return openGitlab(options);
}
