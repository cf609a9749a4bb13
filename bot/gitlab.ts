import { z } from 'zod';
import type { PipelineState } from '../src/index.ts';
import type { BotEvent } from './event.ts';

const project = z.object({ path_with_namespace: z.string() });

const payload = z.discriminatedUnion('object_kind', [
  z.object({
    object_kind: z.literal('merge_request'),
    project,
    object_attributes: z.object({
      iid: z.int().positive(),
      state: z.string().default(''),
      action: z.string().default(''),
    }),
  }),
  z.object({
    object_kind: z.literal('note'),
    project,
    object_attributes: z.object({
      id: z.int(),
      noteable_type: z.string(),
      system: z.boolean().default(false),
      // An edited comment is delivered again; before 17.x there was no action.
      action: z.string().default('create'),
    }),
    merge_request: z.object({ iid: z.int().positive() }).nullish(),
  }),
  z.object({
    object_kind: z.literal('pipeline'),
    project,
    object_attributes: z.object({ ref: z.string(), sha: z.string(), status: z.string() }),
    merge_request: z.object({ iid: z.int().positive() }).nullish(),
  }),
  z.object({ object_kind: z.literal('push'), project, ref: z.string(), after: z.string() }),
  z.object({ object_kind: z.literal('deployment'), project, environment: z.string() }),
]);

const finished: Record<string, PipelineState> = {
  running: 'running',
  success: 'success',
  failed: 'failed',
  canceled: 'canceled',
  skipped: 'skipped',
};

/** Reads a payload of a GitLab webhook; null for what the bot does not act on, whatever it is. */
export function readEvent(value: unknown): BotEvent | null {
  const parsed = payload.safeParse(value);
  if (!parsed.success) return null;
  const event = parsed.data;
  const path = event.project.path_with_namespace;
  switch (event.object_kind) {
    case 'merge_request': {
      const { iid, state, action } = event.object_attributes;
      const over = ['merged', 'closed'].includes(state) || ['merge', 'close'].includes(action);
      return { kind: 'change', project: path, change: iid, over };
    }
    case 'note': {
      const { id, noteable_type, system, action } = event.object_attributes;
      if (noteable_type !== 'MergeRequest' || !event.merge_request || system || action !== 'create')
        return null;
      return { kind: 'comment', project: path, change: event.merge_request.iid, comment: String(id) };
    }
    case 'pipeline': {
      const { ref, sha, status } = event.object_attributes;
      const change = event.merge_request?.iid ?? null;
      return { kind: 'pipeline', project: path, change, ref, sha, state: finished[status] ?? 'other' };
    }
    case 'push': {
      const branch = /^refs\/heads\/(.+)$/.exec(event.ref)?.[1];
      return branch && !/^0+$/.test(event.after) ? { kind: 'push', project: path, branch } : null;
    }
    case 'deployment':
      return { kind: 'deployment', project: path, environment: event.environment };
  }
}
