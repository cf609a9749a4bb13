import { basename } from 'node:path';
import { type Digest, digestBytes } from '../core/digest.ts';
import { listTree, readTreeFiles } from './code.ts';

/** Files in which package managers write what exactly they installed. */
const names = new Set([
  'package-lock.json',
  'npm-shrinkwrap.json',
  'yarn.lock',
  'pnpm-lock.yaml',
  'bun.lock',
  'requirements.txt',
  'poetry.lock',
  'Pipfile.lock',
  'pdm.lock',
  'uv.lock',
  'conda-lock.yml',
  'pixi.lock',
  'Cargo.lock',
  'go.sum',
]);

/** More than this is a collection of projects, of which a model needs none in particular. */
const most = 50;

/** The lockfiles of a commit, or (ref null) of the worktree, by path, with digest and text. Throws UserError file-missing. */
export async function lockfiles(
  root: string,
  ref: string | null,
): Promise<{ path: string; digest: Digest; text: string }[]> {
  const found = (await listTree(root, ref))
    .filter(({ path, mode }) => mode.startsWith('100') && names.has(basename(path)))
    .slice(0, most);
  const contents = await readTreeFiles(root, ref, found);
  return found.map(({ path }, index) => {
    const bytes = contents[index]!;
    return { path, digest: digestBytes(bytes), text: bytes.toString('utf8') };
  });
}
