import type { Gitlab } from '@gitbeaker/rest';
import { keepNewest } from '../core/keep.ts';
import { orNull } from './absent.ts';
import * as schema from './gitlab-schema.ts';
import { read, toPerson } from './gitlab-schema.ts';
import type { Forge } from './types.ts';

type Client = InstanceType<typeof Gitlab>;

/** Pipelines whose starters are kept in memory. */
const mostStarters = 5000;

/** The part of the port about who people are and what they did (GitLab REST: group members, approvals, pipelines). */
export function createPeople(
  api: Client,
  project: string,
): Pick<Forge, 'groupMembers' | 'approvers' | 'pipelineStarter'> {
  // A pipeline keeps the user who started it, whoever runs a job of it again (doc: api/pipelines).
  const starters = new Map<string, string>();
  return {
    async groupMembers(path) {
      const found: unknown = await orNull(() =>
        api.GroupMembers.all(path, { includeInherited: true, perPage: 100 }),
      );
      if (found === null) return null;
      return read(schema.groupMembersSchema, found, `members of ${path}`)
        .filter((one) => one.state === undefined || one.state === 'active')
        .map((one) => String(one.id));
    },
    async approvers(change) {
      const found: unknown = await orNull(() =>
        api.MergeRequestApprovals.showConfiguration(project, { mergerequestIId: change }),
      );
      if (found === null) return [];
      const { approved_by } = read(schema.approvalsSchema, found, `approvals of !${change}`);
      return approved_by.map(({ user, approved_at }) => ({
        person: toPerson(user),
        at: approved_at ?? null,
        commit: null,
      }));
    },
    async pipelineStarter(pipeline) {
      const known = starters.get(pipeline);
      if (known !== undefined) return known;
      const found: unknown = await orNull(() => api.Pipelines.show(project, Number(pipeline)));
      const user = found === null ? null : read(schema.starterSchema, found, `pipeline ${pipeline}`).user;
      return user ? keepNewest(starters, mostStarters, pipeline, String(user.id)) : null;
    },
  };
}

/** Keeps a release (doc: api/releases): made when it is not there, its text corrected when it differs. */
export function createReleases(api: Client, project: string, page: string): Pick<Forge, 'ensureRelease'> {
  return {
    async ensureRelease({ tag, commit, title, description }) {
      const url = `${page}/-/releases/${encodeURIComponent(tag)}`;
      const found: unknown = await orNull(() => api.ProjectReleases.show(project, tag));
      if (found !== null) {
        const release = read(schema.releaseSchema, found, `release ${tag}`);
        if (release.name !== title || release.description !== description) {
          await api.ProjectReleases.edit(project, tag, { name: title, description });
        }
        return { url };
      }
      const create = async () => {
        await api.ProjectReleases.create(project, { tagName: tag, ref: commit, name: title, description });
      };
      try {
        await create();
      } catch (error) {
        // 409: somebody (or a repeated call) was faster. 422: they have only made the tag yet.
        const { status } = error as { status?: number };
        if (status !== 409 && status !== 422) throw error;
        if ((await orNull<unknown>(() => api.ProjectReleases.show(project, tag))) !== null) return { url };
        await create().catch((again: unknown) => {
          if ((again as { status?: number }).status !== 409) throw again;
        });
      }
      return { url };
    },
  };
}
