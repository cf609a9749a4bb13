import type { Candidate } from '../core/candidate.ts';
import type { Digest } from '../core/digest.ts';
import { shortDigest } from '../core/digest.ts';
import { plural } from '../core/plural.ts';
import {
  type KnownModel,
  readModel,
  readVersionDetail,
  type VersionDetail,
} from '../deploy/known-versions.ts';
import { readRun } from '../model/runs.ts';
import { formatNumber } from '../report/text.ts';
import { mostListed } from './actions.ts';
import { columnsText, factsText } from './columns.ts';
import { type ModelsDesk, oneVersion } from './models-desk.ts';
import { pairsText, timeText } from './run-values.ts';
import type { CommandInput } from './types.ts';

/** What a lock says is not what serves: told wherever names are shown without the trusted zone. */
function nameNote(known: KnownModel): string | null {
  return known.standings.some((one) => one.trusted === null)
    ? 'names are told by cdl.lock and the registry alone: decisions and live state cannot be read and verified from here'
    : null;
}

/** Metrics as `accuracy 0.91, loss 0.2`, the given ones first. */
export function metricsText(metrics: Readonly<Record<string, number>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${formatNumber(value)}`)
    .join(', ');
}

/** `cdl models ls`: every model (or that of `--model`) with its newest versions and those that have a name. */
export async function ls(input: CommandInput, desk: ModelsDesk): Promise<number> {
  const most = mostListed(input);
  const { sources } = desk;
  const all =
    typeof input.options.model === 'string'
      ? [await desk.known()]
      : await Promise.all(Object.keys(sources.project.models).map((model) => readModel(sources, model)));
  const rows = [];
  for (const known of all) {
    const shown = known.versions.filter(
      (one, index) => index >= known.versions.length - most || one.names.length > 0,
    );
    for (const one of shown.toReversed()) {
      const training = await readRun(sources.work, one.run);
      const { model, version, names, digest } = one;
      rows.push({
        model,
        version,
        names,
        candidate: digest,
        dataset: one.candidate.dataset,
        run: one.run,
        trained_at: training?.facts.started_at ?? null,
        commit: training?.facts.commit ?? null,
        metrics: training?.facts.metrics ?? {},
      });
    }
  }
  const table = columnsText(
    ['model', 'version', 'names', 'candidate', 'data', 'trained', 'commit', 'metrics'],
    rows.map((row) => [
      row.model,
      String(row.version),
      row.names.join(', '),
      shortDigest(row.candidate),
      shortDigest(row.dataset),
      row.trained_at === null ? '–' : timeText(row.trained_at),
      row.commit?.slice(0, 8) ?? '–',
      metricsText(row.metrics),
    ]),
    'there are no versions yet: cdl register makes them',
    ['left', 'right'],
  );
  const notes = [...new Set(all.map(nameNote))].filter((note) => note !== null);
  input.console.print([table, ...notes].join('\n'), { project: sources.project.project, versions: rows });
  return 0;
}

const partNames: readonly (keyof Candidate)[] = [
  'code',
  'config',
  'dataset',
  'transform',
  'checkpoint',
  'package',
];

/** What a candidate is made of, by name. */
export function partsOf(candidate: Candidate): [string, Digest][] {
  return partNames.flatMap((name): [string, Digest][] => {
    const digest = candidate[name] as Digest | null;
    return digest === null ? [] : [[name, digest]];
  });
}

/** A version as `--json` tells it. */
export function detailJson(detail: VersionDetail): object {
  const { v: _v, training, digest, candidate, ...rest } = detail;
  const { model: _model, ...parts } = candidate;
  return { ...rest, candidate: digest, parts, dependencies: rest.dependencies ?? [], training };
}

function detailText(detail: VersionDetail): string {
  const { model, version, names, digest, candidate, training, dependencies, evaluations, decisions } = detail;
  const facts = training?.facts;
  const sections = [
    `${model} version ${version}${names.length > 0 ? `  (${names.join(', ')})` : ''}`,
    factsText([['candidate', digest], ...partsOf(candidate), ['run', detail.run]], '  '),
  ];
  if (facts) {
    sections.push(
      'training',
      factsText(
        [
          ['metrics', metricsText(facts.metrics)],
          ['hyperparameters', pairsText(facts.hyperparameters)],
          ['seed', facts.seed === null ? null : String(facts.seed)],
          ['environment', pairsText(facts.environment)],
          ['started', facts.started_at],
          ['seconds', formatNumber(facts.seconds)],
          ['commit', facts.commit],
          ['pipeline', facts.pipeline],
        ],
        '  ',
      ),
    );
  } else sections.push('training', '  its run is not in the store any more');
  if (dependencies?.length) {
    sections.push(
      'dependencies',
      factsText(
        dependencies.map((one) => [one.path, one.digest]),
        '  ',
      ),
    );
  }
  if (detail.sbom) {
    const { components, artifact } = detail.sbom;
    sections.push('bill of materials', factsText([[plural(components, 'package'), artifact]], '  '));
  }
  for (const { environment, digest: evaluated, evaluation } of evaluations) {
    const values = Object.entries(evaluation.scores.metrics).map(
      ([name, { value }]) => [name, value] as const,
    );
    sections.push(
      `evaluation for ${environment}`,
      factsText(
        [
          ['evaluation', evaluated],
          ['verdict', evaluation.verdict],
          ['metrics', metricsText(Object.fromEntries(values))],
          ...evaluation.gates.map(
            (gate) => [gate.name, `${gate.status} (${gate.explanation})`] as [string, string],
          ),
        ],
        '  ',
      ),
    );
  }
  if (decisions.length > 0) {
    sections.push(
      'decisions',
      decisions
        .map((one) => {
          const who = one.approvers.map(({ name, role }) => `${name} (${role})`).join(', ') || '–';
          return `  ${one.environment}  ${one.time}  ${one.decision}  ${one.change}  ${who}`;
        })
        .join('\n'),
    );
  }
  return sections.filter((part) => part !== '').join('\n');
}

/** `cdl models show VERSION`: all that is known of one version. */
export async function show(input: CommandInput, desk: ModelsDesk, what: readonly string[]): Promise<number> {
  const known = await desk.known();
  const detail = await readVersionDetail(desk.sources, known, oneVersion(known, 'show', what));
  const note = nameNote(known);
  input.console.print([detailText(detail), ...(note ? [note] : [])].join('\n'), detailJson(detail));
  return 0;
}
