import { z } from 'zod';
import { UserError } from '../../core/error.ts';
import { isInsidePath } from '../../core/path.ts';
import { asUnreachable, persistently, Unreachable } from './attempts.ts';
import { ask } from './http.ts';
import type { FetchOptions } from './options.ts';

/** Where models are when nobody says otherwise. */
export const publicHub = 'https://huggingface.co';

/** Bytes of the answer that lists a repository. */
const largestAnswer = 16 << 20;
/** Files that are taken of one repository. */
const mostFiles = 2000;

const answerSchema = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/, 'not a commit'),
  siblings: z.array(z.object({ rfilename: z.string().min(1).max(1024) })).max(100_000),
});

/** A repository of a hub at one commit, and the address of each wanted file by its path. */
export interface HubListing {
  commit: string;
  files: { path: string; url: string }[];
}

/**
 * The files of `organisation/name@revision` (Hugging Face Hub API: `GET /api/models/{repo}/revision/{revision}`), whose
 * addresses name the commit and not the revision, which may move meanwhile. Throws UserError source-unreachable; data-invalid
 * for an answer that is none, for paths that lead out of the repository, and where nothing or too much is wanted.
 */
export async function listHub(
  name: string,
  endpoint: string,
  isWanted: (path: string) => boolean,
  options: FetchOptions,
): Promise<HubListing> {
  const at = name.indexOf('@');
  const repository = name.slice(0, at);
  const base = endpoint.replace(/\/+$/, '');
  const asked = `${base}/api/models/${repository}/revision/${encodeURIComponent(name.slice(at + 1))}`;
  const text = await persistently(asked, options, () => readText(asked, options));
  const parsed = answerSchema.safeParse(parseJson(text));
  if (!parsed.success) {
    throw new UserError(
      'data-invalid',
      `${asked} does not answer as a hub does: ${z.prettifyError(parsed.error)}`,
      'is CDL_HF_ENDPOINT the address of a Hugging Face hub?',
    );
  }
  const { sha: commit, siblings } = parsed.data;
  const paths = siblings.map((one) => one.rfilename);
  const odd = paths.find((path) => !isInsidePath(path));
  if (odd !== undefined) {
    throw new UserError('data-invalid', `hf:${name} lists a file outside itself: ${JSON.stringify(odd)}`);
  }
  const wanted = [...new Set(paths.filter(isWanted))].sort();
  if (wanted.length === 0 || wanted.length > mostFiles) {
    const some = paths.slice(0, 10).join(', ');
    throw new UserError(
      'data-invalid',
      `${wanted.length === 0 ? 'no file' : `${wanted.length} files`} of hf:${name} would be taken; it has ${some}${paths.length > 10 ? ', …' : ''}`,
      'say which ones under from.files in cdl.yaml',
    );
  }
  const files = wanted.map((path) => ({
    path,
    url: `${base}/${repository}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`,
  }));
  return { commit, files };
}

async function readText(url: string, options: FetchOptions): Promise<string> {
  const signal = options.signal ?? new AbortController().signal;
  try {
    const answer = await ask(url, { accept: 'application/json' }, options, signal);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > largestAnswer) throw new UserError('data-invalid', `${url} answers more than 16 MiB`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  } catch (error) {
    throw error instanceof Unreachable || error instanceof UserError ? error : asUnreachable(error);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
