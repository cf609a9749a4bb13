import { chmod, mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import { UserError } from '../core/error.ts';

const versionSchema = z.strictObject({
  candidate: digestSchema,
  package: digestSchema,
  /** Where the package's files are. */
  folder: z.string().min(1),
  version: z.int().positive(),
  /** Share of the route's requests, 0 to 100; only relations matter. */
  weight: z.number().min(0).max(100),
  replicas: z.int().min(1).max(100),
});

/** First path segments that mean something else, so that no environment can have them as its name. */
export const reservedPrefixes = ['v2', 'api', 'seldon', 'metrics', 'healthz'];

/** What people want of one model in one environment. `stable` is the candidate of the last deployment that ended well. */
export const routeSchema = z.strictObject({
  stable: digestSchema.nullable(),
  versions: z.array(versionSchema).max(10),
});

const desiredSchema = z.strictObject({
  v: z.literal(1),
  /** The front port, the same for the life of the folder. */
  port: z.int().min(1).max(65_535),
  routes: z.record(z.string(), z.record(z.string(), routeSchema)),
});

/** One version of a route: a package, its share of the requests, and how many processes serve it. */
export type RouteVersion = z.infer<typeof versionSchema>;
/** See {@link routeSchema}. */
export type Route = z.infer<typeof routeSchema>;
/** Everything a gateway must bring back after a kill: models → environments → routes. */
export type Desired = z.infer<typeof desiredSchema>;

const stateFile = 'desired.json';

/** The desired state of a gateway's folder, or null when it never ran. Throws UserError artifact-corrupt. */
export async function readDesired(folder: string): Promise<Desired | null> {
  let text: string;
  try {
    text = await readFile(join(folder, stateFile), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  try {
    return desiredSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new UserError(
      'artifact-corrupt',
      `${join(folder, stateFile)} is not the state of a gateway`,
      'stop the target, delete the file and deploy again',
      { cause },
    );
  }
}

/** Writes the desired state so that a kill or power cut leaves the old or the new one, whole. */
export async function writeDesired(folder: string, desired: Desired): Promise<void> {
  const path = join(folder, stateFile);
  const file = await open(`${path}.new`, 'w', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(desired, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}

/** Makes a gateway's folder, for its owner alone: its control socket lies in it. */
export async function prepareFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
}
