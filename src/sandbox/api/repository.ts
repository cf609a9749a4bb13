import { createHash } from 'node:crypto';
import { level, requireProject } from '../access.ts';
import { diff, git, gitText, log, mergeBase, readBlob, readCommit, resolveCommit } from '../git.ts';
import { paginate } from '../page.ts';
import { flag, list, text } from '../params.ts';
import { presentCommit, presentDiff } from '../present.ts';
import { ApiError, type Call, type Reply } from '../route.ts';
import type { Project } from '../state.ts';

/** The commit a `ref` parameter names (`HEAD` and nothing are the default branch). Throws an ApiError 404. */
export async function requireCommit(project: Project, ref: string | null, what = '404 Commit Not Found') {
  const name = ref === null || ref === 'HEAD' ? project.defaultBranch : ref;
  const commit = await readCommit(project.repository, name);
  if (!commit) throw new ApiError(404, what);
  return commit;
}

async function fileAt(call: Call) {
  const project = requireProject(call, level.reporter);
  const ref = text(call, 'ref') ?? 'HEAD';
  const path = call.params.file_path ?? '';
  const commit = await requireCommit(project, ref);
  const blob = await readBlob(project.repository, commit.id, path);
  if (!blob) throw new ApiError(404, '404 File Not Found');
  const last = (
    await gitText(project.repository, ['log', '-1', '--format=%H', commit.id, '--', path])
  ).trim();
  return { project, ref, path, commit, blob, last };
}

/** `GET /projects/:id/repository/files/:file_path`, and HEAD with the same facts in headers. */
export async function getFile(call: Call): Promise<Reply> {
  const { ref, path, commit, blob, last } = await fileAt(call);
  const facts = {
    file_name: path.split('/').at(-1) ?? path,
    file_path: path,
    size: blob.bytes.length,
    encoding: 'base64',
    content_sha256: createHash('sha256').update(blob.bytes).digest('hex'),
    ref,
    blob_id: blob.id,
    commit_id: commit.id,
    last_commit_id: last,
    execute_filemode: blob.mode === '100755',
  };
  if (call.method === 'HEAD') {
    return {
      status: 200,
      headers: Object.fromEntries(
        Object.entries(facts).map(([key, value]) => [`x-gitlab-${key.replaceAll('_', '-')}`, String(value)]),
      ),
    };
  }
  return { status: 200, body: { ...facts, content: blob.bytes.toString('base64') } };
}

/** `GET /projects/:id/repository/files/:file_path/raw`. */
export async function getRawFile(call: Call): Promise<Reply> {
  const { path, blob } = await fileAt(call);
  const name = path.split('/').at(-1) ?? path;
  return {
    status: 200,
    body: blob.bytes,
    headers: {
      'content-type': blob.bytes.includes(0) ? 'application/octet-stream' : 'text/plain; charset=utf-8',
      'content-disposition': `inline; filename*=UTF-8''${encodeURIComponent(name)}`,
      'x-gitlab-blob-id': blob.id,
      'x-gitlab-size': String(blob.bytes.length),
    },
  };
}

/** `GET /projects/:id/repository/tree`. */
export async function getTree(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const commit = await requireCommit(project, text(call, 'ref'), '404 Tree Not Found');
  const path = (text(call, 'path') ?? '').replace(/^\/+|\/+$/g, '');
  const recursive = flag(call, 'recursive') === true ? ['-r', '-t'] : [];
  const raw = await gitText(project.repository, [
    'ls-tree',
    '-z',
    ...recursive,
    commit.id,
    ...(path === '' ? [] : ['--', `${path}/`]),
  ]);
  const entries = raw
    .split('\0')
    .filter((line) => line !== '')
    .map((line) => {
      const [head = '', entryPath = ''] = line.split('\t');
      const [mode = '', type = '', id = ''] = head.split(' ');
      return { id, name: entryPath.split('/').at(-1) ?? entryPath, type, path: entryPath, mode };
    })
    .filter((entry) => entry.path !== path);
  if (entries.length === 0 && path !== '') throw new ApiError(404, '404 invalid revision or path Not Found');
  return paginate(call, entries, (entry) => entry);
}

/** `GET /projects/:id/repository/blobs/:sha/raw`. */
export async function getBlob(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const sha = call.params.sha ?? '';
  if (!/^[0-9a-f]{40}$/.test(sha)) throw new ApiError(404, '404 Blob Not Found');
  try {
    const bytes = await git(project.repository, ['cat-file', 'blob', sha]);
    return { status: 200, body: bytes, headers: { 'content-type': 'application/octet-stream' } };
  } catch {
    throw new ApiError(404, '404 Blob Not Found');
  }
}

/** `GET /projects/:id/repository/merge_base`. */
export async function getMergeBase(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const refs = list(call, 'refs') ?? [];
  if (refs.length < 2) throw new ApiError(400, 'Provide at least 2 refs');
  const [first, ...rest] = await Promise.all(refs.map((ref) => resolveCommit(project.repository, ref)));
  let base = first ?? null;
  for (const next of rest) {
    if (base === null || next === null) throw new ApiError(400, `Could not find ref: ${refs.join(', ')}`);
    base = await mergeBase(project.repository, base, next);
  }
  const commit = base === null ? null : await readCommit(project.repository, base);
  if (!commit) throw new ApiError(404, '404 Merge Base Not Found');
  return { status: 200, body: presentCommit(call.world, project, commit) };
}

/** `GET /projects/:id/repository/compare`. */
export async function compare(call: Call): Promise<Reply> {
  const project = requireProject(call, level.reporter);
  const from = await requireCommit(project, text(call, 'from') ?? '', '404 Ref Not Found');
  const to = await requireCommit(project, text(call, 'to') ?? '', '404 Ref Not Found');
  const straight = flag(call, 'straight') === true;
  const base = straight ? from.id : ((await mergeBase(project.repository, from.id, to.id)) ?? from.id);
  const commits = await log(project.repository, ['--reverse', `${from.id}..${to.id}`]);
  const diffs = await diff(project.repository, base, to.id);
  return {
    status: 200,
    body: {
      commit: presentCommit(call.world, project, to),
      commits: commits.map((commit) => presentCommit(call.world, project, commit)),
      diffs: diffs.map(presentDiff),
      compare_timeout: false,
      compare_same_ref: from.id === to.id,
      web_url: `${call.world.url}/${project.namespace}/${project.path}/-/compare/${from.id}...${to.id}`,
    },
  };
}
