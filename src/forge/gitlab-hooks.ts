import type { Gitlab } from '@gitbeaker/rest';
import { z } from 'zod';
import { UpstreamError } from '../core/error.ts';
import * as schema from './gitlab-schema.ts';
import { read } from './gitlab-schema.ts';
import { send } from './http.ts';
import type { Network } from './network.ts';
import type { Forge, Hook } from './types.ts';

type GitlabHook = z.infer<typeof schema.hookSchema>;

/** What the bot acts on. Job events are not among them: a pipeline's end says all, and a project has thousands of jobs. */
const events = [
  'push_events',
  'merge_requests_events',
  'note_events',
  'pipeline_events',
  'deployment_events',
] as const;

/** GitLab's words (doc: user/project/integrations/webhooks, auto-disabled webhooks) in ours. */
const healths: Record<string, Hook['health']> = { temporarily_disabled: 'resting', disabled: 'off' };

function toHook(hook: GitlabHook): Hook {
  return {
    health: healths[hook.alert_status ?? ''] ?? 'working',
    until: hook.disabled_until ?? null,
    signed: hook.signing_token_present === true,
    missing: events.filter((name) => !hook[name]),
  };
}

/** The part of the port about webhooks (doc: api/project_webhooks). */
export function createHooks(
  api: InstanceType<typeof Gitlab>,
  options: { project: string; host: string; token: string; network: Network },
): Pick<Forge, 'findHook' | 'ensureHook' | 'testHook'> {
  const { project, host } = options;

  async function listOurs(url: string): Promise<GitlabHook[]> {
    const found: unknown = await api.ProjectHooks.all(project);
    const ours = read(z.array(schema.hookSchema), found, 'webhooks').filter((one) => one.url === url);
    return ours.sort((one, other) => one.id - other.id);
  }

  return {
    async findHook(url) {
      const [first] = await listOurs(url);
      return first ? toHook(first) : null;
    },
    async ensureHook(hook) {
      const wanted = {
        ...(hook.token === null ? {} : { token: hook.token }),
        signing_token: hook.signingToken,
        pushEvents: true,
        mergeRequestsEvents: true,
        noteEvents: true,
        pipelineEvents: true,
        deploymentEvents: true,
        enableSslVerification: true,
      };
      const [first, ...others] = await listOurs(hook.url);
      // Two bots may have installed it at the same moment; every event would come twice.
      for (const { id } of others) await api.ProjectHooks.remove(project, id);
      // Secrets cannot be read back, so an existing hook is written again.
      const made: unknown = first
        ? await api.ProjectHooks.edit(project, first.id, hook.url, wanted)
        : await api.ProjectHooks.add(project, hook.url, wanted as never);
      return toHook(read(schema.hookSchema, made, 'webhook'));
    },
    async testHook(url) {
      const [first] = await listOurs(url);
      if (!first) return { delivered: false, detail: 'there is no such webhook' };
      const path = `projects/${encodeURIComponent(project)}/hooks/${first.id}/test/push_events`;
      const sending = {
        method: 'POST',
        url: new URL(`${host}/api/v4/${path}`),
        headers: { 'private-token': options.token, accept: 'application/json' },
        body: null,
        network: options.network,
      };
      try {
        (await send(sending)).body.resume();
        return { delivered: true, detail: 'the bot took a test delivery' };
      } catch (error) {
        // 422: what the receiver said, or that nobody answered. 429: five tests a minute are allowed.
        if (!(error instanceof UpstreamError) || error.status === null) throw error;
        // "Ensure the project has at least one commit."
        if (/Ensure the project has/.test(error.message))
          return {
            delivered: null,
            detail: 'no test delivery: there is nothing in the project yet to tell of',
          };
        return { delivered: error.status === 422 ? false : null, detail: error.message };
      }
    },
  };
}
