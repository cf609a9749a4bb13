import type { Logger } from 'pino';
import type { Counter } from 'prom-client';
import { describeError, type Forge, type Hook } from '../src/index.ts';
import type { ForgeConfig } from './config.ts';
import type { HookStanding } from './health.ts';

/** What a webhook must have. */
export interface WantedHook {
  url: string;
  token: string | null;
  signingToken: string;
}

/** The webhook of a bot that the forge reaches at `base`. */
export function wantedHook(forge: ForgeConfig, base: string): WantedHook {
  return {
    url: `${base.replace(/\/+$/, '')}/webhooks/${forge.kind}`,
    token: forge.webhookSecret,
    signingToken: forge.kind === 'github' ? forge.webhookSecret : (forge.signingToken.split(' ')[0] ?? ''),
  };
}

/** What is to be done about a webhook. */
export type HookPlan = 'nothing' | 'install' | 'repair' | 'revive';

/** What a webhook that was found (or was not) calls for. `signs` says whether it signed when it was last written. */
export function planHook(found: Hook | null, signs: boolean): HookPlan {
  if (found === null) return 'install';
  if (found.health !== 'working') return 'revive';
  return found.missing.length > 0 || (signs && !found.signed) ? 'repair' : 'nothing';
}

/** How the forge's webhook was found and left. */
export interface HookResult {
  /** What was wrong before, by what was done about it. */
  done: HookPlan;
  hook: Hook;
  /** Whether a delivery that was asked for came through; null when the forge does not say, or none was needed. */
  test: { delivered: boolean | null; detail: string } | null;
}

/**
 * Installs, repairs or revives the webhook. `rewrite` also writes one that looks well, because its secrets cannot be read;
 * `test` has a delivery sent in any case. Throws UserError forge-denied, UpstreamError.
 */
export async function keepHook(
  forge: Pick<Forge, 'findHook' | 'ensureHook' | 'testHook'>,
  wanted: WantedHook,
  options: { signs: boolean; rewrite?: boolean; test?: boolean },
): Promise<HookResult> {
  const found = await forge.findHook(wanted.url);
  const done = planHook(found, options.signs);
  if (found && done === 'nothing' && !options.rewrite) return { done, hook: found, test: null };
  const written = await forge.ensureHook(wanted);
  if (!options.test && done !== 'revive') return { done, hook: written, test: null };
  // GitLab takes a webhook back into service when a test delivery came through (doc: webhooks, auto-disabled webhooks).
  const test = await forge.testHook(wanted.url);
  return { done, hook: (await forge.findHook(wanted.url)) ?? written, test };
}

/** What people read about it: one line each. `signing` is false where the forge has none of its own (a secret token). */
export function tellHook(project: string, wanted: WantedHook, { done, hook, test }: HookResult): string[] {
  const did = {
    nothing: 'was there, its secrets were written again',
    install: 'installed',
    repair: 'repaired',
    revive: 'was switched off by the forge after failed deliveries; revived',
  }[done];
  const lines = [`${project}: webhook ${wanted.url}: ${did}`];
  if (hook.signed) lines.push('the forge signs its deliveries');
  else if (wanted.token !== null)
    lines.push('this GitLab signs no deliveries (19.0 and newer do): they carry CDL_WEBHOOK_SECRET instead');
  else
    lines.push(
      'this GitLab signs no deliveries and CDL_WEBHOOK_SECRET is not set: the bot will refuse them all',
    );
  if (hook.missing.length > 0)
    lines.push(
      `not told: ${hook.missing.join(', ')}; choose these events in the settings of the app, and accept them where it is installed`,
    );
  if (hook.health !== 'working') lines.push(`still switched off${hook.until ? ` until ${hook.until}` : ''}`);
  if (test) lines.push(test.delivered === false ? `a test delivery failed: ${test.detail}` : test.detail);
  return lines;
}

/** Whether deliveries will come, and be taken. */
export function isHookSound({ hook, test }: HookResult, wanted: WantedHook): boolean {
  const isTrusted = hook.signed || wanted.token !== null;
  return isTrusted && hook.health === 'working' && hook.missing.length === 0 && test?.delivered !== false;
}

/**
 * Keeps one project's webhook while the bot runs: written at the first look, afterwards only looked at, and put right when
 * somebody removed or changed it or the forge switched it off. A failure is told once and tried again; it never throws. Each
 * look gives what it found.
 */
export function createHookKeeper(options: {
  project: string;
  forge: Pick<Forge, 'findHook' | 'ensureHook' | 'testHook'>;
  wanted: WantedHook;
  repairs: Counter<'what' | 'outcome'>;
  log: Pick<Logger, 'info' | 'warn'>;
}): () => Promise<HookStanding> {
  const { project, forge, wanted, repairs, log } = options;
  let signs = false;
  let first = true;
  let told = '';
  const warnOnce = (text: string) => {
    if (text !== told && text !== '') log.warn({ project, url: wanted.url }, text);
    told = text;
  };
  return async () => {
    try {
      const result = await keepHook(forge, wanted, { signs, rewrite: first });
      const { done, hook } = result;
      signs = hook.signed;
      const isSound = isHookSound(result, wanted);
      if (done !== 'nothing' && !(first && done === 'install')) {
        // An app whose events cannot be changed from here stays as it is, look after look.
        if (done !== 'repair' || isSound)
          log.warn({ project, url: wanted.url, done }, 'webhook was put right');
        repairs.inc({ what: done, outcome: isSound ? 'works' : 'still broken' });
      }
      first = false;
      const lines = tellHook(project, wanted, result).join('; ');
      warnOnce(isSound ? '' : lines);
      return { isSound, text: isSound ? 'works' : lines };
    } catch (error) {
      // It takes a maintainer, which the bot need not be; what no webhook tells, reconciling finds.
      const text = `the webhook cannot be looked after: ${describeError(error).message}`;
      warnOnce(text);
      return { isSound: null, text };
    }
  };
}
