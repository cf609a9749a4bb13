import { z } from 'zod';
import { isDigest, shortDigest } from '../core/digest.ts';
import type { Block, Report, Verdict } from '../core/report.ts';
import { chartsOf } from '../report/chart-key.ts';
import { escapeInline } from '../report/escape.ts';
import { renderMarkdown } from '../report/markdown.ts';
import { renderOpenMetrics } from '../report/openmetrics.ts';
import { modelOf, modelParameter } from './subject.ts';
import type { Ctx, Step } from './types.ts';

const params = z.object({ model: modelParameter });

/** The steps whose reports are summed up, in the order of the workflow. */
const order = [
  'ingest',
  'clean',
  'validate',
  'transform',
  'tune',
  'train',
  'package',
  'register',
  'evaluate',
];

/** Those of them that are about a data set, not a model. */
const ofData = ['ingest', 'clean', 'validate'];

const worst = (verdicts: Verdict[]): Verdict =>
  verdicts.includes('fail') ? 'fail' : verdicts.includes('warn') ? 'warn' : 'pass';

async function collect(ctx: Ctx, model: string, data: string): Promise<Report[]> {
  const reports = await Promise.all(
    order.map((step) => ctx.handover.readReport(step, ofData.includes(step) ? data : model)),
  );
  return reports.filter((report) => report !== null);
}

/** Version, metrics and seconds of the run this pipeline made, by OpenMetrics name. */
async function runNumbers(ctx: Ctx, model: string): Promise<Record<string, number>> {
  const [registered, trained] = await Promise.all([
    ctx.handover.read('register', model),
    ctx.handover.read('train', model),
  ]);
  const numbers: Record<string, number> = registered?.version ? { version: Number(registered.version) } : {};
  if (!isDigest(trained?.run)) return numbers;
  const { meta } = await (await ctx.zone('work')).getArtifact(trained.run);
  const run = z.object({ metrics: z.record(z.string(), z.number()), seconds: z.number() }).parse(meta);
  numbers.train_seconds = run.seconds;
  for (const [name, value] of Object.entries(run.metrics)) {
    // camelCase of the trainer to snake_case of metrics; nothing else may stand in a name.
    const metric = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (/^[a-z][a-z0-9_]*$/.test(metric)) numbers[metric] = value;
  }
  return numbers;
}

/** Writes `.cdl/report.md`, the pictures it shows and `.cdl/metrics.txt` from what the jobs before it handed on. */
export const report: Step<typeof params> = {
  name: 'report',
  summary: 'Sum up what the steps of this pipeline reported',
  epoch: 1,
  stage: 'register',
  reports: true,
  params,
  async inputs(ctx, given) {
    const { model } = modelOf(ctx, given.model);
    return { subject: model, zone: 'work', key: {}, files: [], artifacts: [], cache: false };
  },
  async run(ctx, given) {
    const { model, config } = modelOf(ctx, given.model);
    const parts = await collect(ctx, model, config.data);
    const { requirements } = ctx.project;
    const blocks: Block[] = [
      {
        kind: 'facts',
        facts: [
          ['problem', requirements.problem],
          ['owner', requirements.owner],
          ['metrics that matter', requirements.metrics.join(', ')],
          ...requirements.constraints.map((text): [string, string] => ['constraint', text]),
        ],
      },
      ...parts.flatMap((part): Block[] => [
        { kind: 'heading', text: part.title },
        { kind: 'text', text: part.summary },
        ...part.blocks,
      ]),
    ];
    const whole: Report = {
      key: `pipeline:${model}`,
      title: `${model}: pipeline`,
      verdict: parts.length === 0 ? 'warn' : worst(parts.map((part) => part.verdict)),
      summary:
        parts.length === 0
          ? 'No step has reported yet.'
          : `${parts.length} steps reported. These figures are the change's own; the bot adds the independent evaluation.`,
      blocks,
    };
    const pictures = new Map<string, string>();
    const charts = chartsOf(blocks);
    if (charts.size > 0) {
      for (const [key, chart] of charts) {
        const name = `${model}-${shortDigest(key)}.png`;
        // Named by what it shows: drawing it again, which loads Vega, would give the same.
        if (!(await ctx.handover.hasFile(name))) {
          const { drawChart } = await import('../report/chart.ts');
          await ctx.handover.writeFile(name, await drawChart(chart));
        }
        pictures.set(key, `![${escapeInline(chart.title)}](${name})`);
      }
    }
    await ctx.handover.writeFile('report.md', renderMarkdown(whole, pictures));
    const numbers = await runNumbers(ctx, model);
    const samples = [
      ...Object.entries(numbers).map(([name, value]) => ({ name, labels: { model }, value })),
      ...parts.map((part) => ({
        name: 'step_ok',
        labels: { step: part.key.split(':')[0]! },
        value: part.verdict === 'fail' ? 0 : 1,
      })),
    ];
    await ctx.handover.writeFile('metrics.txt', renderOpenMetrics(samples));
    return { outputs: { report: '.cdl/report.md' }, report: whole };
  },
};
