import type { Octokit } from '@octokit/rest';
import { z } from 'zod';
import { longestComment } from './github-comments.ts';
import { perPage, readPages } from './github-pages.ts';
import * as schema from './github-schema.ts';
import { read } from './github-schema.ts';
import { hasMarker, withMarker } from './marker.ts';
import type { Forge, Person } from './types.ts';

/** Issues of ours, known by a hidden marker and by who wrote them. */
export function createIssues(
  octokit: Octokit,
  where: { owner: string; repo: string },
  self: () => Promise<Person>,
): Pick<Forge, 'ensureIssue' | 'closeIssue'> {
  const { issues } = octokit.rest;

  async function find(key: string) {
    const me = await self();
    const open = await readPages(async (page) => {
      const found = await issues.listForRepo({
        ...where,
        state: 'open',
        creator: me.username,
        per_page: perPage,
        page,
      });
      return read(z.array(schema.issueSchema), found.data, 'issues');
    });
    return open.find(
      (one) =>
        one.pull_request === undefined && String(one.user?.id) === me.id && hasMarker(key, one.body ?? ''),
    );
  }

  return {
    async ensureIssue(key, { title, description, labels }) {
      const body = withMarker(key, description, longestComment);
      const mine = await find(key);
      if (mine) {
        if (mine.title !== title || mine.body?.replaceAll('\r\n', '\n').trimEnd() !== body) {
          await issues.update({ ...where, issue_number: mine.number, title, body });
        }
        return { url: mine.html_url };
      }
      const made = await issues.create({ ...where, title, body, labels });
      return { url: read(schema.issueSchema, made.data, 'new issue').html_url };
    },
    async closeIssue(key) {
      const mine = await find(key);
      if (mine) await issues.update({ ...where, issue_number: mine.number, state: 'closed' });
    },
  };
}
