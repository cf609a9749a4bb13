import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';
import type { LabelServer, Task, TaskData } from './label-studio.ts';
import type { RawItem } from './raw-item.ts';

/** Pictures of ours, by extension (RFC 2046 and registrations); anything else is not shown to labelers. */
const pictures: Readonly<Record<string, string>> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  webp: 'image/webp',
};

/** Bytes of a picture that may travel inside its task, where the store cannot link to it. */
const largestInline = 2 << 20;

/** Seconds a link to a picture lasts: as long as S3 allows (SigV4: seven days). */
const linkLife = 7 * 24 * 3600;

/** What a picture is shown from: a link to it lasts some days. */
type PictureStore = Pick<Zone, 'putBlob' | 'linkBlob'>;

function typeOf(item: Pick<RawItem, 'id' | 'extension'>): string {
  const type = pictures[item.extension];
  if (type) return type;
  throw new UserError(
    'data-invalid',
    `${item.id} (.${item.extension}) cannot be shown to labelers`,
    `pictures for labelers are ${Object.keys(pictures).join(', ')}`,
  );
}

/**
 * How a labeler sees an item: its text; a link to the picture, which is put into the store by itself for that; or, where a
 * store has no links, the picture inside the task. Throws UserError data-invalid.
 */
export async function taskContent(
  item: RawItem,
  kind: 'text' | 'image',
  store: PictureStore | null,
): Promise<string> {
  if (kind === 'text') return Buffer.from(item.bytes).toString('utf8');
  const type = typeOf(item);
  const { digest } = store ? await store.putBlob(item.bytes) : { digest: null };
  const link = store && digest ? await store.linkBlob(digest, { seconds: linkLife, type }) : null;
  if (link !== null) return link;
  if (item.bytes.length > largestInline) {
    throw new UserError(
      'data-invalid',
      `${item.id} (.${item.extension}, ${item.bytes.length} bytes) cannot be shown to labelers`,
      `a store that cannot link to objects takes pictures of at most ${largestInline} bytes; use one with s3://`,
    );
  }
  return `data:${type};base64,${Buffer.from(item.bytes).toString('base64')}`;
}

/** Whether a presigned link has less than half of its time left, or is none (SigV4 query parameters). */
export function isLinkOld(content: string, now: Date): boolean {
  if (content.startsWith('data:')) return false;
  const query = URL.canParse(content) ? new URL(content).searchParams : new URLSearchParams();
  const made = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(query.get('X-Amz-Date') ?? '');
  const seconds = Number(query.get('X-Amz-Expires'));
  if (!made || !(seconds > 0)) return true;
  const [year, month, day, hour, minute, second] = made.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const age = (now.getTime() - Date.UTC(year, month - 1, day, hour, minute, second)) / 1000;
  return age > seconds / 2;
}

/** What {@link pushItems} did. */
export interface Pushed {
  added: number;
  /** Tasks whose link to a picture was renewed. */
  renewed: number;
}

/**
 * Makes a task of every item that has no label of its source and no task yet: pushing twice adds nothing, also after a push
 * that broke off. Links to pictures that will run out are renewed, so that what is not labelled yet stays visible.
 */
export async function pushItems(
  server: LabelServer,
  project: number,
  items: AsyncIterable<RawItem>,
  options: { kind: 'text' | 'image'; version: Digest; store: PictureStore | null; now: Date },
): Promise<Pushed> {
  const { kind, version, store, now } = options;
  const known = new Map<string, Task | null>();
  for await (const task of server.listTasks(project)) {
    if (task.item === null) continue;
    known.set(task.item, kind === 'image' && isLinkOld(task.content, now) ? task : null);
  }
  let batch: TaskData[] = [];
  const pushed: Pushed = { added: 0, renewed: 0 };
  const flush = async () => {
    await server.importTasks(project, batch);
    pushed.added += batch.length;
    batch = [];
  };
  for await (const item of items) {
    if (item.label !== null) continue;
    const old = known.get(item.id);
    if (old === null) continue;
    const content = await taskContent(item, kind, store);
    if (old) {
      if (content === old.content) continue;
      await server.refreshTask(old, content);
      pushed.renewed++;
      continue;
    }
    batch.push({ item: item.id, version, content });
    if (batch.length === 100) await flush();
  }
  if (batch.length > 0) await flush();
  return pushed;
}
