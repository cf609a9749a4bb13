import { accessOf, level, mayPush, protectionOf, requireProject, requireUser } from '../access.ts';
import { refsMoved } from '../forge.ts';
import { git, gitText, readCommit, resolveCommit, resolveRef, updateRef, zeroSha } from '../git.ts';
import { paginate } from '../page.ts';
import { requiredText, text } from '../params.ts';
import { presentBranch, presentCommit } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Project } from '../state.ts';
import { signatureOf } from './commits.ts';

async function names(project: Project, prefix: string): Promise<string[]> {
  const raw = await gitText(project.repository, ['for-each-ref', '--format=%(refname)', prefix]);
  return raw
    .split('\n')
    .filter((name) => name !== '')
    .map((name) => name.slice(prefix.length));
}

async function branchEntity(call: Call, project: Project, name: string) {
  const sha = await resolveRef(project.repository, `refs/heads/${name}`);
  const commit = sha === null ? null : await readCommit(project.repository, sha);
  if (!commit) throw new ApiError(404, '404 Branch Not Found');
  const role = accessOf(project, call.user, call.token);
  return presentBranch(call.world, project, name, commit, { push: mayPush(project, role, name) });
}

/** `GET /projects/:id/repository/branches`. */
export async function listBranches(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const search = text(call, 'search') ?? '';
  const regex = text(call, 'regex');
  const matches = (name: string) => {
    if (regex !== null) return new RegExp(regex).test(name);
    if (search.startsWith('^')) return name.startsWith(search.slice(1));
    if (search.endsWith('$')) return name.endsWith(search.slice(0, -1));
    return name.includes(search);
  };
  const found = (await names(project, 'refs/heads/')).filter(matches);
  return paginate(call, found, (name) => branchEntity(call, project, name));
}

/** `GET /projects/:id/repository/branches/:branch`. */
export async function getBranch(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return { status: 200, body: await branchEntity(call, project, call.params.branch ?? '') };
}

async function validName(project: Project, name: string): Promise<boolean> {
  if (name.startsWith('-') || /^[0-9a-f]{40}$/.test(name)) return false;
  return git(project.repository, ['check-ref-format', '--branch', name]).then(
    () => true,
    () => false,
  );
}

/** `POST /projects/:id/repository/branches`. */
export async function createBranch(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const name = requiredText(call, 'branch');
  const sha = await resolveCommit(project.repository, requiredText(call, 'ref'));
  if (!(await validName(project, name))) throw new ApiError(400, 'Branch name is invalid');
  if (sha === null) throw new ApiError(400, `Invalid reference name: ${text(call, 'ref')}`);
  if (!mayPush(project, accessOf(project, user, call.token), name)) throw new ApiError(403, '403 Forbidden');
  if (!(await updateRef(project.repository, `refs/heads/${name}`, sha, null)))
    throw new ApiError(400, 'Branch already exists');
  await refsMoved(call, project, user, [{ ref: `refs/heads/${name}`, old: zeroSha, new: sha }]);
  return { status: 201, body: await branchEntity(call, project, name) };
}

/** `DELETE /projects/:id/repository/branches/:branch`. */
export async function deleteBranch(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const name = call.params.branch ?? '';
  const ref = `refs/heads/${name}`;
  const sha = await resolveRef(project.repository, ref);
  if (sha === null) throw new ApiError(404, '404 Branch Not Found');
  if (name === project.defaultBranch) throw new ApiError(405, 'Cannot remove HEAD branch');
  if (protectionOf(project, name) && accessOf(project, user, call.token) < level.maintainer)
    throw new ApiError(405, "You don't have push access to repo");
  await updateRef(project.repository, ref, null, sha);
  await refsMoved(call, project, user, [{ ref, old: sha, new: zeroSha }]);
  return { status: 204 };
}

async function tagEntity(call: Call, project: Project, name: string) {
  const sha = await resolveRef(project.repository, `refs/tags/${name}`);
  const commit = sha === null ? null : await readCommit(project.repository, sha);
  if (!commit) throw new ApiError(404, '404 Tag Not Found');
  const target = await gitText(project.repository, ['rev-parse', `refs/tags/${name}`]);
  const message =
    target === commit.id
      ? ''
      : (
          await gitText(project.repository, ['for-each-ref', '--format=%(contents)', `refs/tags/${name}`])
        ).trimEnd();
  return {
    name,
    message,
    target,
    commit: presentCommit(call.world, project, commit),
    release: null,
    protected: false,
    created_at: null,
  };
}

/** `GET /projects/:id/repository/tags`. */
export async function listTags(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const search = text(call, 'search') ?? '';
  const found = (await names(project, 'refs/tags/')).filter((name) =>
    name.includes(search.replace(/^\^|\$$/g, '')),
  );
  return paginate(call, found.reverse(), (name) => tagEntity(call, project, name));
}

/** `GET /projects/:id/repository/tags/:tag_name`. */
export async function getTag(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  return { status: 200, body: await tagEntity(call, project, call.params.tag_name ?? '') };
}

/** `POST /projects/:id/repository/tags`; annotated when there is a message. */
export async function createTag(call: Call): Promise<Reply> {
  const project = requireProject(call, level.developer);
  const user = requireUser(call);
  const name = requiredText(call, 'tag_name');
  const sha = await resolveCommit(project.repository, requiredText(call, 'ref'));
  const message = text(call, 'message') ?? '';
  if (!(await validName(project, name))) throw new ApiError(400, 'Tag name invalid');
  if (sha === null) throw new ApiError(400, `Target ${text(call, 'ref')} is invalid`);
  const by = signatureOf(user);
  const object =
    message === ''
      ? sha
      : await gitText(project.repository, ['mktag'], {
          input: `object ${sha}\ntype commit\ntag ${name}\ntagger ${by.name} <${by.email}> ${Math.floor(Date.now() / 1000)} +0000\n\n${message}\n`,
        });
  if (!(await updateRef(project.repository, `refs/tags/${name}`, object, null)))
    throw new ApiError(400, `Tag ${name} already exists`);
  await refsMoved(call, project, user, [{ ref: `refs/tags/${name}`, old: zeroSha, new: sha }]);
  return { status: 201, body: await tagEntity(call, project, name) };
}

/** `DELETE /projects/:id/repository/tags/:tag_name`. */
export async function deleteTag(call: Call): Promise<Reply> {
  const project = requireProject(call, level.maintainer);
  const user = requireUser(call);
  const ref = `refs/tags/${call.params.tag_name ?? ''}`;
  const sha = await resolveRef(project.repository, ref);
  if (sha === null) throw new ApiError(404, '404 Tag Not Found');
  await git(project.repository, ['update-ref', '-d', ref]);
  await refsMoved(call, project, user, [{ ref, old: sha, new: zeroSha }]);
  return { status: 204 };
}
