import { openForge, UserError } from '../src/index.ts';
import { type Environment, forgeOptions, readForgeConfig, readPublicUrl } from './config.ts';
import { isHookSound, keepHook, tellHook, wantedHook } from './hook.ts';

/** What a refused token lacks, most likely. */
const needsMore = {
  gitlab: 'webhooks take a Maintainer: for this once set CDL_BOT_TOKEN to a token (scope api) of one',
  github: 'the webhook of a repository takes the permission webhooks (write); an app needs none for its own',
} as const;

/**
 * Installs or repairs the webhooks of a bot's projects and has a delivery sent to each; what was done, for people and as
 * data. Throws UserError environment-missing (no CDL_BOT_URL), config-invalid, forge-denied; UpstreamError.
 */
export async function installHooks(
  env: Environment,
): Promise<{ text: string; isSound: boolean; data: { hooks: object[] } }> {
  const config = await readForgeConfig(env);
  const base = readPublicUrl(env);
  if (base === null || base === 'auto') {
    throw new UserError('environment-missing', 'CDL_BOT_URL is not set: how the forge reaches the bot');
  }
  const wanted = wantedHook(config.forge, base);
  const hooks: { project: string; url: string; done: string; isSound: boolean; lines: string[] }[] = [];
  for (const project of config.projects) {
    const forge = await openForge(forgeOptions(config, project));
    const options = { signs: false, rewrite: true, test: true };
    const result = await keepHook(forge, wanted, options).catch((error: unknown) => {
      if (!(error instanceof UserError && error.code === 'forge-denied')) throw error;
      throw new UserError('forge-denied', error.message, needsMore[config.forge.kind], { cause: error });
    });
    const { done } = result;
    const lines = tellHook(project, wanted, result);
    hooks.push({ project, url: wanted.url, done, isSound: isHookSound(result, wanted), lines });
  }
  const isSound = hooks.every((one) => one.isSound);
  const text = hooks
    .flatMap(({ isSound: sound, lines }) => [
      `${sound ? '✓' : '✗'} ${lines[0]}`,
      ...lines.slice(1).map((line) => `  ${line}`),
    ])
    .join('\n');
  return { text, isSound, data: { hooks } };
}
