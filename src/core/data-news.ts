import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { sha256Schema } from './project-names.ts';

/** One pin of a source that is to become another: where it stands below `datasets.<d>.sources`, what it is and would be. */
const pinChangeSchema = z.union([
  z.strictObject({
    source: z.int().nonnegative(),
    /** Which file of the source; null where one sha256 stands for all of it. */
    file: z.int().nonnegative().nullable(),
    kind: z.literal('sha256'),
    from: sha256Schema,
    to: sha256Schema,
  }),
  z.strictObject({
    source: z.int().nonnegative(),
    kind: z.literal('npm'),
    from: z.string().max(300),
    // A package name and an exact version (npm, package.json docs; semver.org): nothing else reaches cdl.yaml.
    to: z
      .string()
      .max(300)
      .regex(
        /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*@\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/,
      ),
  }),
  z.strictObject({
    source: z.int().nonnegative(),
    kind: z.literal('git'),
    from: z.string().max(200),
    // A version tag: nothing else reaches cdl.yaml.
    to: z
      .string()
      .max(200)
      .regex(/^v?\d+(\.\d+){0,3}$/),
  }),
  // Goes with new pins: the sides that the items of the versions before have, and keep.
  z.strictObject({ kind: z.literal('after'), from: digestSchema.nullable(), to: digestSchema }),
]);

/** What `poll` found in the sources of a data set: the changes of pins that would take it up. */
export const dataNewsSchema = z.strictObject({
  v: z.literal(1),
  dataset: z.string(),
  changes: z.array(pinChangeSchema).min(1).max(1000),
});

/** See {@link dataNewsSchema}. */
export type DataNews = z.output<typeof dataNewsSchema>;
/** One of {@link DataNews}' changes. */
export type PinChange = DataNews['changes'][number];

/** The path of a pin in `cdl.yaml`. */
export function pinPath(dataset: string, change: PinChange): string[] {
  if (change.kind === 'after') return ['datasets', dataset, 'split', 'after'];
  const source = ['datasets', dataset, 'sources', String(change.source)];
  if (change.kind === 'npm') return [...source, 'npm'];
  if (change.kind === 'git') return [...source, 'git', 'ref'];
  return [...source, 'sha256', ...(change.file === null ? [] : [String(change.file)])];
}
