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
  /** A merge queue made a branch of what it is about to merge. */
  | { kind: 'queue'; project: string; branch: string }
  | { kind: 'deployment'; project: string; environment: string };

/** One project as the webhook side sees it. */
export interface Receiver {
  /** Remembers a delivery and queues its tasks, both or neither; false when it was remembered already. */
  take(id: string, tasks: readonly Task[]): Promise<boolean>;
  defaultBranch(): Promise<string>;
}

async function tasksOf(receiver: Receiver, event: BotEvent): Promise<Task[]> {
  switch (event.kind) {
    case 'change':
      // A merge changes the default branch's releases.
      return [{ kind: 'change', change: event.change }, { kind: 'branch' }];
    case 'comment':
      return [{ kind: 'comment', change: event.change, comment: event.comment }];
    case 'pipeline':
      if (event.change !== null) return [{ kind: 'change', change: event.change }];
      if (event.ref !== '' && event.ref !== (await receiver.defaultBranch())) {
        return [{ kind: 'push', branch: event.ref }];
      }
      // An evaluation or a deployment ended: which changes wait for it, the branch task finds out.
      return [{ kind: 'branch' }];
    case 'push': {
      const { branch } = event;
      return [branch === (await receiver.defaultBranch()) ? { kind: 'branch' } : { kind: 'push', branch }];
    }
    case 'queue':
      return [{ kind: 'queue', branch: event.branch }];
    case 'deployment':
      return [{ kind: 'branch' }];
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
  return (await receiver.take(id, await tasksOf(receiver, event))) ? 'queued' : 'repeated';
}
