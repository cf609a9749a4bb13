import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import { candidateDigest, candidateSchema } from '../core/candidate.ts';
import { versionKey } from '../core/claim.ts';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { noteRun, runRecord } from './runs.ts';

/** One version of a model: content and number in one record, so that neither can exist without the other. */
export const versionSchema = z.strictObject({
  v: z.literal(1),
  project: z.string(),
  model: z.string(),
  version: z.int().positive(),
  candidate: candidateSchema,
  /** The run artifact whose training made it. */
  run: digestSchema,
  /** Lockfiles of package managers that the commit held: what the code around the model was installed from. */
  dependencies: z.array(z.strictObject({ path: z.string(), digest: digestSchema })).optional(),
  /** The artifact with the bill of materials that they make, and how many packages it names. */
  sbom: z.strictObject({ artifact: digestSchema, components: z.int().nonnegative() }).optional(),
});

/** See {@link versionSchema}. */
export type Version = z.infer<typeof versionSchema>;

/**
 * Gives a candidate its version: the next free number, or the one it already has (`existed`), whatever happened before or
 * happens at the same time.
 *
 * What counts is one write-if-absent of the record under its number. Losing a race means that somebody took the number: if
 * for the same candidate, that is the answer, otherwise the next number is tried. A process that is killed has either written
 * the whole record or nothing. The version's run is noted after it, so that whoever drops the run's last version meanwhile
 * either sees this one, or finds the run young, or has its record written again.
 */
export async function registerVersion(zone: Zone, entry: VersionEntry): Promise<Registered> {
  const { run, ...registered } = await takeVersion(zone, entry);
  await noteRun(zone, entry.project, run);
  return registered;
}

type VersionEntry = Pick<Version, 'project' | 'model' | 'candidate' | 'run' | 'dependencies' | 'sbom'>;

interface Registered {
  version: number;
  existed: boolean;
}

/** The version with its run, which for one that existed may be another than the one given. */
async function takeVersion(zone: Zone, entry: VersionEntry): Promise<Registered & { run: Digest }> {
  const { project, model, candidate } = entry;
  const wanted = candidateDigest(candidate);
  const taken = await takenNumbers(zone, project, model);
  // Newest first: a job that runs again nearly always finds its candidate at once.
  for (const number of [...taken].reverse()) {
    const found = await readVersion(zone, project, model, number);
    if (!found || candidateDigest(found.candidate) !== wanted) continue;
    // Made young, so that nobody who has just found it old removes it; gone meanwhile, it gets another number.
    if (await zone.touchRecord(versionKey(project, model, number)))
      return { version: number, existed: true, run: found.run };
  }
  for (let version = (taken.at(-1) ?? 0) + 1; ; version++) {
    const record: Version = { v: 1, ...entry, version };
    const written = await zone.writeRecord(versionKey(project, model, version), record, { ifAbsent: true });
    if (written === 'stored') return { version, existed: false, run: entry.run };
    const winner = await readVersion(zone, project, model, version);
    if (winner && candidateDigest(winner.candidate) === wanted)
      return { version, existed: true, run: winner.run };
  }
}

/**
 * All versions of a model (above `after`), oldest first. Records that are none (jobs of any branch may write here) are
 * passed over.
 */
export async function listVersions(
  zone: Zone,
  project: string,
  model: string,
  after = 0,
): Promise<Version[]> {
  const versions: Version[] = [];
  for (const number of await takenNumbers(zone, project, model)) {
    if (number <= after) continue;
    const version = await readVersion(zone, project, model, number);
    if (version) versions.push(version);
  }
  return versions;
}

/** One version of a model; null for a number that is free, or whose record is none. */
export async function readVersion(
  zone: Zone,
  project: string,
  model: string,
  version: number,
): Promise<Version | null> {
  const record = await zone.readRecord(versionKey(project, model, version));
  const parsed = versionSchema.safeParse(record?.value);
  if (!parsed.success) return null;
  const one = parsed.data;
  const fits = one.version === version && one.model === model && one.project === project;
  return fits && one.candidate.model === model ? one : null;
}

/**
 * Removes the records of versions that are as old as when they were looked at (`modified`, milliseconds since 1970), and those of
 * trainings that no version names any more. Tells which versions went: one that was registered again meanwhile stays, and so
 * does a training of which another version is registered meanwhile.
 */
export async function dropVersions(
  zone: Zone,
  project: string,
  model: string,
  versions: readonly { version: number; run: Digest; modified: number }[],
): Promise<number[]> {
  const gone: number[] = [];
  for (const { version, modified } of versions)
    if (await zone.deleteRecord(versionKey(project, model, version), modified)) gone.push(version);
  const runs = new Set(versions.flatMap(({ version, run }) => (gone.includes(version) ? [run] : [])));
  // Their ages first: a version that the list below does not have yet makes its run young after that.
  const found: { run: Digest; modified: number }[] = [];
  for (const run of runs)
    for await (const { modified } of zone.listRecords(runRecord(project, run))) found.push({ run, modified });
  const needed = new Set((await listVersions(zone, project, model)).map(({ run }) => run));
  for (const { run, modified } of found)
    if (!needed.has(run)) await zone.deleteRecord(runRecord(project, run), modified);
  return gone;
}

/** The numbers in use, ascending, whatever is stored under them. */
async function takenNumbers(zone: Zone, project: string, model: string): Promise<number[]> {
  const prefix = versionKey(project, model, 1).replace(/[^/]*$/, '');
  const numbers: number[] = [];
  for await (const key of zone.listRecordKeys(prefix)) {
    const number = /^(\d{8,12})\.json$/.exec(key.slice(prefix.length))?.[1];
    if (number) numbers.push(Number(number));
  }
  return numbers.sort((a, b) => a - b);
}
