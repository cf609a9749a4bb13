import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, digestBytes } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import { type DataRules, itemRuleNames, ownFunctions, rulesSchema } from '../core/project-data-rules.ts';
import type { CleanPlan } from '../data/clean-items.ts';
import {
  type CleanCounts,
  cleanShard,
  fetchParts,
  hasPart,
  shardOf,
  storePart,
} from '../data/clean-shards.ts';
import { buildCleaned } from '../data/cleaned-version.ts';
import { datasetMetaSchema } from '../data/dataset.ts';
import { readRawItems, saveShare } from '../data/shards.ts';
import { selectCode } from '../exec/code.ts';
import { openPrograms } from './clean-programs.ts';
import { cleanReport } from './clean-report.ts';
import { cacheKey } from './run-step.ts';
import { shareDone } from './share.ts';
import { checkSide, cleaningOf, datasetNamed, datasetParameter, handedOn, sideParameter } from './subject.ts';
import type { Ctx, Inputs, Outcome, Step } from './types.ts';

const params = z.object({
  dataset: datasetParameter,
  side: sideParameter,
});

const what = {
  name: 'clean',
  summary: 'Clean collected items; quarantine those that break a rule',
  epoch: 2,
};

/** What is asked of single items. Whether they have labels shows only after they were labelled. */
function itemRules(config: DatasetConfig): DataRules {
  const { rules, labels } = config;
  const asked = itemRuleNames.filter((name) => name !== 'labelled' || !labels);
  return rulesSchema.parse(Object.fromEntries(asked.map((name) => [name, rules[name]])));
}

function pseudonymKey(ctx: Ctx, config: DatasetConfig): string | null {
  const needed = (config.clean ?? []).some((step) => typeof step === 'object' && 'pseudonymise' in step);
  if (!needed) return null;
  const key = ctx.pseudonymKey();
  if (key && key.length >= 16) return key;
  throw new UserError(
    'environment-missing',
    `CDL_PSEUDONYM_KEY ${key ? 'is shorter than 16 characters' : 'is not set'}, and clean: pseudonymises`,
    'set it as a masked CI variable, to the same value for both sides: openssl rand -hex 32',
  );
}

async function cleanInputs(ctx: Ctx, given: z.output<typeof params>): Promise<Inputs> {
  const { dataset, config } = datasetNamed(ctx, given.dataset);
  if (config.item === 'tensor') {
    throw new UserError(
      'usage',
      `the items of ${dataset} are tensors as they come: there is nothing to clean`,
      'validate checks them; item: text, image, record or file makes a data set of raw items',
    );
  }
  const globs = [...new Set(ownFunctions(config).flatMap((own) => own.config.code))];
  const key = pseudonymKey(ctx, config);
  return {
    subject: dataset,
    zone: given.side === 'test' ? 'trusted' : 'work',
    key: {
      side: given.side,
      item: config.item,
      classes: config.classes,
      clean: config.clean ?? [],
      rules: itemRules(config) as never,
      sensitive: config.sensitive ?? null,
      pseudonym: key === null ? null : digestBytes(`pseudonym\n${key}`),
      by: cleaningOf(config),
      dataset: await handedOn(ctx, 'ingest', dataset, 'dataset'),
    },
    files: globs.length === 0 ? [] : await selectCode(ctx.root, ctx.ref, globs),
    artifacts: ['dataset'],
    cache: true,
  };
}

/**
 * Cleans this job's share into a folder, and gives the shares of all jobs; null while another one is at work, which will
 * then be the last and put them together.
 */
async function cleanParts(
  ctx: Ctx,
  inputs: Inputs,
  plan: () => Promise<CleanPlan>,
  folder: string,
): Promise<{ folders: string[]; counts: CleanCounts } | null> {
  const zone = await ctx.zone(inputs.zone);
  const dataset = inputs.key.dataset as Digest;
  const { files } = await zone.getArtifact(dataset);
  const { node } = ctx;
  const own = join(folder, 'own');
  const clean = async () => {
    const data = join(folder, 'data');
    const mine = (id: Digest) => shardOf(id, node.total) === node.index;
    await saveShare(zone, files, data, mine);
    return cleanShard(readRawItems(data, mine), await plan(), node, own);
  };
  if (node.total === 1) return { folders: [own], counts: await clean() };
  const key = cacheKey(what, inputs).slice(7);
  if (!(await hasPart(zone, key, node))) await storePart(zone, key, node, own, await clean());
  return fetchParts(zone, key, node.total, join(folder, 'parts'));
}

async function run(
  ctx: Ctx,
  given: z.output<typeof params>,
  folder: string,
  inputs: Inputs,
): Promise<Outcome> {
  const { dataset, config } = datasetNamed(ctx, given.dataset);
  const zone = await ctx.zone(inputs.zone);
  const digest = inputs.key.dataset as Digest;
  const manifest = await zone.getArtifact(digest);
  const meta = datasetMetaSchema.parse(manifest.meta);
  checkSide(meta.side, given.side, dataset);
  const scratch = join(folder, '.clean');
  const plan = async (): Promise<CleanPlan> => ({
    steps: config.clean ?? [],
    rules: itemRules(config),
    classes: meta.classes,
    key: pseudonymKey(ctx, config),
    programs: await openPrograms(ctx, config, inputs.files, scratch),
  });
  const parts = await cleanParts(ctx, inputs, plan, scratch);
  if (parts === null)
    return shareDone({ step: 'clean', dataset, node: ctx.node, work: 'cleaning', done: 'cleaned' });
  const quarantine = join(scratch, 'quarantine.jsonl');
  const listed = manifest.files.find((file) => file.path === 'quarantine.jsonl');
  if (!listed) throw new UserError('artifact-corrupt', `the data version ${digest} has no quarantine.jsonl`);
  await zone.saveBlob(listed.digest, quarantine);
  const { sensitive } = config;
  const made = await buildCleaned(
    zone,
    { dataset: digest, manifest, quarantine, sensitive, ...parts },
    scratch,
  );
  return {
    outputs: {
      dataset: made.digest,
      from: digest,
      by: inputs.key.by as string,
      items: String(made.meta.count),
      quarantined: String(made.aside),
    },
    report: cleanReport(dataset, made, parts.counts.seen),
  };
}

/**
 * Cleans what was collected by the steps of `clean:`, and sets aside what breaks a rule for single items. Several jobs may
 * share the work (`parallel:`): each stores its share under the step's key, and whoever finds all of them puts them together.
 */
export const clean: Step<typeof params> = {
  ...what,
  stage: 'data',
  shards: 'Jobs that share the work (1 to 200); what they make is the same whatever their number.',
  params,
  inputs: cleanInputs,
  run,
};
