import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { LabelServer, TaskData } from './label-studio.ts';
import type { RawItem } from './raw-item.ts';

/** Pictures of ours, by extension (RFC 2046 and registrations); anything else is not shown to labelers. */
const pictures: Readonly<Record<string, string>> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  webp: 'image/webp',
};

/** Bytes of a picture that may travel inside its task. */
const largestInline = 2 << 20;

/** How a labeler sees an item: its text, or a picture that lies in the task itself. Throws UserError data-invalid. */
export function taskContent(item: RawItem, kind: 'text' | 'image'): string {
  if (kind === 'text') return Buffer.from(item.bytes).toString('utf8');
  const type = pictures[item.extension];
  if (!type || item.bytes.length > largestInline) {
    throw new UserError(
      'data-invalid',
      `${item.id} (.${item.extension}, ${item.bytes.length} bytes) cannot be shown to labelers`,
      `use ${Object.keys(pictures).join(', ')} of at most ${largestInline} bytes`,
    );
  }
  return `data:${type};base64,${Buffer.from(item.bytes).toString('base64')}`;
}

/**
 * Makes a task of every item that has no label of its source and no task yet: pushing twice adds nothing, also after a push
 * that broke off. Returns how many were added.
 */
export async function pushItems(
  server: LabelServer,
  project: number,
  items: AsyncIterable<RawItem>,
  kind: 'text' | 'image',
  version: Digest,
): Promise<number> {
  const known = new Set<string>();
  for await (const { item } of server.listTasks(project)) if (item !== null) known.add(item);
  let batch: TaskData[] = [];
  let added = 0;
  const flush = async () => {
    await server.importTasks(project, batch);
    added += batch.length;
    batch = [];
  };
  for await (const item of items) {
    if (item.label !== null || known.has(item.id)) continue;
    batch.push({ item: item.id, version, content: taskContent(item, kind) });
    if (batch.length === 100) await flush();
  }
  if (batch.length > 0) await flush();
  return added;
}
