import { z } from 'zod';

/** Name of a project, model, data set or environment. */
export const nameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'not a name (lower-case letters, digits, - and _)');

/** The 64 hexadecimal digits of a sha256. */
export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'not a sha256 (64 hexadecimal digits)');

/** A glob that selects files of the project and cannot leave it. */
export const globSchema = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), 'a path inside the project')
  .refine((path) => !path.startsWith('!'), 'no exclusion: name what the model needs');
