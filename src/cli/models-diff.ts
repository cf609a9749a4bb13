import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { diffListings } from '../data/folder/diff.ts';
import { openDataReader } from '../data/folder/places.ts';
import { openListing } from '../data/folder/reader.ts';
import { readVersionDetail, type VersionDetail } from '../deploy/known-versions.ts';
import { run } from '../exec/run.ts';
import { diffWeights } from '../model/weights-diff.ts';
import type { Zone } from '../store/types.ts';
import { columnsText } from './columns.ts';
import { count } from './data-text.ts';
import { findVersion, type ModelsDesk } from './models-desk.ts';
import { partsOf } from './models-show.ts';
import type { CommandInput } from './types.ts';
import { changedValues, type ValueChange, valueText } from './value-changes.ts';

/** Files of the code that differ between the commits of two versions; null where this clone does not have both. */
async function codeChanges(root: string, a: VersionDetail, b: VersionDetail): Promise<string[] | null> {
  const commits = [a, b].map((one) => one.training?.facts.commit ?? '');
  if (!commits.every((one) => /^[0-9a-f]{40,64}$/.test(one))) return null;
  const told = await run('git', ['diff', '--name-status', '--no-renames', commits[0]!, commits[1]!], {
    cwd: root,
  });
  if (told.code !== 0) return null;
  return told.stdout
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((line) => line.replace('\t', ' '));
}

async function dataChanges(work: Zone, a: Digest, b: Digest) {
  const reader = openDataReader([async () => work]);
  const found = await diffListings(await openListing(reader, a), await openListing(reader, b)).catch(
    (error: unknown) => {
      if (error instanceof UserError && error.code === 'artifact-missing') return null;
      throw error;
    },
  );
  return found && { added: found.added.length, removed: found.removed.length, changed: found.changed.length };
}

async function weightChanges(work: Zone, a: Digest, b: Digest) {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-models-'));
  try {
    await work.saveArtifact(a, join(folder, 'a'));
    await work.saveArtifact(b, join(folder, 'b'));
    return await diffWeights(join(folder, 'a'), join(folder, 'b'));
  } catch (error) {
    // Of another framework, or pruned: then the digests are all there is to say.
    if (error instanceof UserError || (error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function settings(one: VersionDetail): Record<string, unknown> {
  const facts = one.training?.facts;
  const under = (prefix: string, values: Readonly<Record<string, unknown>> = {}) =>
    Object.entries(values).map(([name, value]) => [`${prefix}.${name}`, value] as const);
  return Object.fromEntries([
    ...under('hyperparameters', facts?.hyperparameters),
    ...under('environment', facts?.environment),
    ...under(
      'dependencies',
      Object.fromEntries((one.dependencies ?? []).map((file) => [file.path, file.digest])),
    ),
    ...(facts ? [['seed', facts.seed] as const] : []),
  ]);
}

/** Training metrics, and what was measured where both were measured on the same withheld items. */
function measured(one: VersionDetail, other: VersionDetail): Record<string, unknown> {
  const all: [string, unknown][] = Object.entries(one.training?.facts.metrics ?? {}).map(([name, value]) => [
    `training.${name}`,
    value,
  ]);
  for (const { environment, evaluation } of one.evaluations) {
    const twin = other.evaluations.find(
      (its) => its.environment === environment && its.evaluation.testset === evaluation.testset,
    );
    if (!twin) continue;
    for (const [name, { value }] of Object.entries(evaluation.scores.metrics))
      all.push([`${environment}.${name}`, value]);
  }
  return Object.fromEntries(all);
}

const changesText = (changes: readonly ValueChange[]): string[] =>
  changes.length === 0
    ? []
    : columnsText(
        ['', 'from', 'to'],
        changes.map(({ name, from, to }) => [name, valueText(from), valueText(to)]),
        '',
      ).split('\n');

/** `cdl models diff A [B]`: how version B differs from A; with one, how what has the name `production` differs from it. */
export async function diff(input: CommandInput, desk: ModelsDesk, what: readonly string[]): Promise<number> {
  if (what.length === 0 || what.length > 2)
    throw new UserError('usage', 'cdl models diff takes two versions');
  const { ctx, sources } = desk;
  const known = await desk.known();
  const [from, to] = what.length === 2 ? [what[0]!, what[1]!] : ['production', what[0]!];
  const [a, b] = [
    await readVersionDetail(sources, known, findVersion(known, from)),
    await readVersionDetail(sources, known, findVersion(known, to)),
  ];
  const before = Object.fromEntries(partsOf(a.candidate));
  const after = Object.fromEntries(partsOf(b.candidate));
  const parts = changedValues(before, after);
  const isOther = (name: string) => parts.some((part) => part.name === name);
  const code = isOther('code') ? await codeChanges(ctx.root, a, b) : [];
  const data = isOther('dataset')
    ? await dataChanges(sources.work, a.candidate.dataset, b.candidate.dataset)
    : null;
  const weights = isOther('checkpoint')
    ? await weightChanges(sources.work, a.candidate.checkpoint, b.candidate.checkpoint)
    : [];
  const config = changedValues(settings(a), settings(b));
  const metrics = changedValues(measured(a, b), measured(b, a));
  const lines = [
    `${known.model} version ${a.version} → ${b.version}`,
    ...(parts.length === 0 ? ['every part is the same'] : []),
    ...changesText(
      parts.map((part) => ({
        ...part,
        from: part.from === undefined ? undefined : shortDigest(part.from as Digest),
        to: part.to === undefined ? undefined : shortDigest(part.to as Digest),
      })),
    ),
    ...(code?.length ? ['files between the two commits', ...code.map((line) => `  ${line}`)] : []),
    ...(code === null ? ['files: this clone does not have both commits'] : []),
    ...(data ? [`data: ${data.added} added, ${data.removed} removed, ${data.changed} changed`] : []),
    ...(weights?.length
      ? [
          `weights: ${count(weights.length, 'tensor')} differing by up to ${Math.max(...weights.map((one) => one.largest)).toPrecision(3)}`,
        ]
      : []),
    ...(config.length > 0 ? ['configuration', ...changesText(config)] : []),
    ...(metrics.length > 0 ? ['metrics', ...changesText(metrics)] : []),
  ];
  input.console.print(lines.join('\n'), {
    model: known.model,
    from: a.version,
    to: b.version,
    parts,
    code,
    data,
    weights,
    config,
    metrics,
  });
  return 0;
}
