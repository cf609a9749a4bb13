import { isDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import type { LabelsConfig } from '../core/project-labels.ts';
import type { Database } from '../db/types.ts';
import type { Zone } from '../store/types.ts';
import { type Annotation, type LabelScope, recordAnnotations, votesAsOf } from './label-history.ts';
import { publishLabelSet } from './label-set.ts';
import type { LabelServer, Task } from './label-studio.ts';

/** What one look at the label server found and did. */
export interface SyncResult {
  tasks: number;
  created: number;
  updated: number;
  deleted: number;
  /** Annotations that were imported instead of made by a person: not taken. */
  imported: number;
  /** Digest of the label set that the ref names now. */
  labels: `sha256:${string}`;
  changed: boolean;
}

/** Everything a look needs. */
export interface SyncInput {
  scope: LabelScope;
  config: LabelsConfig;
  kind: 'text' | 'image';
  classes: readonly string[];
  server: LabelServer;
  database: Database;
  zone: Zone;
  now: () => Date;
}

/** The title of a side's project: people who label the test set see nothing else of it. */
export function projectTitle(config: LabelsConfig, side: LabelScope['side']): string {
  return side === 'train' ? config.project : `${config.project} (test)`;
}

/** So often the tasks are listed before people who keep removing some are waited for. */
const mostLists = 5;

/** All tasks of a project as they were at one time. */
async function listWhole(server: LabelServer, project: number): Promise<Task[]> {
  for (let attempt = 1; ; attempt++) {
    const tasks: Task[] = [];
    try {
      for await (const task of server.listTasks(project)) tasks.push({ ...task, content: '' });
      return tasks;
    } catch (error) {
      const isMoved = error instanceof UpstreamError && error.retryable && error.status === null;
      if (!isMoved || tasks.length === 0 || attempt === mostLists) throw error;
    }
  }
}

/**
 * Looks at the server's project once: writes every change to the history, then publishes the votes as a label set. All
 * pages are read before anything is written, so that a server which fails half-way does not look like one where annotations
 * were deleted. Throws UserError data-invalid when annotated tasks name no item; nothing is written then.
 */
export async function syncLabels(input: SyncInput): Promise<SyncResult> {
  const { scope, config, server, database } = input;
  const project = await server.ensureProject(
    projectTitle(config, scope.side),
    input.kind,
    input.classes,
    config.multiple,
  );
  const annotations: Annotation[] = [];
  const strange: number[] = [];
  let tasks = 0;
  let imported = 0;
  for (const task of await listWhole(server, project)) {
    tasks += 1;
    imported += task.imported;
    if (!isDigest(task.item)) {
      if (task.annotations.length > 0) strange.push(task.id);
      continue;
    }
    for (const { id, ...vote } of task.annotations) {
      annotations.push({ ...vote, annotation: id, item: task.item, version: task.version });
    }
  }
  if (strange.length > 0) {
    throw new UserError(
      'data-invalid',
      `${strange.length} labelled tasks of project ${project} on ${server.url} name no item: ${strange.slice(0, 5).join(', ')}`,
      'delete these tasks on the server: items get there by cdl label only',
    );
  }
  const source = `${server.url}/projects/${project}`;
  const done = await recordAnnotations(database, scope, source, annotations, input.now());
  const { digest, changed } = await publishLabelSet(input.zone, scope, () => votesAsOf(database, scope));
  return { tasks, imported, ...done, labels: digest, changed };
}
