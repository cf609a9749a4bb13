import type { Artifact } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { artifactKey, blobKey, inPlaceKey } from '../store/index.ts';
import type { Entry, Zone } from '../store/types.ts';
import { artifactIfThere } from '../store/zone.ts';

/**
 * Records that hold on to what they name only while they are young: results that can be had again (a step's cache, shares of
 * its workers, counts of versions, where an interrupted training goes on), and notes about versions. Whatever else a record names is kept.
 */
const weakRecords = ['cache/', 'parts/', 'recounts/', 'resume/', 'data-notes/', 'data-before/'];

/** What `collectGarbage` needs. */
export interface GarbageInput {
  /** The zone to be cleaned. */
  zone: Zone;
  /** Zones whose records and manifests may name what is in it. */
  others: readonly Zone[];
  /** What git holds on to: hexadecimal sha256 of manifests or objects. */
  roots: Iterable<string>;
  /** Nothing younger than this is removed, and what a younger manifest names is not either; in milliseconds. */
  grace: number;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Whether to remove anything, or only to say what would be. */
  remove: boolean;
  signal: AbortSignal;
}

/** What was, or would be, removed, and what stays. Sizes in bytes. */
export interface Garbage {
  manifests: Digest[];
  objects: { digest: Digest; size: number }[];
  bytes: number;
  kept: { manifests: number; objects: number; bytes: number };
  /** Records that only named what is gone. */
  records: string[];
}

const digits = /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g;
const base64 = /^[A-Za-z0-9+/_-]{24,}={0,2}$/;

/** Every sha256 that a JSON value names, in whatever form; signed statements carry theirs in base64. */
export function digestsIn(value: unknown, found: Set<string> = new Set()): Set<string> {
  if (typeof value === 'string') {
    for (const [one] of value.matchAll(digits)) found.add(one);
    if (base64.test(value) && !/^[0-9a-f]+$/.test(value)) {
      for (const [one] of Buffer.from(value, 'base64').toString('latin1').matchAll(digits)) found.add(one);
    }
  } else if (Array.isArray(value)) {
    for (const one of value) digestsIn(one, found);
  } else if (value !== null && typeof value === 'object') {
    for (const [key, one] of Object.entries(value)) {
      digestsIn(key, found);
      digestsIn(one, found);
    }
  }
  return found;
}

/** What can be reached: from roots through manifests to objects, parents and whatever else they name. */
export async function reachable(
  roots: Iterable<string>,
  namedBy: (digest: string) => Promise<Iterable<string>>,
): Promise<Set<string>> {
  const reached = new Set<string>(roots);
  const open = [...reached];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const one of await namedBy(next)) {
      if (reached.has(one)) continue;
      reached.add(one);
      open.push(one);
    }
  }
  return reached;
}

interface Marked {
  manifests: Map<string, Entry>;
  reached: Set<string>;
  /** Weak records that are old, by what they name. */
  weak: { key: string; names: Set<string> }[];
}

async function mark(input: GarbageInput): Promise<Marked> {
  const { zone, others, grace } = input;
  const now = input.now();
  const roots = new Set(input.roots);
  const weak: Marked['weak'] = [];
  for (const one of [zone, ...others]) {
    for await (const { key, modified } of one.listRecords('')) {
      const names = digestsIn((await one.readRecord(key))?.value);
      digestsIn(key, names);
      const isWeak = weakRecords.some((prefix) => key.startsWith(prefix));
      if (!isWeak || now - modified < grace) for (const name of names) roots.add(name);
      else if (one === zone) weak.push({ key, names });
    }
  }
  for (const other of others) {
    for await (const entry of manifestsOf(other)) {
      const manifest = await readManifest(other, entry.digest);
      if (manifest) digestsIn(manifest as never, roots);
    }
  }
  const manifests = new Map<string, Entry>();
  for await (const { digest, entry } of manifestsOf(zone)) {
    manifests.set(digest, entry);
    if (now - entry.modified < grace) roots.add(digest);
  }
  const reached = await reachable(roots, async (digest) => {
    input.signal.throwIfAborted();
    if (!manifests.has(digest)) return [];
    const manifest = await readManifest(zone, digest);
    return manifest ? digestsIn(manifest as never) : [];
  });
  return { manifests, reached, weak };
}

async function* manifestsOf(zone: Zone): AsyncGenerator<{ digest: string; entry: Entry }> {
  for await (const entry of zone.store.list(`${zone.name}/artifacts/`)) {
    const digest = /([0-9a-f]{64})\.json$/.exec(entry.key)?.[1];
    if (digest) yield { digest, entry };
  }
}

/** A manifest; null when it went away meanwhile. A damaged one names nothing that could be trusted: UserError artifact-corrupt. */
function readManifest(zone: Zone, digest: string): Promise<Artifact | null> {
  return artifactIfThere(zone, `sha256:${digest}`);
}

/** How often marking begins anew when what it found unused is used again meanwhile. */
const rounds = 5;

/**
 * Removes, or names, what nothing reaches: no record, no manifest that is young, none of the other zones, none of `roots`.
 *
 * Whoever refers to an object again makes it young first (`refreshAfter`), and manifests are written after what they name. So
 * an old object without a young manifest can be named by a writer only after he touched it, and an object goes only if it is
 * still old; manifests go first, so that a writer who finds one can rely on all it names.
 */
export async function collectGarbage(input: GarbageInput): Promise<Garbage> {
  const { zone, grace } = input;
  const isOld = (entry: Entry) => input.now() - entry.modified >= grace;
  for (let round = 1; ; round++) {
    const marked = await mark(input);
    const unused = [...marked.manifests].filter(([digest]) => !marked.reached.has(digest));
    const manifests: Digest[] = [];
    let isTouched = false;
    for (const [digest] of unused) {
      const key = artifactKey(zone.name, `sha256:${digest}`);
      if (input.remove && !(await zone.store.delete(key, { before: input.now() - grace }))) {
        isTouched = true;
        break;
      }
      manifests.push(`sha256:${digest}`);
    }
    if (isTouched) {
      if (round < rounds) continue;
      throw new UserError(
        'baseline-moved',
        'versions are being added all the time',
        'run cdl gc when it is calmer',
      );
    }
    return sweep(input, marked, manifests, isOld);
  }
}

/** Objects, and notes of where those are that lie elsewhere (which nobody here removes). */
async function* objectsOf(zone: Zone): AsyncGenerator<Entry> {
  for (const keyOf of [blobKey, inPlaceKey]) {
    const one = keyOf(zone.name, `sha256:${'0'.repeat(64)}`);
    yield* zone.store.list(one.replace(/[0-9a-f]{2}\/[0-9a-f]{64}$/, ''));
  }
}

async function sweep(
  input: GarbageInput,
  marked: Marked,
  manifests: Digest[],
  isOld: (entry: Entry) => boolean,
): Promise<Garbage> {
  const { zone } = input;
  const found: Garbage = {
    manifests,
    objects: [],
    bytes: 0,
    kept: { manifests: marked.manifests.size - manifests.length, objects: 0, bytes: 0 },
    records: [],
  };
  for await (const entry of objectsOf(zone)) {
    input.signal.throwIfAborted();
    const digest = /([0-9a-f]{64})$/.exec(entry.key)?.[1];
    const isUnused = digest !== undefined && !marked.reached.has(digest) && isOld(entry);
    // Somebody may have begun to rely on it since it was listed.
    const isKept =
      isUnused &&
      input.remove &&
      !(await zone.store.delete(entry.key, { before: input.now() - input.grace }));
    if (!isUnused || isKept) {
      found.kept.objects += 1;
      found.kept.bytes += entry.size;
      continue;
    }
    found.objects.push({ digest: `sha256:${digest}`, size: entry.size });
    found.bytes += entry.size;
  }
  const gone = new Set(
    [...manifests, ...found.objects.map(({ digest }) => digest)].map((digest) => digest.slice(7)),
  );
  for (const { key, names } of marked.weak) {
    if (![...names].some((name) => gone.has(name))) continue;
    if (input.remove) await zone.store.delete(`${zone.name}/records/${key}.json`);
    found.records.push(key);
  }
  return found;
}
