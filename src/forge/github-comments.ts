import type { Octokit } from '@octokit/rest';
import { z } from 'zod';
import { isAbsent, orNull } from './absent.ts';
import { perPage, readPages } from './github-pages.ts';
import { commentSchema, read, toComment } from './github-schema.ts';
import { hasMarker, withMarker } from './marker.ts';
import type { Forge } from './types.ts';

/** The part of {@link Forge} that is about comments. */
export type Comments = Pick<Forge, 'ensureComment' | 'ensureReply' | 'react' | 'listComments' | 'getComment'>;

/** Longest comment GitHub takes, in characters ("Body is too long (maximum is 65536 characters)"). */
export const longestComment = 65_536;

/** GitHub's eight reactions (docs.github.com, REST, reactions) for the names the bot uses; others become `eyes`. */
const reactions: Record<string, '+1' | '-1' | 'confused' | 'eyes'> = {
  thumbsup: '+1',
  no_entry: '-1',
  confused: 'confused',
  eyes: 'eyes',
};

/**
 * Comments on pull requests: those of the issue behind it. GitHub has no upsert, so ours carry a hidden marker; only a
 * comment of our own account counts as ours, whatever it says. Calls for one change are queued, so that one process never
 * writes two. `page` is the address of the repository's web page.
 */
export function createComments(
  octokit: Octokit,
  where: { owner: string; repo: string },
  self: () => Promise<{ id: string }>,
  page: string,
): Comments {
  const queues = new Map<number, Promise<unknown>>();
  const { issues } = octokit.rest;

  function inTurn<T>(change: number, work: () => Promise<T>): Promise<T> {
    const turn = (queues.get(change) ?? Promise.resolve()).then(work, work);
    queues.set(change, turn);
    const leave = () => {
      if (queues.get(change) === turn) queues.delete(change);
    };
    turn.then(leave, leave);
    return turn;
  }

  const all = (change: number) =>
    readPages(async (number) => {
      const found = await issues.listComments({
        ...where,
        issue_number: change,
        per_page: perPage,
        page: number,
      });
      return read(z.array(commentSchema), found.data, `comments of #${change}`);
    });

  async function ours(change: number, key: string) {
    const me = await self();
    return (await all(change)).filter((one) => String(one.user?.id) === me.id && hasMarker(key, one.body));
  }

  async function create(change: number, body: string) {
    const made = await issues.createComment({ ...where, issue_number: change, body });
    return read(commentSchema, made.data, 'new comment');
  }

  /** Our oldest comment with this key, the only one afterwards: a lost answer or two bots at once leave others. */
  async function onlyOne(change: number, key: string) {
    const all = (await ours(change, key)).sort((one, other) => one.id - other.id);
    const [first = null, ...doubles] = all;
    // The oldest stays, because people have linked to it; and whoever looks at the same time keeps the same one.
    for (const double of doubles)
      await orNull(() => issues.deleteComment({ ...where, comment_id: double.id }));
    return first;
  }

  async function ensure(change: number, key: string, markdown: string) {
    const body = withMarker(key, markdown, longestComment);
    const first = await onlyOne(change, key);
    if (!first) {
      const made = await create(change, body);
      const kept = (await onlyOne(change, key)) ?? made;
      return { id: String(kept.id), url: kept.html_url, changed: true, updatedAt: kept.updated_at };
    }
    // GitHub gives line ends back as they were sent, except where a person edited in the browser.
    const same = first.body.replaceAll('\r\n', '\n').trimEnd() === body;
    const answer = same ? null : await issues.updateComment({ ...where, comment_id: first.id, body });
    const { updated_at } = answer ? read(commentSchema, answer.data, `comment ${first.id}`) : first;
    return { id: String(first.id), url: first.html_url, changed: !same, updatedAt: updated_at };
  }

  return {
    listComments: async (change) => (await all(change)).map(toComment),
    ensureComment: (change, key, markdown) => inTurn(change, () => ensure(change, key, markdown)),
    ensureReply: (change, comment, key, markdown) =>
      inTurn(change, async () => {
        // No threads here: a link says what is answered. Nothing is quoted, nobody is mentioned.
        const link = `[In answer to this comment](${page}/pull/${change}#issuecomment-${comment.id})`;
        await ensure(change, key, `${link}\n\n${markdown}`);
      }),
    async react(_change, comment, emoji) {
      const content = reactions[emoji] ?? 'eyes';
      try {
        // Giving the same again answers 200 and changes nothing.
        await octokit.rest.reactions.createForIssueComment({
          ...where,
          comment_id: Number(comment),
          content,
        });
      } catch (error) {
        // The comment was deleted meanwhile.
        if (!isAbsent(error)) throw error;
      }
    },
    async getComment(change, id) {
      if (!/^\d+$/.test(id)) return null;
      const found = await orNull(() => issues.getComment({ ...where, comment_id: Number(id) }));
      if (!found) return null;
      const comment = read(commentSchema, found.data, `comment ${id}`);
      return comment.issue_url.endsWith(`/issues/${change}`) ? toComment(comment) : null;
    },
  };
}
