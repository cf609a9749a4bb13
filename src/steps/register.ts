import { z } from 'zod';
import { type Candidate, candidateDigest, codeDigest } from '../core/candidate.ts';
import { type Claim, claimPath } from '../core/claim.ts';
import { shortDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import { tunedSchema } from '../core/lock.ts';
import { configDigest } from '../core/project.ts';
import { selectCode } from '../exec/code.ts';
import { lockfiles } from '../exec/lockfiles.ts';
import { registerVersion, type Version } from '../model/registry.ts';
import { createSbom, sbomFile } from '../model/sbom.ts';
import type { Zone } from '../store/types.ts';
import { handedOn, modelOf, modelParameter, trainedTransform } from './subject.ts';
import type { Ctx, Step } from './types.ts';

const params = z.object({ model: modelParameter });

/** Tells the MLflow server of this job, if there is one. It is a copy for people: that it failed is no reason to fail. */
async function mirror(ctx: Ctx, model: string, version: number): Promise<void> {
  const access = ctx.mlflow();
  if (!access) return;
  const { mirrorOne } = await import('../model/mlflow-mirror.ts');
  const { openMlflow } = await import('../model/mlflow.ts');
  try {
    const done = await mirrorOne(
      openMlflow(access),
      await ctx.zone('work'),
      ctx.project.project,
      model,
      version,
    );
    ctx.log(
      done ? `version ${version} is in the MLflow server too` : `version ${version} has no run to mirror`,
    );
  } catch (error) {
    if (!(error instanceof UpstreamError || error instanceof UserError)) throw error;
    ctx.log(`version ${version} could not be mirrored: ${error.message}; cdl runs mirror tries again`);
  }
}

/** Stores what the lockfiles of a candidate's commit name. */
async function storeSbom(
  zone: Zone,
  candidate: Candidate,
  locks: Parameters<typeof createSbom>[1],
): Promise<NonNullable<Version['sbom']>> {
  const { model, package: packaged } = candidate;
  const { text, components } = createSbom({ model, candidate: candidateDigest(candidate) }, locks);
  const files = [{ path: sbomFile, ...(await zone.putBlob(text)) }];
  const artifact = await zone.putArtifact({
    kind: 'sbom',
    name: model,
    files,
    parents: [packaged],
    meta: {},
  });
  return { artifact, components };
}

/** Composes the candidate and gives it its version: the next free number, or the one the same candidate already has. */
export const register: Step<typeof params> = {
  name: 'register',
  summary: 'Give the candidate its version number in the model registry',
  epoch: 1,
  stage: 'register',
  params,
  async inputs(ctx, given) {
    const { model, config } = modelOf(ctx, given.model);
    return {
      subject: model,
      zone: 'work',
      key: {},
      files: await selectCode(ctx.root, ctx.ref, config.code),
      artifacts: [],
      // Registering is itself idempotent, and it must see the registry as it is now.
      cache: false,
    };
  },
  async run(ctx, given, _folder, inputs) {
    const { model, config } = modelOf(ctx, given.model);
    const [dataset, transform, checkpoint, run, packaged] = await Promise.all([
      handedOn(ctx, 'train', model, 'dataset'),
      trainedTransform(ctx, model, config),
      handedOn(ctx, 'train', model, 'checkpoint'),
      handedOn(ctx, 'train', model, 'run'),
      handedOn(ctx, 'package', model, 'package'),
    ]);
    const candidate: Candidate = {
      model,
      code: codeDigest(inputs.files),
      config: configDigest(config),
      dataset,
      transform,
      checkpoint,
      package: packaged,
    };
    const digest = candidateDigest(candidate);
    const zone = await ctx.zone('work');
    const locks = await lockfiles(ctx.root, ctx.ref);
    const dependencies = locks.map(({ path, digest: of }) => ({ path, digest: of }));
    const { version, existed } = await registerVersion(zone, {
      project: ctx.project.project,
      model,
      candidate,
      run,
      ...(locks.length > 0 && { dependencies, sbom: await storeSbom(zone, candidate, locks) }),
    });
    await mirror(ctx, model, version);
    const tuned = (await ctx.handover.read('train', model))?.tuned;
    const claim: Claim = {
      v: 1,
      candidate,
      version,
      run,
      ...(tuned && { tuned: tunedSchema.parse(JSON.parse(tuned)) }),
    };
    await ctx.handover.writeFile(
      claimPath(model).replace('.cdl/', ''),
      `${JSON.stringify(claim, null, 2)}\n`,
    );
    return {
      outputs: { candidate: digest, version: String(version) },
      report: {
        key: `register:${model}`,
        title: `${model}: version ${version}`,
        verdict: 'pass',
        summary: existed
          ? `This candidate already was version ${version}.`
          : `Registered as version ${version}.`,
        blocks: [
          {
            kind: 'facts',
            facts: Object.entries({ candidate: digest, ...candidate, model: null }).flatMap(
              ([name, value]): [string, string][] => (value ? [[name, shortDigest(value)]] : []),
            ),
          },
        ],
      },
    };
  },
};
