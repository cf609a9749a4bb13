import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import type { Candidate } from '../../src/core/candidate.ts';
import type { Digest } from '../../src/core/digest.ts';
import { openDataset } from '../../src/data/dataset.ts';
import { writePacked } from '../../src/data/packed.ts';
import { readRawItems } from '../../src/data/shards.ts';
import { predictIsolated } from '../../src/model/predict.ts';
import { listVersions } from '../../src/model/registry.ts';
import { startServer } from '../../src/serve/server.ts';
import { openServable } from '../../src/serve/tfjs.ts';
import { runStep } from '../../src/steps/run-step.ts';
import type { Ctx } from '../../src/steps/types.ts';
import { openTf } from '../../src/train/backend.ts';
import { loadModel } from '../../src/train/model-files.ts';
import { predict } from '../../src/train/predict.ts';
import type { ModelCode } from '../../src/train/types.ts';

/** Runs steps one after the other, the last of which registers; the candidate of the first version. */
export async function registered(
  ctx: Ctx,
  steps: readonly { name: string }[],
  model: string,
): Promise<Candidate> {
  const all = { dataset: '', model: '', side: 'train' };
  for (const step of steps) await runStep(step as never, ctx, all as never);
  const [version] = await listVersions(await ctx.zone('work'), ctx.project.project, model);
  return version!.candidate;
}

/** Saves an artifact into a folder, which it returns. */
export async function saved(
  ctx: Ctx,
  zone: 'work' | 'trusted',
  digest: string,
  folder: string,
): Promise<string> {
  await (await ctx.zone(zone)).saveArtifact(digest as Digest, folder);
  return folder;
}

/**
 * Expects that training, the isolated evaluation and the server compute the very same probabilities from the raw items of a
 * candidate of two classes; the server gets them as strings in `coding`.
 */
export async function expectOneAnswer(
  ctx: Ctx,
  candidate: Candidate,
  folder: string,
  coding: 'utf8' | 'base64',
): Promise<void> {
  const at = (name: string) => join(folder, name);
  const dataset = await saved(ctx, 'work', candidate.dataset, at('raw'));
  const items = [];
  for await (const item of readRawItems(dataset)) items.push(item.bytes);
  const set = await openDataset(await saved(ctx, 'work', candidate.transform!, at('encoded')));
  const packaged = await saved(ctx, 'work', candidate.package, at('package'));
  const { tf } = await openTf();
  const model = await loadModel(tf, await saved(ctx, 'work', candidate.checkpoint, at('checkpoint')));
  const { preprocess } = (await import(pathToFileURL(join(packaged, 'code.mjs')).href)) as ModelCode;
  const trained = [...predict(tf, model, preprocess, set, 64)];

  const servable = await openServable(packaged, { package: candidate.package, version: '1' });
  const server = await startServer({ servable, candidate: '', host: '127.0.0.1', port: 0, scores: null });
  const response = await fetch(`http://127.0.0.1:${server.port}/v2/models/${candidate.model}/infer`, {
    method: 'POST',
    body: JSON.stringify({
      inputs: [
        {
          name: 'input',
          datatype: 'BYTES',
          shape: [items.length],
          data: items.map((bytes) => Buffer.from(bytes).toString(coding)),
        },
      ],
    }),
  });
  const answer = (await response.json()) as { outputs: { name: string; data: number[] }[] };
  await server.close();
  servable.dispose();
  expect(answer.outputs.find((one) => one.name === 'probabilities')!.data).toEqual(trained);

  const path = at('packed');
  await writePacked(
    path,
    (async function* () {
      yield* items;
    })(),
  );
  const isolated = await predictIsolated({
    packageFolder: packaged,
    items: path,
    count: items.length,
    classes: 2,
    out: null,
  });
  expect([...isolated.probabilities]).toEqual(trained);
}
