import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { type Candidate, codeDigest } from '../core/candidate.ts';
import { type Digest, isDigest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { entryCandidate, lockEntry, lockFile, parseLock, tunedSchema } from '../core/lock.ts';
import { configDigest, modelConfig } from '../core/project.ts';
import type { Block, Report } from '../core/report.ts';
import { selectCode } from '../exec/code.ts';
import { run as runProgram } from '../exec/run.ts';
import { listVersions } from '../model/registry.ts';
import { findRun, readRun } from '../model/runs.ts';
import { diffCheckpoints, type TensorDifference } from '../model/weights-diff.ts';
import { createZone, openStore } from '../store/index.ts';
import type { Zone } from '../store/types.ts';
import { readProject } from './context.ts';
import { openHandover } from './handover.ts';
import { runStep } from './run-step.ts';
import { openSource } from './source.ts';
import { environmentParameter, modelOf, modelParameter } from './subject.ts';
import { train } from './train.ts';
import type { Ctx, Outcome, Step } from './types.ts';

const params = z.object({
  version: z.int().nonnegative().default(0).describe('Version of the registry; 0: the one in cdl.lock.'),
  model: modelParameter,
  run: z.string().default('').describe('Run instead of a version: its digest, or the beginning of that.'),
  environment: environmentParameter,
  tolerance: z
    .number()
    .nonnegative()
    .default(0.0001)
    .describe('Largest difference of a weight that still counts as reproduced.'),
});

/** What is rebuilt, and where its code is. */
interface Original {
  /** `version 3`, or `run 3f9a2c41`. */
  name: string;
  candidate: Candidate;
  run: Digest;
  /** The files of the repository that the run saw, where they were kept. */
  source: Digest | null;
  meta: z.output<typeof runSchema>;
}

const runSchema = z.object({
  commit: z.string().nullable(),
  hyperparameters: tunedSchema,
  tuning: z.string().optional(),
  pretrained: z.string().optional(),
  environment: z.record(z.string(), z.string()),
});

async function originalOf(ctx: Ctx, given: z.output<typeof params>, model: string): Promise<Original> {
  const zone = await ctx.zone('work');
  const { project } = ctx.project;
  const found =
    given.run !== ''
      ? await ofRun(zone, project, model, given.run)
      : given.version > 0
        ? await ofRegistry(zone, project, model, given.version)
        : await ofLock(ctx, model, given.environment);
  const parsed = runSchema.safeParse((await zone.getArtifact(found.run)).meta);
  const source = (await readRun(zone, found.run))?.source ?? null;
  if (parsed.success) return { ...found, source, meta: parsed.data };
  throw new UserError('artifact-corrupt', `run ${found.run}: ${z.prettifyError(parsed.error)}`);
}

async function ofRun(zone: Zone, project: string, model: string, beginning: string) {
  const { digest, facts, dataset, transform, checkpoint } = await findRun(zone, project, beginning);
  if (facts.model !== model || dataset === null || checkpoint === null) {
    throw new UserError(
      'input-missing',
      facts.model === model
        ? `run ${shortDigest(digest)} made no model: ${facts.reason ?? 'its checkpoint or its data is gone'}`
        : `run ${shortDigest(digest)} is one of ${facts.model}, not of ${model}`,
    );
  }
  const { code, config } = facts;
  const candidate: Candidate = {
    model,
    code,
    config,
    dataset,
    transform,
    checkpoint,
    // A run is not packed yet, and nothing here looks at that.
    package: checkpoint,
  };
  return { name: `run ${shortDigest(digest)}`, candidate, run: digest };
}

async function ofRegistry(zone: Zone, project: string, model: string, version: number) {
  const versions = await listVersions(zone, project, model);
  const found = versions.find((one) => one.version === version);
  if (found) return { name: `version ${version}`, candidate: found.candidate, run: found.run };
  const known = versions.map((one) => one.version).slice(-10);
  throw new UserError(
    'input-missing',
    `the registry has no version ${version} of ${model}; it has ${known.join(', ') || 'none'}`,
  );
}

async function ofLock(ctx: Ctx, model: string, environment: string) {
  const text = await readFile(join(ctx.root, lockFile), 'utf8').catch(() => null);
  const entry = text === null ? null : lockEntry(parseLock(text), model, environment);
  if (!entry) {
    throw new UserError(
      'input-missing',
      `${lockFile} has no entry for ${model} in ${environment}`,
      'name a version of the registry: cdl reproduce 3',
    );
  }
  return {
    name: `version ${entry.info.version}`,
    candidate: entryCandidate(model, entry),
    run: entry.info.run,
  };
}

async function git(cwd: string, ...args: string[]): Promise<string> {
  const result = await runProgram('git', args, { cwd });
  if (result.code === 0) return result.stdout.toString().trim();
  throw new UserError('file-missing', `git ${args[0]}: ${result.stderr.toString().trim()}`);
}

/** Whether a commit holds the code and configuration of a candidate. */
async function fits(root: string, ref: string | null, model: string, candidate: Candidate): Promise<boolean> {
  const project = await readProject(root);
  const config = modelConfig(project, model);
  return (
    configDigest(config) === candidate.config &&
    codeDigest(await selectCode(root, ref, config.code)) === candidate.code
  );
}

/** A repository with the very code and configuration of a run; `ref` null: its worktree. */
interface Place {
  root: string;
  ref: string | null;
}

/**
 * A clean clone at the current commit, or at the one the run was made of, whichever holds them; where neither does, the files
 * that were kept with the run.
 */
async function cloneOf(ctx: Ctx, model: string, original: Original, folder: string): Promise<Place> {
  const clone = join(folder, 'clone');
  await git(folder, 'clone', '--quiet', '--no-hardlinks', '--no-checkout', ctx.root, clone);
  const tried: string[] = [];
  for (const commit of ['HEAD', original.meta.commit]) {
    if (commit === null) continue;
    const id = await git(ctx.root, 'rev-parse', '--verify', '--quiet', `${commit}^{commit}`).catch(
      () => null,
    );
    tried.push(commit);
    if (id === null) continue;
    // A clone has the branches of its origin; the commit of a run may be on none of them any more.
    await git(clone, 'fetch', '--quiet', ctx.root, id).catch(() => null);
    await git(clone, 'checkout', '--quiet', '--detach', id);
    if (await fits(clone, 'HEAD', model, original.candidate)) return { root: clone, ref: 'HEAD' };
  }
  if (original.source) {
    const root = join(folder, 'source');
    await openSource(await ctx.zone('work'), original.source, root);
    if (await fits(root, null, model, original.candidate)) return { root, ref: null };
    tried.push('what was kept with the run');
  }
  throw new UserError(
    'input-missing',
    `${tried.length > 1 ? `neither ${tried.join(' nor ')} holds` : `${tried[0]} does not hold`} the code ${shortDigest(original.candidate.code)} and configuration ${shortDigest(original.candidate.config)} of ${original.name}`,
    'fetch the whole history (in CI: GIT_DEPTH: 0), or check out the commit of that version',
  );
}

/** Trains again in the clone, with an empty cache and a store that holds the data alone. */
async function rebuild(ctx: Ctx, model: string, original: Original, place: Place, folder: string) {
  const { candidate, meta } = original;
  const from = await ctx.zone('work');
  const store = join(folder, 'store');
  await mkdir(store);
  const zone = createZone('work', await openStore(pathToFileURL(store).href, null), {});
  await zone.copyArtifact(from, candidate.dataset);
  if (candidate.transform) await zone.copyArtifact(from, candidate.transform);
  const handover = openHandover(join(folder, 'handover'));
  const project = await readProject(place.root);
  const config = modelConfig(project, model);
  if (candidate.transform) {
    await handover.write('transform', model, { transform: candidate.transform, dataset: candidate.dataset });
  }
  if (isDigest(meta.pretrained)) {
    await zone.copyArtifact(from, meta.pretrained);
    await handover.write('pretrained', model, { checkpoint: meta.pretrained });
  }
  if (meta.tuning && config.tune) {
    const names = Object.keys(config.tune.space);
    const best = Object.fromEntries(names.map((name) => [name, meta.hyperparameters[name]!]));
    await handover.write('tune', model, {
      tuning: meta.tuning,
      best: JSON.stringify(best),
      dataset: candidate.dataset,
    });
  }
  const clean: Ctx = { ...ctx, ...place, project, handover, zone: async () => zone };
  const { outputs } = await runStep(train, clean, { model, dataset: candidate.dataset });
  const made = runSchema.parse((await zone.getArtifact(outputs.run as Digest)).meta);
  return { zone, checkpoint: outputs.checkpoint as Digest, environment: made.environment };
}

async function differencesOf(
  ctx: Ctx,
  original: Digest,
  rebuilt: { zone: Zone; checkpoint: Digest },
  folder: string,
): Promise<TensorDifference[]> {
  const [before, after] = [join(folder, 'original'), join(folder, 'rebuilt')];
  const old = await ctx.zone('work');
  const [one, other] = await Promise.all([
    old.saveArtifact(original, before),
    rebuilt.zone.saveArtifact(rebuilt.checkpoint, after),
  ]);
  return diffCheckpoints({ folder: before, files: one.files }, { folder: after, files: other.files });
}

async function runReproduce(ctx: Ctx, given: z.output<typeof params>, folder: string): Promise<Outcome> {
  const { model } = modelOf(ctx, given.model);
  const original = await originalOf(ctx, given, model);
  const place = await cloneOf(ctx, model, original, folder);
  const from = place.ref === null ? 'the files that were kept with it' : 'a clean clone of its commit';
  ctx.log(`rebuilding ${original.name} of ${model} from ${from}`);
  const rebuilt = await rebuild(ctx, model, original, place, folder);
  const same = rebuilt.checkpoint === original.candidate.checkpoint;
  const differences = same ? [] : await differencesOf(ctx, original.candidate.checkpoint, rebuilt, folder);
  const largest = differences.reduce((most, one) => Math.max(most, one.largest), 0);
  const verdict = same
    ? 'bit-identical'
    : differences.length === 0 || largest <= given.tolerance
      ? 'within tolerance'
      : 'differs';
  return {
    outputs: {
      verdict,
      checkpoint: rebuilt.checkpoint,
      original: original.candidate.checkpoint,
      largest: String(largest),
    },
    report: reproduceReport(model, original, rebuilt, {
      verdict,
      differences,
      largest,
      tolerance: given.tolerance,
    }),
  };
}

/** Where a checkpoint differs, the worst first. */
function whereText(differences: readonly TensorDifference[]): string {
  const measured = differences.filter(({ why }) => why === null);
  const worst = measured.reduce((a, b) => (b.largest > a.largest ? b : a), measured[0]!);
  const others = differences.flatMap(({ name, why }) => (why === null ? [] : [`${name} ${why}`]));
  return [
    ...others.slice(0, 3),
    ...(others.length > 3 ? [`${others.length - 3} more cannot be compared`] : []),
    ...(worst
      ? [
          `${measured.length} ${measured.length === 1 ? 'tensor' : 'tensors'} by up to ${worst.largest.toPrecision(3)}, most of all ${worst.name}`,
        ]
      : []),
  ].join('; ');
}

function reproduceReport(
  model: string,
  original: Original,
  rebuilt: { checkpoint: Digest; environment: Record<string, string> },
  found: { verdict: string; differences: TensorDifference[]; largest: number; tolerance: number },
): Report {
  const { verdict, differences, largest, tolerance } = found;
  const before = original.meta.environment;
  const names = [...new Set([...Object.keys(before), ...Object.keys(rebuilt.environment)])].sort();
  const moved = names.filter((name) => before[name] !== rebuilt.environment[name]);
  const what = `${original.name[0]!.toUpperCase()}${original.name.slice(1)}`;
  const summary = {
    'bit-identical': `${what} was trained again from a clean clone: every bit is the same.`,
    'within tolerance': `${what} was trained again: no weight differs by more than ${largest.toPrecision(3)}.`,
    differs: `${what} was trained again and differs: ${whereText(differences)}.`,
  }[verdict]!;
  const blocks: Block[] = [
    {
      kind: 'facts',
      facts: [
        ['checkpoint', shortDigest(original.candidate.checkpoint)],
        ['rebuilt', shortDigest(rebuilt.checkpoint)],
        ['data version', shortDigest(original.candidate.dataset)],
        ...moved.map((name): [string, string] => [
          `environment: ${name}`,
          `${before[name] ?? '–'}, now ${rebuilt.environment[name] ?? '–'}`,
        ]),
      ],
    },
  ];
  if (differences.length > 0) {
    blocks.push({
      kind: 'table',
      head: ['where', 'shape', 'largest difference', 'rms'],
      align: ['left', 'left', 'right', 'right'],
      rows: differences
        .toSorted((a, b) => b.largest - a.largest)
        .slice(0, 20)
        .map((one) => [
          one.name,
          one.shape.join(' × '),
          one.why ?? one.largest.toPrecision(3),
          one.why === null ? one.rms.toPrecision(3) : '–',
        ]),
    });
  }
  return {
    key: `reproduce:${model}`,
    title: `${model}: ${original.name} rebuilt`,
    verdict: verdict === 'differs' ? 'fail' : verdict === 'bit-identical' ? 'pass' : 'warn',
    summary: verdict === 'differs' ? `${summary} The tolerance is ${tolerance}.` : summary,
    blocks,
  };
}

/** Trains a version again from nothing but its commit and its data, and says what came out otherwise. */
export const reproduce: Step<typeof params> = {
  name: 'reproduce',
  summary: 'Train a version again from a clean clone, and compare every bit',
  epoch: 1,
  stage: 'evaluate',
  params,
  async inputs(ctx, given) {
    const { model } = modelOf(ctx, given.model);
    // Looking an outcome up would prove nothing.
    return { subject: model, zone: 'work', key: {}, files: [], artifacts: [], cache: false };
  },
  run: runReproduce,
};
