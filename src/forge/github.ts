import { z } from 'zod';
import { UpstreamError, UserError } from '../core/error.ts';
import { orNull } from './absent.ts';
import { createAssets } from './github-assets.ts';
import { createOctokit, type GithubAuth, openIdentity } from './github-client.ts';
import { createComments } from './github-comments.ts';
import { createHooks } from './github-hooks.ts';
import { createIssues } from './github-issues.ts';
import { perPage, readPages } from './github-pages.ts';
import { createPeople, createReleases } from './github-people.ts';
import { createRuns } from './github-runs.ts';
import * as schema from './github-schema.ts';
import { read, toChange, toPerson } from './github-schema.ts';
import { createStatusWriter } from './github-status.ts';
import { branchFor, lately } from './lately.ts';
import { createLimits } from './limits.ts';
import type { Network } from './network.ts';
import type { Change, Forge, Person } from './types.ts';

/** How to reach a repository on GitHub or GitHub Enterprise Server. */
export interface GithubOptions extends Network {
  /** Base of the REST API: `https://api.github.com`, or `https://HOST/api/v3`. */
  url: string;
  /** `owner/repository`. */
  project: string;
  auth: GithubAuth;
  /** Starts evaluations; of another identity than `auth`, so that the bot's pushes cannot start them. */
  evaluationToken?: string | undefined;
  /** File below .github/workflows whose runs are the pipelines; default `cdl.yml`. */
  workflow?: string | undefined;
}

/** The web page of a server by the base of its API (docs.github.com, enterprise-server: `/api/v3`). */
export function webUrl(api: string): string {
  const url = new URL(api);
  if (url.hostname === 'api.github.com') return 'https://github.com';
  // Enterprise Cloud with data residency: api.NAME.ghe.com.
  if (/^api\.[^.]+\.ghe\.com$/.test(url.hostname)) return `https://${url.hostname.slice(4)}`;
  return api.replace(/\/+$/, '').replace(/\/api\/v3$/, '');
}

/** Whether GitHub says that the very thing is there already. */
function exists(error: unknown): boolean {
  return error instanceof UpstreamError && error.status === 422 && /already exists/i.test(error.message);
}

/**
 * A repository on GitHub (REST API 2022-11-28). Pipelines are the runs of one workflow file. Throws UserError config-invalid
 * for a URL or path that is none; what the calls throw: {@link Forge}.
 */
export async function openGithub(options: GithubOptions): Promise<Forge> {
  const { project, auth } = options;
  const network: Network = { ca: options.ca, proxy: options.proxy, limits: createLimits() };
  if (!/^https?:\/\/[^/]/.test(options.url)) {
    throw new UserError('config-invalid', `${options.url} is not the URL of GitHub's API (http or https)`);
  }
  const [owner, repo, ...rest] = project.split('/');
  if (!owner || !repo || rest.length > 0) {
    throw new UserError('config-invalid', `"${project}" is not a repository of GitHub: owner/name`);
  }
  const url = options.url.replace(/\/+$/, '');
  const where = { owner, repo };
  const page = `${webUrl(url)}/${owner}/${repo}`;
  const identity = await openIdentity({ url, owner, repo, auth, network });
  const { octokit } = identity;
  const { evaluationToken } = options;
  const starter = evaluationToken
    ? await createOctokit({ url, network, token: async () => evaluationToken })
    : octokit;
  const { repos, pulls, git } = octokit.rest;

  let known: Promise<Person> | null = null;
  const self = (): Promise<Person> => {
    known ??= identity.self().then(toPerson, (error: unknown) => {
      known = null;
      throw error;
    });
    return known;
  };

  async function getChange(id: number): Promise<Change | null> {
    const found = await orNull(() => pulls.get({ ...where, pull_number: id }));
    return found === null ? null : toChange(read(schema.pullSchema, found.data, `#${id}`));
  }

  async function findChange(source: string, target: string): Promise<Change | null> {
    const head = `${owner}:${source}`;
    const found = await pulls.list({ ...where, state: 'open', head, base: target, per_page: 20 });
    const [first] = read(z.array(schema.pullSchema), found.data, 'pull requests').map(toChange);
    return first ?? null;
  }

  return {
    kind: 'github',
    project,
    self,
    getChange,
    ...createComments(octokit, where, self, page),
    ...createPeople(octokit, where),
    ...createReleases(octokit, where),
    ...createRuns({
      octokit,
      starter,
      where,
      workflow: options.workflow ?? 'cdl.yml',
      url,
      token: identity.token,
      network,
      changeOf: getChange,
    }),
    setStatus: createStatusWriter(identity, self, where),
    upload: createAssets(octokit, where, page),
    ...createHooks(identity, where),
    ...createIssues(octokit, where, self),
    // Its check runs carry annotations, see setStatus; commit statuses of an account cannot, and the report names the lines.
    ensureLineThreads: async () => {},
    defaultBranch: lately(branchFor, async () => {
      const found = await repos.get(where);
      return read(schema.repositorySchema, found.data, 'the repository').default_branch;
    }),
    git() {
      // docs.github.com, authenticating as a GitHub App installation: user x-access-token; for accounts' tokens any user.
      const header = async () => {
        const basic = Buffer.from(`x-access-token:${await identity.token()}`).toString('base64');
        return `Authorization: Basic ${basic}`;
      };
      return { url: `${page}.git`, header, network };
    },
    async listChanges(filter) {
      const since = 'updatedSince' in filter ? Date.parse(filter.updatedSince) : null;
      const found = await readPages(
        async (number) => {
          const answer = await pulls.list({
            ...where,
            per_page: perPage,
            page: number,
            sort: 'updated',
            direction: 'desc',
            state: since === null ? 'open' : 'all',
          });
          return read(z.array(schema.pullSchema), answer.data, 'pull requests');
        },
        (all) => since !== null && Date.parse(all.at(-1)?.updated_at ?? '') < since,
      );
      return found.filter((one) => since === null || Date.parse(one.updated_at) >= since).map(toChange);
    },
    async changedFiles(id) {
      const files = await readPages(async (number) => {
        const found = await pulls.listFiles({ ...where, pull_number: id, per_page: perPage, page: number });
        return read(z.array(schema.fileSchema), found.data, `files of #${id}`);
      });
      const paths = files.flatMap((file) => [file.filename, file.previous_filename ?? file.filename]);
      return [...new Set(paths)].sort();
    },
    async readFile(path, ref) {
      const found = await orNull(() => repos.getContent({ ...where, path, ref }));
      if (found === null) return null;
      const content = read(schema.contentSchema, found.data, path);
      if (Array.isArray(content) || content.type !== 'file') return null;
      // Above 1 MiB there is no content here (REST, get repository content).
      const encoded =
        content.encoding === 'base64'
          ? content.content
          : read(schema.blobSchema, (await git.getBlob({ ...where, file_sha: content.sha })).data, path)
              .content;
      return Buffer.from(encoded, 'base64').toString('utf8');
    },
    async ensureChange(change) {
      const found = await findChange(change.source, change.target);
      if (found) return found;
      try {
        const made = await pulls.create({
          ...where,
          head: change.source,
          base: change.target,
          title: change.title,
          body: change.description,
        });
        return toChange(read(schema.pullSchema, made.data, 'new pull request'));
      } catch (error) {
        // Somebody (or a repeated call) was faster.
        const again = exists(error) ? await findChange(change.source, change.target) : null;
        if (again) return again;
        throw error;
      }
    },
  };
}
