import type { Octokit } from '@octokit/rest';
import { z } from 'zod';
import { UpstreamError } from '../core/error.ts';
import { orNull } from './absent.ts';
import { perPage, readPages } from './github-pages.ts';
import * as schema from './github-schema.ts';
import { read, toPerson } from './github-schema.ts';
import type { Forge } from './types.ts';

/** GitHub's roles (docs.github.com, repository roles for an organization) as GitLab's numbers. */
const levels: Record<string, number> = {
  admin: 50,
  maintain: 40,
  write: 30,
  triage: 20,
  read: 10,
  pull: 10,
  push: 30,
};

type Where = { owner: string; repo: string };

/** Commits a pull request's own list is cut at (docs.github.com, REST, list commits on a pull request). */
const listedCommits = 250;

type Commit = z.infer<typeof schema.commitSchema>;

/** Whether this is GitHub's own account, the committer of what is done on its pages: the person is the author then. */
const isWebFlow = (account: Commit['committer']): boolean =>
  Boolean(account && 'login' in account && account.login === 'web-flow');

/** Who signed a commit by what git says, and the account behind the address: names in git are anybody's to choose. */
function signed(
  written: Commit['commit']['committer'],
  account: Commit['committer'],
): { name: string; email: string }[] {
  const linked = account && 'login' in account ? account : null;
  return [
    ...(written ? [{ name: written.name, email: written.email }] : []),
    // Under the private address that GitHub gives it.
    ...(linked
      ? [{ name: linked.login, email: `${linked.id}+${linked.login}@users.noreply.github.com` }]
      : []),
  ];
}

/** The part of the port about who people are and what they did. */
export function createPeople(
  octokit: Octokit,
  where: Where,
): Pick<Forge, 'member' | 'groupMembers' | 'approvers' | 'commitAuthors'> {
  const { users, repos, teams, pulls } = octokit.rest;

  async function commitsOf(change: number) {
    const listed = await readPages(async (page) => {
      const found = await pulls.listCommits({ ...where, pull_number: change, per_page: perPage, page });
      return read(z.array(schema.commitSchema), found.data, `commits of #${change}`);
    });
    if (listed.length < listedCommits) return listed;
    const found = await pulls.get({ ...where, pull_number: change });
    const { base, head } = read(schema.pullSchema, found.data, `#${change}`);
    return readPages(async (page) => {
      const basehead = `${base.sha}...${head.sha}`;
      const compared = await repos.compareCommitsWithBasehead({
        ...where,
        basehead,
        per_page: perPage,
        page,
      });
      return read(schema.comparisonSchema, compared.data, `commits of #${change}`).commits;
    });
  }

  return {
    async member(userId) {
      if (!/^\d+$/.test(userId)) return null;
      const found = await orNull(() => users.getById({ account_id: Number(userId) }));
      if (!found) return null;
      const user = read(schema.userSchema, found.data, `user ${userId}`);
      // Everybody may read a public repository; only collaborators are members.
      const username = user.login;
      if (!(await orNull(() => repos.checkCollaborator({ ...where, username })))) return null;
      const may = await orNull(() => repos.getCollaboratorPermissionLevel({ ...where, username }));
      if (!may) return null;
      const { permission, role_name } = read(schema.permissionSchema, may.data, `permission of ${username}`);
      const level = levels[role_name] ?? levels[permission];
      return level === undefined ? null : { person: toPerson(user), level };
    },
    async groupMembers(path) {
      const [org, team_slug, ...rest] = path.split('/');
      if (!org || !team_slug || rest.length > 0) return null;
      const members = await orNull(() =>
        readPages(async (page) => {
          const found = await teams.listMembersInOrg({ org, team_slug, per_page: perPage, page });
          return read(z.array(schema.userSchema), found.data, `members of ${path}`);
        }),
      );
      return members === null ? null : members.map((one) => String(one.id));
    },
    async approvers(change) {
      const reviews = await orNull(() =>
        readPages(async (page) => {
          const found = await pulls.listReviews({ ...where, pull_number: change, per_page: perPage, page });
          return read(z.array(schema.reviewSchema), found.data, `reviews of #${change}`);
        }),
      );
      // Oldest first. A person's last word counts; a comment is none.
      const last = new Map<string, z.infer<typeof schema.reviewSchema>>();
      for (const review of reviews ?? []) {
        if (!review.user || !['APPROVED', 'CHANGES_REQUESTED', 'DISMISSED'].includes(review.state)) continue;
        last.set(String(review.user.id), review);
      }
      return [...last.values()]
        .filter((review) => review.state === 'APPROVED')
        .map((review) => ({
          person: toPerson(review.user),
          at: review.submitted_at ?? null,
          commit: review.commit_id ?? null,
        }));
    },
    async commitAuthors(id) {
      const authors = (await commitsOf(id)).flatMap(({ commit, author, committer }) => [
        ...signed(commit.author, author),
        ...(isWebFlow(committer) ? [] : signed(commit.committer, committer)),
      ]);
      return [...new Map(authors.map((one) => [`${one.name}\n${one.email}`, one])).values()];
    },
  };
}

/** Keeps a release (REST, releases): made when it is not there, its text corrected when it differs. */
export function createReleases(octokit: Octokit, where: Where): Pick<Forge, 'ensureRelease'> {
  const { repos } = octokit.rest;
  const find = async (tag: string) => {
    const found = await orNull(() => repos.getReleaseByTag({ ...where, tag }));
    return found === null ? null : read(schema.releaseSchema, found.data, `release ${tag}`);
  };
  return {
    async ensureRelease({ tag, commit, title, description }) {
      let release = await find(tag);
      if (!release) {
        try {
          const made = await repos.createRelease({
            ...where,
            tag_name: tag,
            target_commitish: commit,
            name: title,
            body: description,
          });
          return { url: read(schema.releaseSchema, made.data, 'new release').html_url };
        } catch (error) {
          // 422 already_exists: somebody (or a repeated call) was faster.
          if (!(error instanceof UpstreamError && error.status === 422)) throw error;
          release = await find(tag);
          if (!release) throw error;
        }
      }
      if (release.name !== title || (release.body ?? '') !== description) {
        await repos.updateRelease({ ...where, release_id: release.id, name: title, body: description });
      }
      return { url: release.html_url };
    },
  };
}
