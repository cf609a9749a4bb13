import type { Hook, WorldEvent } from './state.ts';

/** One attempt to deliver an event, as GitLab logs it (doc: api/project_webhooks, "List project webhook events"). */
export interface HookLog {
  id: number;
  hookId: number;
  trigger: string;
  url: string;
  requestHeaders: Record<string, string>;
  requestData: object;
  /** HTTP status, or null when nothing answered. */
  status: number | null;
  responseBody: string;
  /** Seconds. */
  duration: number;
  at: string;
}

/** The webhooks of a world: listens to its events, delivers them, and remembers how it went. */
export interface HookDelivery {
  logs: readonly HookLog[];
  /** Sends the body of an earlier attempt again, with the same webhook id. */
  resend(hook: Hook, logId: number): Promise<HookLog | null>;
  /** Sends one event to one hook, whatever the hook listens to. */
  deliver(hook: Hook, event: WorldEvent): Promise<HookLog | null>;
  /** Resolves when nothing is on its way any more. */
  idle(): Promise<void>;
  close(): Promise<void>;
}
