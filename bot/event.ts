import type { PipelineState } from '../src/index.ts';
import type { Task } from './types.ts';

/** What a delivery is about. Texts of payloads are never used: everything is read again from the forge. */
export type BotEvent =
  | { kind: 'change'; project: string; change: number }
  | { kind: 'comment'; project: string; change: number; comment: string }
  | {
      kind: 'pipeline';
      project: string;
      change: number | null;
      ref: string;
      sha: string;
      state: PipelineState | 'other';
    }
  | { kind: 'push'; project: string; branch: string }
  | { kind: 'deployment'; project: string; environment: string };

/** One project as the webhook side sees it. */
export interface Receiver {
  isKnownDelivery(id: string): Promise<boolean>;
  rememberDelivery(id: string): Promise<void>;
  enqueue(task: Task): Promise<void>;
  defaultBranch(): Promise<string>;
}

async function queueEvent(receiver: Receiver, event: BotEvent): Promise<void> {
  switch (event.kind) {
    case 'change':
      await receiver.enqueue({ kind: 'change', change: event.change });
      // A merge changes the default branch's releases.
      await receiver.enqueue({ kind: 'branch' });
      return;
    case 'comment':
      return receiver.enqueue({ kind: 'comment', change: event.change, comment: event.comment });
    case 'pipeline':
      if (event.change !== null) return receiver.enqueue({ kind: 'change', change: event.change });
      if (event.ref !== '' && event.ref !== (await receiver.defaultBranch())) {
        return receiver.enqueue({ kind: 'push', branch: event.ref });
      }
      // An evaluation or a deployment ended: which changes wait for it, the branch task finds out.
      return receiver.enqueue({ kind: 'branch' });
    case 'push':
      await receiver.enqueue(
        event.branch === (await receiver.defaultBranch())
          ? { kind: 'branch' }
          : { kind: 'push', branch: event.branch },
      );
      return;
    case 'deployment':
      return receiver.enqueue({ kind: 'branch' });
  }
}

/** Queues what a verified delivery calls for, once per delivery id. */
export async function receiveEvent(
  receivers: ReadonlyMap<string, Receiver>,
  id: string,
  event: BotEvent | null,
): Promise<'ignored' | 'repeated' | 'queued'> {
  const receiver = event ? receivers.get(event.project) : undefined;
  if (!event || !receiver) return 'ignored';
  if (await receiver.isKnownDelivery(id)) return 'repeated';
  // Queued before it is remembered: a crash in between does the work twice, which changes nothing, and never not at all.
  await queueEvent(receiver, event);
  await receiver.rememberDelivery(id);
  return 'queued';
}
