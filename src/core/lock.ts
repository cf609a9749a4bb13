import { type Document, isMap, LineCounter, parseDocument, stringify } from 'yaml';
import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { type Candidate, candidateDigest } from './candidate.ts';
import { canonicalJson, type Digest } from './digest.ts';
import { UserError } from './error.ts';

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'not a name (lower-case letters, digits, - and _)');

/** Hyperparameters by name, in the order of their names. */
export const tunedSchema = z.record(
  z.string().regex(/^[a-z][a-z0-9_]{0,60}$/),
  z.union([z.number(), z.string().max(200), z.boolean()]),
);

const entrySchema = z.strictObject({
  candidate: digestSchema,
  evaluation: digestSchema,
  code: digestSchema,
  config: digestSchema,
  dataset: digestSchema,
  transform: digestSchema.nullable(),
  checkpoint: digestSchema,
  package: digestSchema,
  info: z.strictObject({
    version: z.int().positive(),
    run: digestSchema,
    /** Hyperparameters that a search found. */
    tuned: tunedSchema.optional(),
  }),
});

const lockSchema = z.strictObject({
  version: z.literal(1),
  models: z.record(name, z.record(name, entrySchema)),
});

/** What is (or is proposed to be) live for one model in one environment. `info` is for people and not hashed. */
export type LockEntry = z.infer<typeof entrySchema>;

/** `cdl.lock`: models → environments → entries. */
export type Lock = z.infer<typeof lockSchema>;

/** The file's name at the project root. */
export const lockFile = 'cdl.lock';

/** A lock without entries. */
export const emptyLock: Lock = { version: 1, models: {} };

/** The candidate an entry names, without its digest. */
export function entryCandidate(model: string, entry: LockEntry): Candidate {
  const { code, config, dataset, transform, checkpoint, package: packaged } = entry;
  return { model, code, config, dataset, transform, checkpoint, package: packaged };
}

/** Builds an entry whose first line is the digest of the rest. */
export function createEntry(candidate: Candidate, evaluation: Digest, info: LockEntry['info']): LockEntry {
  const { model: _model, ...content } = candidate;
  return { candidate: candidateDigest(candidate), evaluation, ...content, info };
}

/**
 * Reads `cdl.lock`. Throws UserError lock-conflict for git's conflict markers, lock-invalid for anything that is not
 * exactly a lock as {@link renderLock} writes it (line ends aside; an empty file is an empty lock), including an entry
 * whose `candidate` is not the digest of its own lines (a hand edit, or a merge that mixed two entries).
 */
export function parseLock(text: string, where: string = lockFile): Lock {
  if (/^(<{7}|={7}|>{7})/m.test(text)) {
    throw new UserError('lock-conflict', `${where} holds git conflict markers`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, merge: false });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem) throw new UserError('lock-invalid', `${where}: ${problem.message.split('\n')[0]}`);
  const parsed = lockSchema.safeParse(readValue(document, where));
  if (!parsed.success) throw new UserError('lock-invalid', `${where}: ${z.prettifyError(parsed.error)}`);
  for (const [model, environments] of Object.entries(parsed.data.models)) {
    for (const [environment, entry] of Object.entries(environments)) {
      const actual = candidateDigest(entryCandidate(model, entry));
      if (actual === entry.candidate) continue;
      const node = document.getIn(['models', model, environment], true);
      const at = isMap(node) && node.range ? lines.linePos(node.range[0]) : { line: 1, col: 1 };
      throw new UserError(
        'lock-invalid',
        `${where}:${at.line}:${at.col}  ${model}.${environment} says candidate ${entry.candidate} but its lines make ${actual}`,
      );
    }
  }
  const expected = renderLock(parsed.data).split('\n');
  const actual = text.split(/\r?\n/);
  const line = expected.findIndex((wanted, index) => wanted !== actual[index]);
  if (document.contents !== null && (line >= 0 || actual.length !== expected.length)) {
    const at = line >= 0 ? line : expected.length;
    throw new UserError(
      'lock-invalid',
      `${where}:${at + 1}:1  is not as the bot writes it: ${JSON.stringify(actual[at] ?? '')} stands for ${JSON.stringify(expected[at] ?? '')}`,
    );
  }
  return parsed.data;
}

/** A document's value. Aliases are refused: an entry stands there whole. */
function readValue(document: Document, where: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 }) ?? emptyLock;
  } catch (cause) {
    throw new UserError('lock-invalid', `${where} holds aliases`, undefined, { cause });
  }
}

/**
 * The one text of a lock: names sorted, `candidate`, `evaluation` and `info` first in each entry. They touch because git
 * joins changes that an unchanged line keeps apart: what the candidate's digest does not cover must stand where two
 * changes collide. Every line of an entry names its place, so that no line of one place equals a line of another: a
 * promotion copies an entry, and git would take the copy for the original and put the other side's change there. Ends
 * with a newline.
 */
export function renderLock(lock: Lock): string {
  const out = ['# Written by the CDL bot; a hand edit is refused. See cdl lock --help.', 'version: 1'];
  const models = Object.keys(lock.models)
    .filter((model) => Object.keys(lock.models[model]!).length > 0)
    .sort();
  out.push(models.length === 0 ? 'models: {}' : 'models:');
  for (const model of models) {
    out.push(`  ${key(model)}:`);
    for (const environment of Object.keys(lock.models[model]!).sort()) {
      const entry = lock.models[model]![environment]!;
      const place = `# ${model} ${environment}`;
      out.push(
        `    ${key(environment)}: ${place}`,
        `      candidate: ${entry.candidate} ${place}`,
        `      evaluation: ${entry.evaluation} ${place}`,
        `      info: {version: ${entry.info.version}, run: ${entry.info.run}${tunedText(entry.info.tuned)}} ${place}`,
        `      code: ${entry.code} ${place}`,
        `      config: ${entry.config} ${place}`,
        `      dataset: ${entry.dataset} ${place}`,
        `      transform: ${entry.transform} ${place}`,
        `      checkpoint: ${entry.checkpoint} ${place}`,
        `      package: ${entry.package} ${place}`,
      );
    }
  }
  return `${out.join('\n')}\n`;
}

/** What a search found, as one flow mapping: JSON is YAML, whatever stands in a string. */
function tunedText(tuned: LockEntry['info']['tuned']): string {
  if (!tuned) return '';
  const names = Object.keys(tuned).sort();
  return `, tuned: {${names.map((name) => `${name}: ${JSON.stringify(tuned[name])}`).join(', ')}}`;
}

/** A name as a YAML key: quoted where YAML would read something else than a string (`true`, `1e3`). */
const key = (text: string): string => stringify(text).trimEnd();

/** The entry of a model in an environment, or null. */
export function lockEntry(lock: Lock, model: string, environment: string): LockEntry | null {
  const environments = Object.hasOwn(lock.models, model) ? lock.models[model]! : {};
  return Object.hasOwn(environments, environment) ? environments[environment]! : null;
}

/** A lock with one entry set (or removed, when null). */
export function withEntry(lock: Lock, model: string, environment: string, entry: LockEntry | null): Lock {
  const environments = Object.hasOwn(lock.models, model) ? { ...lock.models[model] } : {};
  if (entry) environments[environment] = entry;
  else delete environments[environment];
  return { version: 1, models: { ...lock.models, [model]: environments } };
}

/** The outcome of a structural merge: a lock, or the entries both sides changed differently. */
export type LockMerge =
  | { kind: 'merged'; lock: Lock }
  | { kind: 'conflict'; entries: [model: string, environment: string][] };

/** Three-way merge by whole entries: what one side changed wins; what both changed differently is a conflict, never a mixture. */
export function mergeLocks(base: Lock, ours: Lock, theirs: Lock): LockMerge {
  const keys = new Set<string>();
  for (const lock of [base, ours, theirs]) {
    for (const [model, environments] of Object.entries(lock.models)) {
      for (const environment of Object.keys(environments)) keys.add(`${model}/${environment}`);
    }
  }
  const conflicts: [string, string][] = [];
  let merged: Lock = emptyLock;
  for (const key of [...keys].sort()) {
    const [model, environment] = key.split('/') as [string, string];
    const [b, o, t] = [base, ours, theirs].map((lock) => lockEntry(lock, model, environment));
    const same = (x: LockEntry | null | undefined, y: LockEntry | null | undefined) =>
      canonicalJson(x ?? null) === canonicalJson(y ?? null);
    if (!same(o, t) && !same(o, b) && !same(t, b)) {
      conflicts.push([model, environment]);
      continue;
    }
    const winner = same(o, b) ? t : o;
    if (winner) merged = withEntry(merged, model, environment, winner);
  }
  return conflicts.length > 0 ? { kind: 'conflict', entries: conflicts } : { kind: 'merged', lock: merged };
}

/** As {@link mergeLocks}, where an entry that both sides changed differently is that of `theirs`, whole. */
export function resolveLocks(base: Lock, ours: Lock, theirs: Lock): Lock {
  const first = mergeLocks(base, ours, theirs);
  if (first.kind === 'merged') return first.lock;
  let side = ours;
  for (const [model, environment] of first.entries)
    side = withEntry(side, model, environment, lockEntry(theirs, model, environment));
  const second = mergeLocks(base, side, theirs);
  return second.kind === 'merged' ? second.lock : theirs;
}
