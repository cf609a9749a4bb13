import { z } from 'zod';
import {
  type Claim,
  claimSchema,
  codeDigest,
  configDigest,
  digestJson,
  listVersions,
  type Person,
  UserError,
  type Version,
} from '../src/index.ts';
import type { BotState, Facts, Sources } from './types.ts';

/** A version of the registry that somebody asks for on a change, or why it cannot be proposed there. */
export type FoundVersion =
  | { kind: 'unknown'; known: number[] }
  | { kind: 'several'; versions: number[] }
  | { kind: 'differs'; version: number; what: string[] }
  | { kind: 'fits'; claim: Claim };

const nameOf = (change: number, model: string): string => `registered/${change}/${model}`;
const foundOf = (change: number, model: string): string => `found/${change}/${model}`;

/** A claim, and when the comment that proposes it was written (ISO 8601). */
const saidSchema = claimSchema.extend({ at: z.string().optional() });

function claimIn(text: string | null): { claim: Claim | null; at: string } {
  if (!text) return { claim: null, at: '' };
  const { at = '', ...claim } = saidSchema.parse(JSON.parse(text));
  return { claim, at };
}

/** What was proposed on a change by `/register`; null when nothing was. */
export async function readRegistered(
  state: Pick<BotState, 'cursor'>,
  change: number,
  model: string,
): Promise<Claim | null> {
  return claimIn(await state.cursor(nameOf(change, model))).claim;
}

/** What the bot proposed on a change by itself; null when nothing. */
export async function readFound(
  state: Pick<BotState, 'cursor'>,
  change: number,
  model: string,
): Promise<Claim | null> {
  return claimIn(await state.cursor(foundOf(change, model))).claim;
}

/**
 * Keeps what the bot proposes by itself. Who registered it is not known, so that nobody counts as having made it; what the
 * change's own pipeline claims, or a person proposes, comes before it.
 */
export async function keepFound(
  state: Pick<BotState, 'setCursor'>,
  change: number,
  model: string,
  claim: Claim,
): Promise<void> {
  await state.setCursor(foundOf(change, model), JSON.stringify(claim));
}

// One note for each person: who proposes the same once more takes nobody's part in it away.
const proposerOf = (change: number, userId: string): string => `proposer/${change}/${userId}`;

/** Whether a person proposed a version on a change by `/register`, whatever is proposed there now. */
export async function isProposer(
  state: Pick<BotState, 'cursor'>,
  change: number,
  userId: string,
): Promise<boolean> {
  return Boolean(await state.cursor(proposerOf(change, userId)));
}

/**
 * Keeps what `/register` proposes and the id of who said it: they chose what is approved, as whoever starts a training does.
 * The version counts as long as code and configuration of the change make it. False, and nothing kept, when something newer was
 * said already.
 */
export async function keepRegistered(
  state: Pick<BotState, 'cursor' | 'setCursor'>,
  change: number,
  model: string,
  claim: Claim,
  said: { by: Pick<Person, 'id'>; at: string },
): Promise<boolean> {
  const { at } = claimIn(await state.cursor(nameOf(change, model)));
  if (Date.parse(at) > Date.parse(said.at)) return false;
  // First, so that no claim is there without who made it.
  await state.setCursor(proposerOf(change, said.by.id), model);
  await state.setCursor(nameOf(change, model), JSON.stringify({ ...claim, at: said.at }));
  return true;
}

/** Values that differ between two objects, as `key: theirs → ours`. */
function differingValues(theirs: unknown, ours: Record<string, unknown>): string[] {
  if (!theirs || typeof theirs !== 'object' || Array.isArray(theirs)) return [];
  const other = theirs as Record<string, unknown>;
  const keys = [...new Set([...Object.keys(other), ...Object.keys(ours)])].sort();
  return keys.flatMap((key) =>
    digestJson((other[key] ?? null) as never) === digestJson((ours[key] ?? null) as never)
      ? []
      : [
          `config: hyperparameters.${key} is ${JSON.stringify(other[key] ?? null)} there and ${JSON.stringify(ours[key] ?? null)} here`,
        ],
  );
}

/** What of the change's head a version was not made from; empty when it was made from exactly that. */
async function differences(sources: Sources, facts: Facts, version: Version): Promise<string[]> {
  const { mirror, work } = sources;
  const { candidate, run } = version;
  const config = facts.headProject.models[facts.model]!;
  const files = await mirror.codeFiles(facts.change.head, config.code);
  const what: string[] = [];
  if (candidate.code !== codeDigest(files)) {
    const packaged = await work.getArtifact(candidate.package).catch((error: unknown) => {
      if (error instanceof UserError) return null;
      throw error;
    });
    const theirs = new Map(
      (packaged?.files ?? []).map((file) => [file.path.replace(/^code\//, ''), file.digest]),
    );
    const named = files.filter((file) => theirs.has(file.path) && theirs.get(file.path) !== file.digest);
    what.push(
      named.length > 0
        ? `code: ${named.map((file) => file.path).join(', ')} differ`
        : `code: other files (${candidate.code.slice(7, 19)} there, ${codeDigest(files).slice(7, 19)} here)`,
    );
  }
  if (candidate.config !== configDigest(config)) {
    const made = await work.getArtifact(run).catch((error: unknown) => {
      if (error instanceof UserError) return null;
      throw error;
    });
    const values = differingValues(made?.meta.hyperparameters, config.hyperparameters);
    what.push(
      ...(values.length > 0
        ? values
        : ['config: another configuration of the model (data, code patterns, entry, seed or trainer)']),
    );
  }
  return what;
}

/** Looks a version up by its number or by the digest of its checkpoint (or candidate's package), and compares it with the head. */
export async function findRegistered(
  sources: Sources,
  facts: Facts,
  wanted: { version: number } | { prefix: string },
): Promise<FoundVersion> {
  const all = await listVersions(sources.work, facts.project, facts.model);
  const hits = all.filter((one) =>
    'version' in wanted
      ? one.version === wanted.version
      : one.candidate.checkpoint.slice(7).startsWith(wanted.prefix),
  );
  if (hits.length === 0) return { kind: 'unknown', known: all.map((one) => one.version) };
  const fitting: Version[] = [];
  let first: string[] = [];
  for (const one of hits) {
    const what = await differences(sources, facts, one);
    if (what.length === 0) fitting.push(one);
    else if (first.length === 0) first = what;
  }
  const [fit, ...others] = fitting;
  if (!fit) return { kind: 'differs', version: hits[0]!.version, what: first };
  if (others.length > 0) return { kind: 'several', versions: fitting.map((one) => one.version) };
  const { candidate, version, run } = fit;
  return { kind: 'fits', claim: { v: 1, candidate, version, run } };
}
