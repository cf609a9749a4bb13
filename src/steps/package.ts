import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { configDigest } from '../core/project.ts';
import { runtimeOf } from '../core/project-train.ts';
import { selectCode } from '../exec/code.ts';
import { bundleModel } from '../model/bundle.ts';
import { holdsCode, stateFile } from '../model/encoder.ts';
import { tryOnnx } from '../model/onnx.ts';
import { buildPackage } from '../model/package.ts';
import { classifierManifest, isRaw } from '../model/source-files.ts';
import { handedOn, modelOf, modelParameter, trainedTransform } from './subject.ts';
import type { Step } from './types.ts';

const params = z.object({ model: modelParameter });

/** What a transform says of the items it made. */
const encodedItems = z.object({
  type: z.enum(['uint8', 'float32']),
  shape: z.array(z.number().int().positive()),
});

/** Packs weights, bundled code with the identical preprocessing, and the signature; no times, so the same inputs give the same bytes. */
export const packageStep: Step<typeof params> = {
  name: 'package',
  summary: 'Pack weights, model code and preprocessing for serving',
  epoch: 2,
  stage: 'register',
  params,
  async inputs(ctx, given) {
    const { model, config } = modelOf(ctx, given.model);
    const data = ctx.project.datasets[config.data]!;
    const transform = await trainedTransform(ctx, model, config);
    return {
      subject: model,
      zone: 'work',
      key: {
        model,
        config: configDigest(config),
        checkpoint: await handedOn(ctx, 'train', model, 'checkpoint'),
        ...(transform ? { transform, item: data.item } : { shape: data.shape }),
        classes: data.classes,
      },
      files: await selectCode(ctx.root, ctx.ref, config.code),
      artifacts: ['package'],
      cache: true,
    };
  },
  async run(ctx, given, folder, inputs) {
    const { model, config } = modelOf(ctx, given.model);
    const data = ctx.project.datasets[config.data]!;
    const checkpoint = inputs.key.checkpoint as Digest;
    const transform = (inputs.key.transform ?? null) as Digest | null;
    const zone = await ctx.zone('work');
    const weights = join(folder, '.checkpoint');
    await mkdir(weights);
    await zone.saveArtifact(checkpoint, weights);
    const learned = transform ? join(folder, '.transform') : null;
    let encoded: z.infer<typeof encodedItems> | null = null;
    if (transform && learned) {
      const artifact = await zone.getArtifact(transform);
      encoded = encodedItems.safeParse(artifact.meta).data ?? null;
      const state = artifact.files.find((file) => file.path === stateFile);
      if (!state) throw new UserError('artifact-corrupt', `the transform ${transform} has no ${stateFile}`);
      await zone.saveBlob(state.digest, join(learned, stateFile));
    }
    const target = join(folder, '.package');
    await mkdir(target);
    const runtime = runtimeOf(config);
    const { item, shape, classes } = data;
    const bytes = await buildPackage({
      checkpointFolder: weights,
      runtime,
      code: holdsCode(runtime, isRaw(item), config.encode) ? await bundleModel(folder, config.entry) : null,
      transformFolder: learned,
      manifest: classifierManifest({ model, runtime, item, shape, classes }),
      folder: target,
    });
    // What fits nothing is found here, not only when it is evaluated where nobody who trained it looks.
    const isTried =
      runtime === 'onnx' &&
      (await tryOnnx(target, {
        ...(encoded ?? { type: 'uint8', shape }),
        classes: classes.length,
      }));
    const files = await Promise.all(
      bytes.map(async (path) => ({ path, ...(await zone.putFile(join(target, path))) })),
    );
    const size = files.reduce((sum, file) => sum + file.size, 0);
    const digest = await zone.putArtifact({
      kind: 'package',
      name: model,
      files,
      parents: transform ? [checkpoint, transform] : [checkpoint],
      meta: { model, runtime, bytes: size },
    });
    return {
      outputs: { package: digest, bytes: String(size) },
      report: {
        key: `package:${model}`,
        title: `${model}: package`,
        verdict: 'pass',
        summary: `${(size / 1000).toFixed(1)} kB in ${files.length} files.${
          runtime !== 'onnx'
            ? ''
            : isTried
              ? ` Tried with items of ${(encoded?.shape ?? shape).join(' × ')} numbers: it answers for ${classes.length} classes.`
              : ' Not tried: onnxruntime-node is not installed here.'
        }`,
        blocks: [
          {
            kind: 'table',
            head: ['file', 'bytes'],
            align: ['left', 'right'],
            rows: files.map((file) => [file.path, String(file.size)]),
          },
        ],
      },
    };
  },
};
