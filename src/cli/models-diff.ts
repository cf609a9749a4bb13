import { UserError } from '../core/error.ts';
import { readVersionDetail, type VersionDetail } from '../deploy/known-versions.ts';
import { lookInside, type Made } from './changes.ts';
import { changedValues, changesText } from './changes-text.ts';
import { findVersion, type ModelsDesk } from './models-desk.ts';
import { partsOf } from './models-show.ts';
import { settingsOf } from './run-values.ts';
import type { CommandInput } from './types.ts';

function settings(one: VersionDetail): Record<string, unknown> {
  const files = (one.dependencies ?? []).map((file) => [`dependencies.${file.path}`, file.digest]);
  return { ...settingsOf(one.training?.facts), ...Object.fromEntries(files) };
}

/** Training metrics, and what was measured where both were measured on the same withheld items. */
function measured(one: VersionDetail, other: VersionDetail): Record<string, unknown> {
  const trained = Object.entries(one.training?.facts.metrics ?? {});
  const all: [string, unknown][] = trained.map(([name, value]) => [`training.${name}`, value]);
  for (const { environment, evaluation } of one.evaluations) {
    const isMeasured = other.evaluations.some(
      (its) => its.environment === environment && its.evaluation.testset === evaluation.testset,
    );
    if (!isMeasured) continue;
    for (const [name, { value }] of Object.entries(evaluation.scores.metrics))
      all.push([`${environment}.${name}`, value]);
  }
  return Object.fromEntries(all);
}

const madeOf = ({ candidate, training }: VersionDetail): Made => ({
  ...candidate,
  commit: training?.facts.commit ?? null,
});

/** `cdl models diff A [B]`: how version B differs from A; with one, how that differs from what has the name `production`. */
export async function diff(input: CommandInput, desk: ModelsDesk, what: readonly string[]): Promise<number> {
  if (what.length === 0 || what.length > 2)
    throw new UserError('usage', 'cdl models diff takes two versions');
  const { ctx, sources } = desk;
  const known = await desk.known();
  const [from, to] = what.length === 2 ? [what[0]!, what[1]!] : ['production', what[0]!];
  const a = await readVersionDetail(sources, known, findVersion(known, from));
  const b = await readVersionDetail(sources, known, findVersion(known, to));
  const parts = changedValues(
    Object.fromEntries(partsOf(a.candidate)),
    Object.fromEntries(partsOf(b.candidate)),
  );
  const inside = await lookInside(ctx.root, sources.work, madeOf(a), madeOf(b));
  const config = changedValues(settings(a), settings(b));
  const metrics = changedValues(measured(a, b), measured(b, a));
  const head = `${known.model} version ${a.version} → ${b.version}`;
  input.console.print([head, ...changesText({ parts, inside, config, metrics })].join('\n'), {
    model: known.model,
    from: a.version,
    to: b.version,
    parts,
    ...inside,
    config,
    metrics,
  });
  return 0;
}
