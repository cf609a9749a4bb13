import { createHash } from 'node:crypto';
import { UserError } from '../../core/error.ts';

/** One file of a folder: its sha256, or why it can be no item (`link`, `socket`, `pipe`, `device`, `name-not-utf-8`). */
export type ListedFile = { path: string; sha256: string } | { path: string; problem: string };

const width = 64;

/** A path as sha256sum(1) writes it: a line that is escaped begins with a backslash. */
const escapePath = (path: string): { mark: string; path: string } =>
  /[\\\n\r]/.test(path)
    ? { mark: '\\', path: path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r') }
    : { mark: '', path };

const unescapePath = (path: string): string =>
  path.replace(/\\([\\nr])/g, (_, letter: string) => (letter === 'n' ? '\n' : letter === 'r' ? '\r' : '\\'));

/**
 * All files of a folder as one text: the lines of `sha256sum`, in the order of the paths' bytes; what can be no item stands
 * there with its reason instead of a sha256. The sha256 of this text is what pins a folder.
 */
export function encodeListing(files: readonly ListedFile[]): string {
  const lines = files.map((file) => {
    const { mark, path } = escapePath(file.path);
    return {
      path: file.path,
      line: `${mark}${'sha256' in file ? file.sha256 : file.problem.padEnd(width)}  ${path}\n`,
    };
  });
  return lines
    .sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)) || (a.line < b.line ? -1 : 1))
    .map(({ line }) => line)
    .join('');
}

/** Reads what {@link encodeListing} wrote. Throws UserError artifact-corrupt for anything else. */
export function decodeListing(text: string): ListedFile[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const isEscaped = line.startsWith('\\');
      const rest = isEscaped ? line.slice(1) : line;
      const first = rest.slice(0, width);
      if (rest.slice(width, width + 2) !== '  ')
        throw new UserError('artifact-corrupt', `this is no list of files: ${line.slice(0, 80)}`);
      const path = isEscaped ? unescapePath(rest.slice(width + 2)) : rest.slice(width + 2);
      return /^[0-9a-f]{64}$/.test(first) ? { path, sha256: first } : { path, problem: first.trimEnd() };
    });
}

/** The sha256 that pins a folder of these files. */
export const listingDigest = (files: readonly ListedFile[]): string =>
  createHash('sha256').update(encodeListing(files)).digest('hex');
