import { z } from 'zod';
import {
  cleanSchema,
  itemRuleNames,
  pollSchema,
  rulesSchema,
  sensitiveSchema,
  textStepNames,
} from './project-data-rules.ts';
import { labelsSchema } from './project-labels.ts';
import { sha256Schema } from './project-names.ts';
import { limitsSchema, readProblems, readSchema, tensorFormats } from './project-read.ts';
import { nearThreshold, splitProblem, splitSchema } from './project-split.ts';

/** What sources there are. */
export const sourceKinds = ['npm', 'https', 'file', 's3', 'git'] as const;

const urlSchema = z
  .url()
  .refine(
    (url) => !/^[a-z]+:\/\/[^/]*@/i.test(url),
    'credentials do not belong into a URL: CDL_SOURCE_TOKENS',
  );

/** A list, in which one alone may stand without brackets. */
const oneOrMore = <T extends z.ZodType<string>>(item: T) =>
  z
    .preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(item).min(1))
    .meta({ type: ['array', 'string'] });

const gitSchema = z
  .strictObject({
    url: z
      .string()
      .max(2000)
      .regex(/^(?:(?:https?|ssh|git|file):\/\/|[\w.-]+@[\w.-]+:)/, 'not the address of a git repository')
      .refine((url) => !/^https?:\/\/[^/]*@/.test(url), 'credentials do not belong into a URL'),
    ref: z
      .string()
      .max(200)
      .regex(/^(?!-)(?!.*(\.\.|@\{|[\s~^:?*[\\]))\S+$/, 'not a commit or tag')
      .describe('commit (all its digits) or tag; a branch moves and is no pin'),
    path: z
      .string()
      .max(1000)
      .regex(/^(?!\/)(?!.*(^|\/)\.\.(\/|$))/, 'a path inside the repository')
      .transform((path) => path.replace(/\/+$/, ''))
      .default('')
      .describe('folder or file in it; default all'),
  })
  .describe('files of a git repository');

/** One place the data can be had from. Exactly one of {@link sourceKinds}. */
const sourceSchema = z
  .strictObject({
    npm: z.string().optional().describe('package@version of the npm registry'),
    https: oneOrMore(urlSchema).optional().describe('one URL a file'),
    file: oneOrMore(z.string())
      .optional()
      .describe('paths on the runner, one a file; folders and globs, too'),
    s3: oneOrMore(z.string().regex(/^s3:\/\//, 'not s3://bucket/key'))
      .optional()
      .describe('s3://bucket/key?endpoint=…, one a file; a key that ends in / stands for all below it'),
    git: gitSchema.optional(),
    in_place: z
      .boolean()
      .optional()
      .describe(
        's3 only: items that are objects of the bucket stay there; a data version says where they are and what they have to be',
      ),
    sha256: z
      .union([sha256Schema, z.array(sha256Schema)])
      .optional()
      .describe(
        'of the archive, or of each file in order (of a folder: of the lines sha256sum prints); without it what is seen first is recorded',
      ),
    side: z
      .enum(['train', 'test'])
      .optional()
      .describe('all its items are of this side; the other side comes from other sources'),
    limits: limitsSchema.optional(),
    read: readSchema,
  })
  .refine((s) => sourceKinds.filter((kind) => s[kind] !== undefined).length === 1, {
    message: `a source has exactly one of ${sourceKinds.join(', ')}`,
  });

/** A `git:` source. */
export type GitSource = z.output<typeof gitSchema>;

function inPlaceProblem(item: string, source: z.output<typeof sourceSchema>): string | null {
  if (!source.in_place) return null;
  if (!source.s3) return 'only what lies in a bucket (s3) can stay there';
  if (item === 'tensor') return 'tensors are made of what is read: only raw items can stay in place';
  const { read } = source;
  const isRow = (read.format === 'csv' || read.format === 'jsonl') && !read.file;
  return isRow ? `rows of ${read.format} are no objects of the bucket, which could stay there` : null;
}

/** One of `datasets:` in `cdl.yaml`. */
export const datasetSchema = z
  .strictObject({
    description: z.string().optional(),
    item: z
      .enum(['tensor', 'text', 'image', 'record', 'file'])
      .default('tensor')
      .describe('what one item is'),
    shape: z.array(z.int().positive()).max(4).default([]).describe('of one tensor, e.g. [28, 28]'),
    classes: z
      .array(z.string().min(1).max(80))
      .min(2)
      .max(256, 'at most 256 classes: a label is stored as one byte'),
    sources: z.array(sourceSchema).min(1).describe('the first that can be reached is used'),
    split: splitSchema,
    clean: cleanSchema
      .optional()
      .describe(
        'what is done to each item after it was collected, in this order; the result is what is stored',
      ),
    rules: rulesSchema.prefault({}).describe('what its items and its amount must be'),
    labels: labelsSchema.optional(),
    test_version: z
      .string()
      .regex(/^sha256:[0-9a-f]{64}$/, 'not a digest (sha256: and 64 hexadecimal digits)')
      .optional()
      .describe(
        'the withheld set that evaluations use, as cdl ingest --side test (or cdl clean) stored it; default: what the evaluating pipeline collects; read from the default branch only',
      ),
    poll: pollSchema.optional().describe('what is done when a scheduled pipeline finds something new'),
    sensitive: sensitiveSchema
      .optional()
      .describe('fields that reports and analyses mask; true masks all content'),
  })
  .superRefine((set, found) => {
    const problem = (path: (string | number)[], message: string | null) => {
      if (message) found.addIssue({ code: 'custom', path, message });
    };
    // Where what is read are raw items, that is what is told.
    const tensors = set.sources.some(({ read }) => tensorFormats.includes(read.format));
    if (set.item === 'tensor' && set.shape.length === 0 && tensors)
      problem(['shape'], 'a data set of tensors needs shape, e.g. [28, 28]');
    if (set.item !== 'tensor' && set.shape.length > 0)
      problem(['shape'], `only tensors have a shape, not item: ${set.item}`);
    for (const [index, source] of set.sources.entries()) {
      problem(['sources', index, 'read'], readProblems(set.item, source.read));
      problem(['sources', index, 'in_place'], inPlaceProblem(set.item, source));
    }
    problem(['split'], splitProblem(set.item, set.split));
    if (set.item === 'tensor') {
      if (set.clean) problem(['clean'], 'only raw items are cleaned, not item: tensor');
      for (const rule of itemRuleNames) {
        if (set.rules[rule] !== undefined)
          problem(['rules', rule], `${rule} is about raw items, not item: tensor`);
      }
    }
    const isText = set.item === 'text' || set.item === 'record' || set.item === 'file';
    for (const [index, step] of (set.clean ?? []).entries()) {
      if (!isText && set.item !== 'tensor' && textStepNames.includes(step))
        problem(['clean', index], `${String(step)} is for texts, not item: ${set.item}`);
    }
    if (set.rules.duplicates?.max_near !== undefined && nearThreshold(set.item, set.split) === null) {
      problem(
        ['rules', 'duplicates', 'max_near'],
        'max_near needs texts that are compared: say split.group_near',
      );
    }
    const sided = set.sources.filter((source) => source.side !== undefined);
    if (sided.length > 0 && sided.length < set.sources.length) {
      problem(['sources'], 'either every source says its side or none does');
    } else if (sided.length > 0 && new Set(sided.map((source) => source.side)).size < 2) {
      problem(['sources'], `no source is of side: ${sided[0]!.side === 'test' ? 'train' : 'test'}`);
    }
  });
