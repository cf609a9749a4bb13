import type { Octokit } from '@octokit/rest';
import { digestBytes } from '../core/digest.ts';
import { UpstreamError } from '../core/error.ts';
import { orNull } from './absent.ts';
import { objectSchema, read } from './github-schema.ts';
import type { Forge } from './types.ts';

/** The branch that holds pictures of reports. It shares no history with others; deleting it loses pictures only. */
export const assetsBranch = 'cdl-assets';

const tries = 4;

/** Somebody else moved or made the branch, or wrote the file, between our reading and our writing. */
function isRace(error: unknown): boolean {
  return error instanceof UpstreamError && (error.status === 409 || error.status === 422);
}

/**
 * Keeps pictures as files of an orphan branch, because GitHub's API takes no uploads (only its web page does). A file is
 * named by the digest of its bytes, so the same picture is there once. The address is the repository's own, which readers of
 * a private repository may open in their browser; gives markdown, or the HTML that says how wide it is shown.
 */
export function createAssets(
  octokit: Octokit,
  where: { owner: string; repo: string },
  page: string,
): Forge['upload'] {
  const { git, repos } = octokit.rest;
  let turn: Promise<unknown> = Promise.resolve();

  async function createBranch(path: string, content: string): Promise<void> {
    const blob = await git.createBlob({ ...where, content, encoding: 'base64' });
    const { sha } = read(objectSchema, blob.data, 'new blob');
    const tree = await git.createTree({ ...where, tree: [{ path, mode: '100644', type: 'blob', sha }] });
    const commit = await git.createCommit({
      ...where,
      message: 'chore: pictures of reports',
      tree: read(objectSchema, tree.data, 'new tree').sha,
      parents: [],
    });
    await git.createRef({
      ...where,
      ref: `refs/heads/${assetsBranch}`,
      sha: read(objectSchema, commit.data, 'new commit').sha,
    });
  }

  async function put(path: string, content: string): Promise<void> {
    const branch = await orNull(() => git.getRef({ ...where, ref: `heads/${assetsBranch}` }));
    if (!branch) return createBranch(path, content);
    if (await orNull(() => repos.getContent({ ...where, path, ref: assetsBranch }))) return;
    await repos.createOrUpdateFileContents({
      ...where,
      path,
      branch: assetsBranch,
      message: 'chore: a picture of a report',
      content,
    });
  }

  async function upload(name: string, bytes: Uint8Array, width?: number): Promise<string> {
    const hash = digestBytes(bytes).replace('sha256:', '');
    const extension = /\.([a-z0-9]{1,8})$/i.exec(name)?.[1] ?? 'png';
    const path = `${hash.slice(0, 2)}/${hash}.${extension}`;
    const content = Buffer.from(bytes).toString('base64');
    for (let attempt = 1; ; attempt++) {
      try {
        await put(path, content);
        break;
      } catch (error) {
        if (!isRace(error) || attempt === tries) throw error;
      }
    }
    const title = name.replace(/\.[a-z0-9]+$/i, '').replace(/[^A-Za-z0-9 ._-]/g, '_');
    const address = `${page}/raw/${assetsBranch}/${path}`;
    // GitHub's markdown knows no widths (docs.github.com, basic writing and formatting syntax, images); the tag may say one.
    return width === undefined
      ? `![${title}](${address})`
      : `<img width="${Math.round(width)}" alt="${title}" src="${address.replaceAll('"', '%22')}">`;
  }

  return (name, bytes, width) => {
    // One at a time: each is a commit on top of the one before.
    const next = turn.then(() => upload(name, bytes, width));
    turn = next.catch(() => {});
    return next;
  };
}
