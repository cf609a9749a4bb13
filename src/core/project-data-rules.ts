import { z } from 'zod';
import { globSchema } from './project-names.ts';

/** What an item may be called in rules about text: its declared attribute, or a field of a record. */
const fieldName = z.string().min(1).max(200);

const range = z
  .strictObject({ min: z.number().optional(), max: z.number().optional() })
  .refine((r) => r.min !== undefined || r.max !== undefined, { message: 'a range has min, max or both' })
  .refine((r) => r.min === undefined || r.max === undefined || r.min <= r.max, {
    message: 'min is above max',
  });

const pattern = z.string().refine(
  (text) => {
    try {
      new RegExp(text, 'u');
      return true;
    } catch {
      return false;
    }
  },
  { message: 'not a regular expression (ECMAScript, flag u)' },
);

/** One field of a record: a small part of JSON Schema under the same names. */
const fieldSchema = z.strictObject({
  type: z.enum(['string', 'number', 'integer', 'boolean', 'array', 'object', 'null']).optional(),
  required: z.boolean().default(false).describe('whether it must be there and not null'),
  minimum: z.number().optional().describe('of a number'),
  maximum: z.number().optional().describe('of a number'),
  min_length: z.int().nonnegative().optional().describe('of a string, in characters'),
  max_length: z.int().nonnegative().optional().describe('of a string, in characters'),
  pattern: pattern.optional().describe('that a string must match (ECMAScript, flag u)'),
  enum: z
    .array(z.union([z.string(), z.number(), z.boolean()]))
    .min(1)
    .optional()
    .describe('allowed values'),
});

/** A function of the project's own: a module bundled from declared files, or any program that speaks JSON lines. */
export const customSchema = z
  .strictObject({
    module: globSchema.optional().describe('TypeScript module of the project that exports check or clean'),
    command: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe('program and arguments; gets one JSON line an item and answers one line each'),
    code: z.array(globSchema).min(1).describe('globs of everything it needs; it sees only these'),
    timeout: z.number().positive().max(86_400).default(600).describe('seconds until it is killed'),
  })
  .refine((c) => (c.module === undefined) !== (c.command === undefined), {
    message: 'a custom function is either a module or a command',
  });

const amountRules = {
  min_items: z.int().nonnegative().default(1).describe('items of the training side'),
  min_per_class: z.int().nonnegative().default(1).describe('items of each class of the training side'),
  max_imbalance: z.number().min(1).optional().describe('largest class ÷ smallest class'),
  max_invalid: z.number().min(0).max(1).default(0.01).describe('share of items that may be quarantined'),
};

/** `datasets.<d>.rules`: amount and quality of a version, and what each of its items must be. */
export const rulesSchema = z.strictObject({
  ...amountRules,
  bytes: range.optional().describe('size of an item in bytes'),
  characters: range.optional().describe('length of a text in characters'),
  encoding: z.enum(['utf-8']).optional().describe('of texts and records'),
  extensions: z.array(z.string().min(1)).min(1).optional().describe('allowed ones, without the dot'),
  labelled: z.boolean().optional().describe('whether every item must have a label'),
  image: z
    .strictObject({
      formats: z
        .array(z.enum(['png', 'jpeg', 'gif', 'webp']))
        .min(1)
        .default(['png', 'jpeg', 'gif', 'webp']),
      width: range.optional().describe('in pixels'),
      height: range.optional().describe('in pixels'),
    })
    .optional()
    .describe('every item decodes as a picture, to its last pixel'),
  fields: z
    .record(fieldName, fieldSchema)
    .optional()
    .describe('fields of a JSON record; others may be there too'),
  duplicates: z
    .strictObject({
      max_exact: z.number().min(0).max(1).optional().describe('share of items that are exact copies'),
      max_near: z
        .number()
        .min(0)
        .max(1)
        .optional()
        .describe('share of texts that nearly equal another, as split.group_near compares them'),
    })
    .optional(),
  check: customSchema.optional().describe('check(item) gives null, or why the item is invalid'),
});

const fields = z.array(fieldName).min(1);

/** One step of cleaning; those without parameters are written as their name. */
const cleanStepSchema = z.union([
  z
    .enum(['recode', 'normalize', 'strip_control', 'strip_html', 'collapse_spaces', 'trim', 'lowercase'])
    .describe(
      'recode: windows-1252 to UTF-8 where the bytes are no UTF-8; normalize: Unicode NFC; the others as they are called',
    ),
  z.strictObject({ drop: fields.describe('fields of a record, or attributes, that are left out') }),
  z.strictObject({ mask: fields.describe('fields whose value becomes ***') }),
  z.strictObject({
    pseudonymise: fields.describe('fields whose value becomes a keyed hash (key: CDL_PSEUDONYM_KEY)'),
  }),
  z.strictObject({ run: customSchema.describe('clean(item) gives the item as it is to be stored') }),
]);

/** `datasets.<d>.clean`: steps in the order they are done. */
export const cleanSchema = z.array(cleanStepSchema).min(1);

/** What the step `clean` asks of single items; the rest of the rules is about a version as a whole. */
export const itemRuleNames = [
  'bytes',
  'characters',
  'encoding',
  'extensions',
  'labelled',
  'image',
  'fields',
  'check',
] as const;

/** `datasets.<d>.sensitive`: true for all content, or names of fields. */
export const sensitiveSchema = z.union([z.literal(true), fields]);

/** `datasets.<d>.poll`: what happens when a source has something new. */
export const pollSchema = z.strictObject({
  propose: z.boolean().default(true).describe('whether the bot opens a change with the new pins'),
});

/** See {@link rulesSchema}. */
export type DataRules = z.output<typeof rulesSchema>;
/** See {@link cleanSchema}. */
export type CleanStep = z.output<typeof cleanStepSchema>;
/** Steps that read an item as text; of a picture they would set every one aside. */
export const textStepNames: readonly unknown[] = [
  'recode',
  'normalize',
  'strip_control',
  'strip_html',
  'collapse_spaces',
  'trim',
  'lowercase',
];

/** See {@link customSchema}. */
export type CustomFunction = z.output<typeof customSchema>;
/** See {@link sensitiveSchema}. */
export type Sensitive = z.output<typeof sensitiveSchema>;

/** A function of the project's own, with the place in `cdl.yaml` it stands at. */
export interface OwnFunction {
  what: string;
  task: 'clean' | 'check';
  config: CustomFunction;
}

/** The functions of a data set in the order in which cleaning asks for them: its `run` steps, then `rules.check`. */
export function ownFunctions(config: {
  clean?: readonly CleanStep[] | undefined;
  rules: DataRules;
}): OwnFunction[] {
  const steps = (config.clean ?? []).flatMap((step, index): OwnFunction[] =>
    typeof step === 'object' && 'run' in step
      ? [{ what: `clean[${index}].run`, task: 'clean', config: step.run }]
      : [],
  );
  const { check } = config.rules;
  return check ? [...steps, { what: 'rules.check', task: 'check', config: check }] : steps;
}
