import { z } from 'zod';

const columnSchema = z.string().min(1).max(200);

const folderSchema = z
  .string()
  .max(1000)
  .regex(/^(?!\/)(?!.*(^|\/)\.\.(\/|$))/, 'a path inside the source, without ".." and no "/" before it')
  .transform((path) => path.replace(/\/+$/, ''))
  .default('')
  .describe('path in the source of the folder that holds them');

/** What `csv` and `jsonl` have in common: which column or field of a row means what. */
const rows = {
  files: z.string().min(1).optional().describe('glob of the files in the source; default by their ending'),
  text: columnSchema.optional().describe('column that is the item (item: text)'),
  file: columnSchema
    .optional()
    .describe('column with the path in the source of the item (item: image, file)'),
  fields: z.array(columnSchema).min(1).optional().describe('columns of a record; default all but the label'),
  label: columnSchema.optional().describe('column with the name of the class; empty means no label'),
  group: columnSchema.optional().describe('column whose equal values stay on one side of the split'),
  attributes: z.array(columnSchema).min(1).optional().describe('columns kept beside the item'),
};

/** `sources[].read`: how the files of a source become items. */
export const readSchema = z.discriminatedUnion('format', [
  z.strictObject({
    format: z.literal('json-rows').describe('one JSON file a class, {"data": [[values…], …]}'),
    files: z.string().describe('path in the archive with {class}, the number of the class'),
  }),
  z.strictObject({
    format: z.literal('idx').describe('IDX files as MNIST has them, plain or gzip'),
    images: z.array(z.string()).min(1),
    labels: z.array(z.string()).min(1),
  }),
  z.strictObject({
    format: z
      .literal('class-folders')
      .describe('one folder a class, one file an item; other folders are passed over'),
    folder: folderSchema,
  }),
  z.strictObject({
    format: z.literal('text-folder').describe('every text file; a folder called as a class is its label'),
    folder: folderSchema,
    extensions: z.array(z.string().min(1)).min(1).default(['txt', 'text', 'md']).describe('without the dot'),
  }),
  z.strictObject({
    format: z.literal('image-folder').describe('every picture; a folder called as a class is its label'),
    folder: folderSchema,
    extensions: z
      .array(z.string().min(1))
      .min(1)
      .default(['png', 'jpg', 'jpeg', 'gif', 'webp'])
      .describe('without the dot'),
  }),
  z.strictObject({
    format: z.literal('csv').describe('rows of CSV files (RFC 4180), the first one names the columns'),
    ...rows,
    delimiter: z.string().length(1).default(',').describe('between two values; "\\t" for tabs'),
  }),
  z.strictObject({ format: z.literal('jsonl').describe('one JSON object a line'), ...rows }),
]);

/** See {@link readSchema}. */
export type ReadConfig = z.output<typeof readSchema>;

/** Formats that give tensors; all others give raw items. */
export const tensorFormats: readonly ReadConfig['format'][] = ['json-rows', 'idx'];

const mega = 1 << 20;

/** `sources[].limits`: what a source may cost. What is larger is refused before it fills memory or disk. */
export const limitsSchema = z.strictObject({
  file: z
    .int()
    .positive()
    .default(10_240 * mega)
    .describe('bytes of one file of the source'),
  item: z
    .int()
    .positive()
    .max(1024 * mega)
    .default(64 * mega)
    .describe('bytes of one item; a larger one is set aside'),
  unpacked: z
    .int()
    .positive()
    .default(65_536 * mega)
    .describe('bytes of all that an archive holds'),
  ratio: z.number().min(1).default(200).describe('unpacked ÷ packed bytes of an archive'),
});

/** See {@link limitsSchema}. */
export type SourceLimits = z.output<typeof limitsSchema>;

/** Limits of a source that declares none. */
export const defaultLimits: SourceLimits = limitsSchema.parse({});

/** What is wrong with how a data set's items are read, for the rules of `cdl.yaml`. */
export function readProblems(
  item: 'tensor' | 'text' | 'image' | 'record' | 'file',
  read: ReadConfig,
): string | null {
  const tensors = tensorFormats.includes(read.format);
  if (tensors && item !== 'tensor') return `read.format ${read.format} gives tensors, not item: ${item}`;
  if (!tensors && item === 'tensor') {
    return `read.format ${read.format} gives raw items: say item: text, image, record or file`;
  }
  if (read.format === 'text-folder' && item !== 'text') return `text-folder gives texts, not item: ${item}`;
  if (read.format === 'image-folder' && item !== 'image') return `image-folder gives pictures, not ${item}`;
  if (read.format !== 'csv' && read.format !== 'jsonl') return null;
  if (item === 'text' && !read.text) return `read.text names no column, and item is text`;
  if ((item === 'image' || item === 'file') && !read.file)
    return `read.file names no column, and item is ${item}`;
  return null;
}
