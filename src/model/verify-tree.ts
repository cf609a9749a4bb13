import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Zone } from '../store/types.ts';

/** What was found of one artifact whose every byte was read again. Sizes in bytes. */
export interface Checked {
  /** What it is to whoever names it: `package`, `checkpoint`, or the kind of an artifact further down. */
  name: string;
  digest: Digest;
  state: 'whole' | 'missing' | 'corrupt';
  /** What is wrong, in words. */
  why: string | null;
  files: number;
  bytes: number;
}

function stateOf(error: unknown): Pick<Checked, 'state' | 'why'> {
  if (!(error instanceof UserError) || !error.code.startsWith('artifact-')) throw error;
  return { state: error.code === 'artifact-missing' ? 'missing' : 'corrupt', why: error.message };
}

async function readThrough(zone: Zone, digest: Digest, size: number): Promise<void> {
  let read = 0;
  for await (const chunk of await zone.openBlob(digest)) read += (chunk as Buffer).length;
  if (read === size) return;
  throw new UserError('artifact-corrupt', `blob ${digest} has ${read} bytes, its manifest says ${size}`);
}

/**
 * Reads artifacts, all their files and what they were made of again, and compares every digest: `depth` steps down (the
 * trusted zone holds an evaluation's parents, and not theirs). `seen` holds what was read before (of another version, for
 * instance): that is told again only if it is not whole. Throws what is no matter of content, as an UpstreamError.
 */
export async function verifyTree(
  zone: Zone,
  roots: readonly { name: string; digest: Digest }[],
  options: { seen: Map<Digest, Checked>; depth: number; signal: AbortSignal },
): Promise<Checked[]> {
  const found: Checked[] = [];
  const { seen, depth, signal } = options;
  const open = roots.map((root) => ({ ...root, level: 0 }));
  for (let next = open.shift(); next !== undefined; next = open.shift()) {
    signal.throwIfAborted();
    const { name, digest, level } = next;
    const known = seen.get(digest);
    if (known) {
      if (known.state !== 'whole' && !found.includes(known)) found.push(known);
      continue;
    }
    const one: Checked = { name, digest, state: 'whole', why: null, files: 0, bytes: 0 };
    seen.set(digest, one);
    found.push(one);
    const artifact: Artifact | null = await zone.getArtifact(digest).catch((error: unknown) => {
      Object.assign(one, stateOf(error));
      return null;
    });
    if (!artifact) continue;
    for (const file of artifact.files) {
      one.files += 1;
      one.bytes += file.size;
      await readThrough(zone, file.digest, file.size).catch((error: unknown) => {
        const wrong = stateOf(error);
        Object.assign(one, { ...wrong, why: `${file.path}: ${wrong.why}` });
      });
    }
    if (level >= depth) continue;
    for (const parent of artifact.parents) {
      const kind = (await zone.getArtifact(parent).catch(() => null))?.kind;
      open.push({ name: kind ?? `a parent of ${name}`, digest: parent, level: level + 1 });
    }
  }
  return found;
}
