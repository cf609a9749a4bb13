import { UserError } from '../core/error.ts';
import type { SourceLimits } from '../core/project-read.ts';

/** Archives that unpack to less than this are small whatever their ratio. */
const harmless = 16 << 20;

/** Counts what the files of an archive unpack to. Throws UserError data-invalid when that passes the limits. */
export function countUnpacked(name: string, packed: number, limits: SourceLimits): (size: number) => void {
  let total = 0;
  return (size) => {
    total += size;
    if (total > limits.unpacked) {
      throw bomb(name, `more than ${limits.unpacked} bytes (limits.unpacked)`);
    }
    if (total > harmless && total > packed * limits.ratio) {
      throw bomb(name, `more than ${limits.ratio} times its ${packed} bytes (limits.ratio)`);
    }
  };
}

const bomb = (name: string, what: string) =>
  new UserError(
    'data-invalid',
    `${name} unpacks to ${what}; nothing of it was used`,
    'if that is what you expect, raise limits: of this source in cdl.yaml',
  );

/** The path of an archive's member. Throws UserError data-invalid for one that leads out of the archive. */
export function safePath(path: string, archive: string): string {
  const parts = path.replace(/^(\.\/)+/, '').split('/');
  if (path.startsWith('/') || path.includes('\\') || path.includes('\0') || parts.includes('..')) {
    throw new UserError(
      'data-invalid',
      `${archive} holds ${JSON.stringify(path)}, a path that leads out of it; nothing of it was used`,
      'ask whoever made the archive for one with plain relative paths',
    );
  }
  return parts.join('/');
}

/** An archive that cannot be read to its end. */
export function damaged(name: string, cause: unknown): UserError {
  if (cause instanceof UserError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new UserError(
    'data-invalid',
    `${name} cannot be unpacked: ${why}`,
    'it is cut short or damaged: have it made, or fetched, once more',
    { cause },
  );
}
