import { openForge, UserError } from '../src/index.ts';
import { type Environment, forgeOptions, readForgeConfig } from './config.ts';
import { isHookSound, keepHook, tellHook, wantedHook } from './hook.ts';
import { readVariable } from './variables.ts';

/**
 * Installs or repairs the webhooks of a bot's projects and has a delivery sent to each; what was done, for people and as
 * data. Throws UserError environment-missing (no CDL_BOT_URL), config-invalid, forge-denied; UpstreamError.
 */
export async function installHooks(
  env: Environment,
): Promise<{ text: string; isSound: boolean; data: { hooks: object[] } }> {
  const config = await readForgeConfig(env);
  const base = readVariable(env, 'CDL_BOT_URL');
  if (base === null || base === 'auto') {
    throw new UserError('environment-missing', 'CDL_BOT_URL is not set: how the forge reaches the bot');
  }
  const wanted = wantedHook(config.forge, base);
  const hooks: { project: string; url: string; done: string; isSound: boolean; lines: string[] }[] = [];
  for (const project of config.projects) {
    const forge = await openForge(forgeOptions(config, project));
    const result = await keepHook(forge, wanted, { signs: false, rewrite: true, test: true });
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
