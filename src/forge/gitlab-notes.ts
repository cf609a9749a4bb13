import type { Gitlab } from '@gitbeaker/rest';
import { z } from 'zod';
import { UpstreamError } from '../core/error.ts';
import { isAbsent } from './absent.ts';
import { awardSchema, discussionSchema, noteSchema, read, toComment } from './gitlab-schema.ts';
import { hasMarker, withMarker } from './marker.ts';
import type { Comment, Forge } from './types.ts';

/** The part of {@link Forge} that is about comments. */
export type Notes = Pick<Forge, 'ensureComment' | 'ensureReply' | 'react' | 'listComments' | 'getComment'>;

/** What is read of a note that was just written. */
const written = noteSchema.pick({ id: true, updated_at: true });

/**
 * Comments on merge requests. GitLab has no upsert for notes, so ours carry a hidden marker; only a note of our own user
 * counts as ours, whatever it says. Calls for one change are queued, so that one process never writes two.
 */
export function createNotes(
  api: InstanceType<typeof Gitlab>,
  project: string,
  self: () => Promise<{ id: string }>,
  changeUrl: (change: number) => Promise<string>,
): Notes {
  const queues = new Map<number, Promise<unknown>>();

  function inTurn<T>(change: number, work: () => Promise<T>): Promise<T> {
    const turn = (queues.get(change) ?? Promise.resolve()).then(work, work);
    queues.set(change, turn);
    const leave = () => {
      if (queues.get(change) === turn) queues.delete(change);
    };
    turn.then(leave, leave);
    return turn;
  }

  async function allNotes(change: number) {
    const notes: unknown = await api.MergeRequestNotes.all(project, change, {
      perPage: 100,
      sort: 'asc',
      orderBy: 'created_at',
    });
    return read(z.array(noteSchema), notes, `comments of !${change}`);
  }

  async function ours(change: number, key: string) {
    const me = await self();
    return (await allNotes(change)).filter(
      (note) => String(note.author.id) === me.id && !note.system && hasMarker(key, note.body),
    );
  }

  /** Our oldest note with this key, the only one afterwards: a lost answer or two bots at once leave others. */
  async function onlyOne(change: number, key: string) {
    const all = (await ours(change, key)).sort((one, other) => one.id - other.id);
    const [first = null, ...doubles] = all;
    // The oldest stays, because people have linked to it; and whoever looks at the same time keeps the same one.
    for (const double of doubles) {
      await api.MergeRequestNotes.remove(project, change, double.id).catch((error: unknown) => {
        if (!isAbsent(error)) throw error;
      });
    }
    return first;
  }

  async function ensure(change: number, key: string, markdown: string) {
    const body = withMarker(key, markdown);
    const link = async (id: number) => `${await changeUrl(change)}#note_${id}`;
    const first = await onlyOne(change, key);
    if (!first) {
      const made = read(written, await api.MergeRequestNotes.create(project, change, body), 'new comment');
      const kept = (await onlyOne(change, key)) ?? made;
      return { id: String(kept.id), url: await link(kept.id), changed: true, updatedAt: kept.updated_at };
    }
    const same = first.body.trimEnd() === body;
    const { updated_at } = same
      ? first
      : read(written, await api.MergeRequestNotes.edit(project, change, first.id, { body }), 'comment');
    return { id: String(first.id), url: await link(first.id), changed: !same, updatedAt: updated_at };
  }

  async function discussions(change: number) {
    const all: unknown = await api.MergeRequestDiscussions.all(project, change, { perPage: 100 });
    return read(z.array(discussionSchema), all, `threads of !${change}`);
  }

  async function listComments(change: number): Promise<Comment[]> {
    return (await discussions(change)).flatMap((thread) =>
      thread.notes.map((note) => toComment(note, thread.id)),
    );
  }

  return {
    listComments,
    ensureComment: (change, key, markdown) => inTurn(change, () => ensure(change, key, markdown)),
    ensureReply: (change, comment, key, markdown) =>
      inTurn(change, async () => {
        const body = withMarker(key, markdown);
        const earlier = await onlyOne(change, key);
        if (earlier) {
          if (earlier.body.trimEnd() !== body) {
            await api.MergeRequestNotes.edit(project, change, earlier.id, { body });
          }
          return;
        }
        try {
          await api.MergeRequestDiscussions.addNote(project, change, comment.thread, body);
        } catch (error) {
          // The thread is gone, or of a kind that takes no answers.
          if (!(error instanceof UpstreamError && (error.status === 404 || error.status === 400)))
            throw error;
          await api.MergeRequestNotes.create(project, change, body);
        }
        await onlyOne(change, key);
      }),
    async react(change, comment, emoji) {
      const me = await self();
      const note = Number(comment);
      const isGiven = async () => {
        const given: unknown = await api.MergeRequestNoteAwardEmojis.all(project, change, note);
        const awards = read(z.array(awardSchema), given, 'reactions');
        return awards.some((award) => award.name === emoji && String(award.user.id) === me.id);
      };
      if (await isGiven()) return;
      try {
        await api.MergeRequestNoteAwardEmojis.award(project, change, note, emoji);
      } catch (error) {
        // Somebody was faster with the same token (404 "Award Emoji Name has already been taken"); or there is no comment.
        if (!isAbsent(error) || !(await isGiven())) throw error;
      }
    },
    async getComment(change, id) {
      return (await listComments(change)).find((comment) => comment.id === id) ?? null;
    },
  };
}
