import { z } from 'zod';
import type { Identity } from './github-client.ts';
import { perPage, readPages } from './github-pages.ts';
import * as schema from './github-schema.ts';
import { read } from './github-schema.ts';
import type { Forge, Hook } from './types.ts';

/** Events that the bot acts on. */
export const hookEvents = [
  'check_run',
  'deployment_status',
  'issue_comment',
  'merge_group',
  'pull_request',
  'pull_request_review',
  'push',
  'workflow_run',
];

type RepositoryHook = z.infer<typeof schema.hookSchema>;

const missingOf = (told: readonly string[]): string[] =>
  told.includes('*') ? [] : hookEvents.filter((name) => !told.includes(name));

// GitHub never stops delivering by itself; people can switch a webhook off.
const toHook = (hook: RepositoryHook): Hook => ({
  health: hook.active ? 'working' : 'off',
  until: null,
  signed: true,
  missing: missingOf(hook.events),
});

/**
 * The part of the port about webhooks: the one of the app, which serves all its repositories and whose events are chosen
 * where it is registered, or one of the repository (REST, apps and webhooks).
 */
export function createHooks(
  identity: Identity,
  where: { owner: string; repo: string },
): Pick<Forge, 'findHook' | 'ensureHook' | 'testHook'> {
  const { repos } = identity.octokit.rest;
  const { app } = identity;

  async function listOurs(url: string): Promise<RepositoryHook[]> {
    const all = await readPages(async (number) => {
      const found = await repos.listWebhooks({ ...where, per_page: perPage, page: number });
      return read(z.array(schema.hookSchema), found.data, 'webhooks');
    });
    return all.filter((one) => one.config.url === url).sort((one, other) => one.id - other.id);
  }

  if (app) {
    const { octokit } = app;
    const ofApp = async (): Promise<Hook> => {
      const about = read(schema.appSchema, (await octokit.rest.apps.getAuthenticated()).data, 'the app');
      return { health: 'working', until: null, signed: true, missing: missingOf(about.events) };
    };
    return {
      async findHook(url) {
        const found = await octokit.rest.apps.getWebhookConfigForApp();
        return read(schema.appHookSchema, found.data, 'the webhook of the app').url === url ? ofApp() : null;
      },
      async ensureHook(hook) {
        // As `data`, because Octokit takes a parameter `url` for where to send the request.
        const config = {
          url: hook.url,
          content_type: 'json',
          insecure_ssl: '0',
          secret: hook.signingToken,
        };
        await octokit.request('PATCH /app/hook/config', { data: config });
        return ofApp();
      },
      testHook: async () => ({ delivered: null, detail: 'GitHub tests no webhook of an app' }),
    };
  }
  return {
    async findHook(url) {
      const [first] = await listOurs(url);
      return first ? toHook(first) : null;
    },
    async ensureHook(hook) {
      const config = { url: hook.url, content_type: 'json', insecure_ssl: '0', secret: hook.signingToken };
      const [first, ...others] = await listOurs(hook.url);
      // Two bots may have installed it at the same moment; every event would come twice.
      for (const { id } of others) await repos.deleteWebhook({ ...where, hook_id: id });
      const wanted = { ...where, active: true, events: hookEvents, config };
      // Secrets cannot be read back, so an existing hook is written again.
      const made = first
        ? await repos.updateWebhook({ ...wanted, hook_id: first.id })
        : await repos.createWebhook(wanted);
      return toHook(read(schema.hookSchema, made.data, 'webhook'));
    },
    async testHook(url) {
      const [first] = await listOurs(url);
      if (!first) return { delivered: false, detail: 'there is no such webhook' };
      await repos.pingWebhook({ ...where, hook_id: first.id });
      return { delivered: null, detail: 'GitHub was asked to send a ping' };
    },
  };
}
