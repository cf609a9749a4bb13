import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Digest, isDigest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { Block, Report } from '../core/report.ts';
import { analyzeItems } from '../data/analyze.ts';
import { analyzeTensors } from '../data/analyze-tensors.ts';
import { datasetMetaSchema, openDataset } from '../data/dataset.ts';
import { readRawItems } from '../data/shards.ts';
import { chartsOf } from '../report/chart-key.ts';
import { renderMarkdown } from '../report/markdown.ts';
import { renderTerminal } from '../report/terminal.ts';
import { createContext } from '../steps/context.ts';
import { datasetNamed, versionOf } from '../steps/subject.ts';
import type { Ctx } from '../steps/types.ts';
import type { CommandInput } from './types.ts';

/** Writes the report as markdown with its pictures; the path of the markdown. */
async function writeReport(folder: string, name: string, report: Report): Promise<string> {
  await mkdir(folder, { recursive: true });
  const pictures = new Map<string, string>();
  const { drawChart } = await import('../report/chart.ts');
  for (const [key, chart] of chartsOf(report.blocks)) {
    const file = `${name}-${shortDigest(key)}.png`;
    await writeFile(join(folder, file), await drawChart(chart));
    pictures.set(key, `![${chart.title}](${file})`);
  }
  const path = join(folder, `${name}.md`);
  await writeFile(path, renderMarkdown(report, pictures));
  return path;
}

async function versionFor(ctx: Ctx, dataset: string, given: string | undefined): Promise<Digest> {
  if (given === undefined) return versionOf(ctx, dataset);
  if (isDigest(given)) return given;
  throw new UserError(
    'usage',
    `${given} is not the digest of a data version`,
    'cdl data log shows them whole',
  );
}

/**
 * `cdl data analyze [DATASET [VERSION]]`: what the training side of a data set is made of, on the terminal and as a report
 * with pictures. The withheld side is not for looking at. Throws UserError usage, input-missing, artifact-missing.
 */
export async function analyze(input: CommandInput, _desk: unknown, what: readonly string[]): Promise<number> {
  const ctx = await createContext(input.cwd, input.env, input.console);
  const { dataset, config } = datasetNamed(ctx, what[0] ?? '');
  const digest = await versionFor(ctx, dataset, what[1]);
  const zone = await ctx.zone('work');
  const manifest = await zone.getArtifact(digest);
  const meta = datasetMetaSchema.parse(manifest.meta);
  if (meta.side !== 'train') {
    throw new UserError(
      'usage',
      `${digest} is the withheld side of ${dataset}, which is for evaluating alone`,
    );
  }
  const folder = await mkdtemp(join(tmpdir(), 'cdl-analyze-'));
  try {
    input.console.progress(`reading ${dataset}`, 0);
    await zone.saveArtifact(digest, folder);
    input.console.progress(`reading ${dataset}`, 1);
    const { rules, sensitive, item: kind } = config;
    const blocks: Block[] =
      kind === 'tensor'
        ? await analyzeTensors(await openDataset(folder), sensitive)
        : await analyzeItems(readRawItems(folder), { classes: meta.classes, kind, rules, sensitive });
    const report: Report = {
      key: `analyze:${dataset}`,
      title: `${dataset}: analysis of data version ${shortDigest(digest)}`,
      verdict: 'pass',
      summary: `${meta.count} items of the training side${sensitive === undefined ? '' : '; sensitive values are masked'}.`,
      blocks,
    };
    const out = resolve(
      input.cwd,
      typeof input.options.out === 'string' ? input.options.out : '.cdl/analysis',
    );
    const path = await writeReport(out, dataset, report);
    input.console.print(`${renderTerminal(report, input.console)}\n  report       ${path}`, {
      dataset,
      version: digest,
      count: meta.count,
      report: path,
      blocks,
    });
    return 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
