import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { codeDigest } from '../core/candidate.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { selectCode } from '../exec/code.ts';
import { packageRoot } from '../exec/root.ts';
import { bundleModel } from '../model/bundle.ts';
import { followChild } from './child.ts';
import { storeFolder } from './store-folder.ts';
import { datasetOf, modelOf, modelParameter } from './subject.ts';
import type { TransformJob, TransformMessage } from './transform-job.ts';
import type { Ctx, Inputs, Outcome, Step } from './types.ts';

const params = z.object({
  model: modelParameter,
  dataset: z.string().default('').describe('Digest of the data version; default: what ingest made.'),
});

/** What of a raw data set's meta a transform carries on. */
const rawMetaSchema = z.object({
  side: z.literal('train', 'a transform is made of the training side alone'),
  split: z.object({ key: z.string(), validation: z.number() }),
});

async function transformInputs(ctx: Ctx, given: z.output<typeof params>): Promise<Inputs> {
  const { model, config } = modelOf(ctx, given.model);
  const { item } = ctx.project.datasets[config.data]!;
  if (item === 'tensor') {
    throw new UserError(
      'usage',
      `the items of ${config.data} are tensors as they come: ${model} has nothing to transform`,
      'train reads them as they are; item: text, image, record or file makes a data set of raw items',
    );
  }
  return {
    subject: model,
    zone: 'work',
    // Not the whole configuration: another learning rate leaves what was made of the data as it is.
    key: {
      model,
      item,
      ...(config.encode
        ? { encode: config.encode }
        : { entry: config.entry, parameters: config.transform ?? {} }),
      dataset: await datasetOf(ctx, config, given.dataset),
    },
    files: config.encode ? [] : await selectCode(ctx.root, ctx.ref, config.code),
    artifacts: ['transform'],
    cache: true,
  };
}

async function runTransform(
  ctx: Ctx,
  given: z.output<typeof params>,
  folder: string,
  inputs: Inputs,
): Promise<Outcome> {
  const { model, config } = modelOf(ctx, given.model);
  const dataset = inputs.key.dataset as Digest;
  const parameters = (inputs.key.parameters ?? {}) as TransformJob['parameters'];
  const zone = await ctx.zone('work');
  const code = config.encode ?? join(folder, '.bundle.mjs');
  if (typeof code === 'string') await writeFile(code, await bundleModel(folder, config.entry));
  const data = join(folder, '.data');
  const parsed = rawMetaSchema.safeParse((await zone.saveArtifact(dataset, data)).meta);
  if (!parsed.success) throw new UserError('input-missing', `${dataset}: ${z.prettifyError(parsed.error)}`);
  const output = join(folder, '.output');
  const job: TransformJob = { data, code, parameters, output };
  const program = join(packageRoot(), 'dist', 'steps', 'transform-child.js');
  const place = { folder, environment: ctx.childEnvironment, signal: ctx.signal };
  const killed = new UserError(
    'code-invalid',
    'the process that runs fit and encode was killed',
    'out of memory? give the job more memory, or let fit() keep less',
  );
  let done: Extract<TransformMessage, { kind: 'done' }> | null = null;
  for await (const message of followChild<TransformMessage>(program, job, place, killed)) {
    if (message.kind === 'progress') ctx.progress(message.what, message.share);
    else done = message;
  }
  if (ctx.signal.aborted) throw new UserError('interrupted', `the transform of ${model} was stopped`);
  if (!done)
    throw new UserError('code-invalid', 'the process that runs fit and encode ended without a result');
  const { count, unlabelled, type, shape } = done;
  const length = shape.reduce((product, dim) => product * dim, 1);
  const { split } = parsed.data;
  const transform = await storeFolder(zone, output, {
    kind: 'transform',
    name: model,
    parents: [dataset],
    meta: { v: 1, model, code: codeDigest(inputs.files), parameters, count, type, shape, split },
  });
  const { files } = await zone.getArtifact(transform);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  return {
    outputs: { transform, dataset, items: String(count) },
    report: {
      key: `transform:${model}`,
      title: `${model}: transform ${shortDigest(transform)}`,
      verdict: 'pass',
      summary: `${count} items of ${shape.join(' × ')} numbers each, made ${config.encode ? 'as encode in cdl.yaml says' : "by the model's own fit and encode"}.`,
      blocks: [
        {
          kind: 'facts',
          facts: [
            ['items', `${count}${unlabelled > 0 ? `, ${unlabelled} without a label left out` : ''}`],
            ['numbers an item', `${length} (${type}${shape.length > 1 ? `, ${shape.join(' × ')}` : ''})`],
            [
              config.encode ? 'made of' : 'learned from',
              `the training side of ${config.data}, ${shortDigest(dataset)}`,
            ],
            ...Object.entries(parameters).map(([name, value]): [string, string] => [name, String(value)]),
            ['size', `${(size / 1e6).toFixed(1)} MB`],
          ],
        },
      ],
    },
  };
}

/**
 * Turns raw items into tensors with the model's own code, in a process of its own. It is looked up by data version, code and
 * `transform:` parameters: as long as these stay, nothing is transformed again.
 */
export const transform: Step<typeof params> = {
  name: 'transform',
  summary: 'Turn raw items into tensors with the model’s own fit and encode',
  epoch: 2,
  stage: 'data',
  params,
  inputs: transformInputs,
  run: runTransform,
};
