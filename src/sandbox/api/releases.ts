import { level, requireProject, requireUser } from '../access.ts';
import { refsMoved } from '../forge.ts';
import { readCommit, resolveCommit, resolveRef, updateRef, zeroSha } from '../git.ts';
import { requiredText, text } from '../params.ts';
import { presentCommit, presentUserId } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Project, Release } from '../state.ts';

async function present(call: Call, project: Project, release: Release): Promise<object> {
  const sha = await resolveRef(project.repository, `refs/tags/${release.tag}`);
  const commit = sha === null ? null : await readCommit(project.repository, sha);
  return {
    name: release.name,
    tag_name: release.tag,
    description: release.description,
    created_at: release.createdAt,
    released_at: release.createdAt,
    upcoming_release: false,
    author: presentUserId(call.world, release.authorId),
    commit: commit && presentCommit(call.world, project, commit),
    commit_path: sha && `/${project.namespace}/${project.path}/-/commit/${sha}`,
    tag_path: `/${project.namespace}/${project.path}/-/tags/${release.tag}`,
  };
}

function find(call: Call, project: Project): Release {
  const release = project.releases.get(call.params.tag_name ?? '');
  if (!release) throw new ApiError(404, '404 Not Found');
  return release;
}

/** `GET /projects/:id/releases/:tag_name`. */
export async function getRelease(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return { status: 200, body: await present(call, project, find(call, project)) };
}

/** `POST /projects/:id/releases`; makes the tag at `ref` when it is not there. */
export async function createRelease(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const tag = requiredText(call, 'tag_name');
  if (project.releases.has(tag)) throw new ApiError(409, 'Release already exists');
  const ref = `refs/tags/${tag}`;
  if ((await resolveRef(project.repository, ref)) === null) {
    const sha = await resolveCommit(project.repository, text(call, 'ref') ?? '');
    if (sha === null) throw new ApiError(422, 'Ref is not specified');
    if (!(await updateRef(project.repository, ref, sha, null)))
      throw new ApiError(422, 'Tag could not be created');
    await refsMoved(call, project, user, [{ ref, old: zeroSha, new: sha }]);
  }
  const release: Release = {
    tag,
    name: text(call, 'name') ?? tag,
    description: text(call, 'description') ?? '',
    authorId: user.id,
    createdAt: new Date().toISOString(),
  };
  project.releases.set(tag, release);
  return { status: 201, body: await present(call, project, release) };
}

/** `PUT /projects/:id/releases/:tag_name`. */
export async function editRelease(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const release = find(call, project);
  release.name = text(call, 'name') ?? release.name;
  release.description = text(call, 'description') ?? release.description;
  return { status: 200, body: await present(call, project, release) };
}
