import { z } from 'zod';
import { globSchema, sha256Schema } from './project-names.ts';
import { limitsSchema } from './project-read.ts';

const kinds = ['version', 'hf', 'npm', 'https', 's3'] as const;

const urlSchema = z
  .url()
  .refine(
    (url) => !/^[a-z]+:\/\/[^/]*@/i.test(url),
    'credentials do not belong into a URL: CDL_SOURCE_TOKENS',
  );

/** `models.<model>.from`: a pretrained model that training starts from. Exactly one of {@link kinds}. */
export const fromSchema = z
  .strictObject({
    version: z
      .string()
      .regex(
        /^(?:[a-z0-9][a-z0-9_-]{0,62}\/v[1-9]\d{0,8}|sha256:[0-9a-f]{64})$/,
        'not <model>/v<number>, nor the digest of a checkpoint',
      )
      .optional()
      .describe('version of this registry (fashion/v3), or the digest of a checkpoint'),
    hf: z
      .string()
      .regex(
        /^[\w][\w.-]{0,95}\/[\w][\w.-]{0,95}@(?!.*\.\.)[\w][\w./-]{0,199}$/,
        'not <organisation>/<name>@<revision>',
      )
      .optional()
      .describe(
        'repository of a Hugging Face hub: organisation/name@revision (CDL_HF_ENDPOINT: another hub)',
      ),
    npm: z.string().optional().describe('package@version of the npm registry'),
    https: z.array(urlSchema).min(1).optional().describe('one URL a file'),
    s3: z
      .array(z.string().regex(/^s3:\/\//, 'not s3://bucket/key'))
      .min(1)
      .optional()
      .describe('s3://bucket/key?endpoint=…, one a file'),
    files: z
      .array(globSchema)
      .min(1)
      .default(['**'])
      .describe('which files of a repository or package are wanted'),
    sha256: z
      .union([sha256Schema, z.array(sha256Schema).min(1)])
      .optional()
      .describe(
        'of the package, or of each file in order; of a repository: of the lines sha256sum prints of its wanted files; of a version: of its checkpoint. Without it what is seen first is recorded',
      ),
    limits: limitsSchema.optional(),
  })
  .refine((from) => kinds.filter((kind) => from[kind] !== undefined).length === 1, {
    message: `a pretrained model comes from exactly one of ${kinds.join(', ')}`,
  })
  .optional()
  .describe('a pretrained model that training starts from');

/** See {@link fromSchema}. */
export type FromConfig = NonNullable<z.output<typeof fromSchema>>;

/** What a pretrained model is called, without what stands after `?` of an address. */
export function fromName(from: FromConfig): string {
  if (from.version !== undefined) return from.version;
  if (from.hf !== undefined) return `hf:${from.hf}`;
  if (from.npm !== undefined) return `npm:${from.npm}`;
  return (from.https ?? from.s3 ?? []).map((url) => url.replace(/[?#].*$/s, '')).join(', ');
}
