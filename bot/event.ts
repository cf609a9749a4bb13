import type { PipelineState } from '../src/index.ts';
import type { Task } from './types.ts';

/** What a delivery is about. Texts of payloads are never used: everything is read again from the forge. */
export type BotEvent =
  /** `over`: it was merged or closed. */
  | { kind: 'change'; project: string; change: number; over: boolean }
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
}

/** What an event calls for. Asks nobody: a delivery never waits for the forge. */
function tasksOf(event: BotEvent): Task[] {
  switch (event.kind) {
    case 'change':
      // A merge changes the default branch's releases; the branch task looks at every open change, so only then.
      return [{ kind: 'change', change: event.change }, ...(event.over ? [{ kind: 'branch' } as const] : [])];
    case 'comment':
      return [{ kind: 'comment', change: event.change, comment: event.comment }];
    case 'pipeline':
      if (event.change !== null) return [{ kind: 'change', change: event.change }];
      // Of the default branch, an evaluation or a deployment ended; which branch that is, the task finds out.
      return [event.ref === '' ? { kind: 'branch' } : { kind: 'push', branch: event.ref }];
    case 'push':
      return [{ kind: 'push', branch: event.branch }];
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
  return (await receiver.take(id, tasksOf(event))) ? 'queued' : 'repeated';
}
