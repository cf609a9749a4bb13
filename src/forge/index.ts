import type { GitlabOptions } from './gitlab.ts';
import type { Forge } from './types.ts';

export type * from './types.ts';

/** Opens a project on a forge; the driver and its library load on use. */
export async function openForge(options: { kind: 'gitlab' } & GitlabOptions): Promise<Forge> {
  const { openGitlab } = await import('./gitlab.ts');
  return openGitlab(options);
}
