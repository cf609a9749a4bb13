import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import type { Digest } from '../../src/core/digest.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { openServable } from '../../src/serve/tfjs.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { packageStep } from '../../src/steps/package.ts';
import { runStep } from '../../src/steps/run-step.ts';
import { train } from '../../src/steps/train.ts';
import { transform } from '../../src/steps/transform.ts';
import { openScratch } from './project.ts';
import { textFiles } from './text-project.ts';

const python = process.env.CDL_TORCH;
const all = { dataset: '', model: '', side: 'train' as const };

it.skipIf(!python)(
  `the PyTorch example learns short texts, exports ONNX and answers, and learns them in two processes${python ? '' : ' (skipped: CDL_TORCH names no python with torch)'}`,
  async () => {
    const template = join(packageRoot(), 'templates', 'news-torch');
    const files = await textFiles({ hyperparameters: '{ epochs: 6, batch_size: 16, learning_rate: 0.01 }' });
    const [program, model, stem] = await Promise.all(
      ['train.py', 'model.ts', 'stem.ts'].map((name) => readFile(join(template, name), 'utf8')),
    );
    const config = String(files['cdl.yaml']).replace(
      'code: [model.ts]',
      'code: [model.ts, stem.ts, train.py]\n    train: { command: [python, train.py] }',
    );
    const scratch = await openScratch({
      ...files,
      'cdl.yaml': config,
      'train.py': program!,
      'model.ts': model!,
      'stem.ts': stem!,
    });
    try {
      const environment = { PATH: `${dirname(python!)}:${process.env.PATH}` };
      const ctx = await scratch.context(environment);
      for (const step of [ingest, transform] as const) await runStep(step as never, ctx, all as never);
      const trained = await runStep(train, ctx, all);
      expect(trained.report.summary).toMatch(/Trained for 6 epochs: .*validationAccuracy 1\.0000/);
      const { outputs } = await runStep(packageStep, ctx, all);
      const folder = join(scratch.root, '.cdl', 'package');
      await (await ctx.zone('work')).saveArtifact(outputs.package as Digest, folder);
      const servable = await openServable(folder, { package: outputs.package as Digest, version: '1' });
      const data = [
        'the team and its coach won the match with a goal',
        'bread and soup with salt from the oven',
      ];
      const [, label] = await servable.infer([{ name: 'input', datatype: 'BYTES', shape: [2], data }]);
      servable.dispose();
      expect(label!.data).toEqual(['sport', 'food']);

      const launched = config.replace('train.py] }', 'train.py], launcher: torchrun, processes: 2 }');
      await writeFile(join(scratch.root, 'cdl.yaml'), launched);
      const both = await runStep(train, await scratch.context(environment), all);
      expect(both.report.summary).toMatch(/Trained for 6 epochs: .*validationAccuracy 1\.0000/);
      const run = await (await ctx.zone('work')).getArtifact(both.outputs.run as Digest);
      expect(run.meta.environment).toMatchObject({ launcher: 'torchrun', processes: '2' });
    } finally {
      await scratch.remove();
    }
  },
);
