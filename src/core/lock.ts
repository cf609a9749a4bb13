import { Document, isAlias, isMap, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { z } from 'zod';
import { digestSchema } from './artifact.ts';
import { type Candidate, candidateDigest } from './candidate.ts';
import { canonicalJson, type Digest } from './digest.ts';
import { UserError } from './error.ts';

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'not a name (lower-case letters, digits, - and _)');

const entrySchema = z.strictObject({
  candidate: digestSchema,
  evaluation: digestSchema,
  code: digestSchema,
  config: digestSchema,
  dataset: digestSchema,
  transform: digestSchema.nullable(),
  checkpoint: digestSchema,
  package: digestSchema,
  info: z.strictObject({ version: z.int().positive(), run: digestSchema }),
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
 * exactly a lock, including an entry whose `candidate` is not the digest of its own lines (a hand edit, or a merge that
 * mixed two entries).
 */
export function parseLock(text: string, where: string = lockFile): Lock {
  if (/^(<{7}|={7}|>{7})/m.test(text)) {
    throw new UserError('lock-conflict', `${where} holds git conflict markers`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, merge: false });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem) throw new UserError('lock-invalid', `${where}: ${problem.message.split('\n')[0]}`);
  visit(document, {
    Node: (_key, node) => {
      const at = lines.linePos(node.range?.[0] ?? 0);
      if (isScalar(node) && node.value === '__proto__') {
        throw new UserError('lock-invalid', `${where}:${at.line}:${at.col}  __proto__ is not a name`);
      }
      if (!isAlias(node) && !node.anchor && !node.tag) return;
      throw new UserError(
        'lock-invalid',
        `${where}:${at.line}:${at.col}  anchors, aliases and tags are refused`,
      );
    },
  });
  const parsed = lockSchema.safeParse(document.toJS({ maxAliasCount: 0 }) ?? emptyLock);
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
  return parsed.data;
}

/**
 * The one text of a lock: names sorted, `candidate`, `evaluation` and `info` first in each entry, one line each. They touch
 * because git joins changes that an unchanged line keeps apart: what the candidate's digest does not cover must stand
 * where two changes collide. Ends with a newline.
 */
export function renderLock(lock: Lock): string {
  const models: Record<string, Record<string, LockEntry>> = {};
  for (const model of Object.keys(lock.models).sort()) {
    const environments = lock.models[model] ?? {};
    if (Object.keys(environments).length === 0) continue;
    models[model] = {};
    for (const environment of Object.keys(environments).sort()) {
      const entry = environments[environment]!;
      models[model][environment] = {
        candidate: entry.candidate,
        evaluation: entry.evaluation,
        info: { version: entry.info.version, run: entry.info.run },
        code: entry.code,
        config: entry.config,
        dataset: entry.dataset,
        transform: entry.transform,
        checkpoint: entry.checkpoint,
        package: entry.package,
      };
    }
  }
  const document = new Document({ version: 1, models });
  for (const [model, environments] of Object.entries(models)) {
    for (const environment of Object.keys(environments)) {
      const info = document.getIn(['models', model, environment, 'info'], true);
      if (isMap(info)) info.flow = true;
    }
  }
  return `# Written by the CDL bot; a hand edit is refused. See cdl lock --help.\n${document.toString({ lineWidth: 0 })}`;
}

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
