import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { type Candidate, candidateDigest, codeDigest } from '../../src/core/candidate.ts';
import { type Decision, decisionDigest, decisionKey, keyId, signDecision } from '../../src/core/decision.ts';
import { type Digest, digestBytes, digestJson } from '../../src/core/digest.ts';
import { type Evaluation, evaluationKey, evaluationQuestion } from '../../src/core/evaluation.ts';
import { type LiveState, liveKey } from '../../src/core/live.ts';
import { createEntry, emptyLock, renderLock, withEntry } from '../../src/core/lock.ts';
import { configDigest, modelConfig } from '../../src/core/project.ts';
import { selectCode } from '../../src/exec/code.ts';
import { listVersions } from '../../src/model/registry.ts';
import { keepSteps } from '../../src/model/run-steps.ts';
import { runPrefix } from '../../src/model/runs.ts';
import { ingest } from '../../src/steps/ingest.ts';
import { register } from '../../src/steps/register.ts';
import { runStep } from '../../src/steps/run-step.ts';
import type { StepPoint } from '../../src/train/step-series.ts';
import { openScratch, type Scratch, tinyFiles } from '../steps/project.ts';

const signer = generateKeyPairSync('ed25519').privateKey;
const when = { GIT_AUTHOR_DATE: '2026-01-01T00:00:00Z', GIT_COMMITTER_DATE: '2026-01-01T00:00:00Z' };

/** What a training is made to say. */
export interface Told {
  seed: number;
  accuracy: number;
  startedAt: string;
  hidden?: number;
  more?: Record<string, unknown>;
  /** What it logged within its epochs. */
  steps?: StepPoint[];
}

/** A project with a store in which trainings and versions are what their steps would have made, without training anything. */
export interface RegistryPlace {
  scratch: Scratch;
  /** Environment of a reader of both zones. */
  env: NodeJS.ProcessEnv;
  /** A run artifact with its checkpoint and record. */
  train(told: Told): Promise<{ run: Digest; checkpoint: Digest; dataset: Digest }>;
  /** Trains, packs, and has the step `register` give the version its number. */
  version(told: Told): Promise<{ version: number; candidate: Candidate; run: Digest }>;
  /** An answer to what `evaluate` asks of a candidate today. */
  evaluated(candidate: Candidate, accuracy: number, baseline: Digest | null): Promise<Digest>;
  decide(candidate: Candidate, evaluation: Digest, decision: Decision['decision']): Promise<void>;
  live(version: number, candidate: Candidate, evaluation: Digest): Promise<void>;
  lock(version: number, candidate: Candidate, evaluation: Digest, run: Digest): Promise<void>;
}

/** Weights of one dense layer, as TensorFlow.js saves them. */
function weights(seed: number): { model: string; bytes: Buffer } {
  const bytes = Buffer.alloc(32);
  for (let at = 0; at < 8; at++) bytes.writeFloatLE(at / 8 + (at === 3 ? seed / 16 : 0), at * 4);
  const spec = { name: 'dense/kernel', shape: [4, 2], dtype: 'float32' };
  return { model: JSON.stringify({ weightsManifest: [{ paths: ['weights.bin'], weights: [spec] }] }), bytes };
}

/** Opens {@link RegistryPlace}: a commit that is the same everywhere, its data ingested. */
export async function openRegistryPlace(): Promise<RegistryPlace> {
  const scratch = await openScratch({ ...tinyFiles(), 'package-lock.json': '{ "lockfileVersion": 3 }\n' });
  Object.assign(scratch.env, when);
  await scratch.git('commit', '--quiet', '--amend', '--reset-author', '--message', 'start');
  const publicKey = createPublicKey(signer);
  const env = {
    ...scratch.env,
    CDL_TRUSTED_KEYS: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
  const ctx = await scratch.context(env);
  const [work, trusted] = [await ctx.zone('work'), await ctx.zone('trusted')];
  const { outputs } = await runStep(ingest, ctx, { dataset: '', side: 'train' });
  const dataset = outputs.dataset as Digest;
  let last: { seq: number; prev: Digest | null } = { seq: 0, prev: null };
  const fileOf = async (path: string, body: string | Buffer) => ({ path, ...(await work.putBlob(body)) });

  const place: RegistryPlace = {
    scratch,
    env,
    async train({ seed, accuracy, startedAt, hidden = 4, more, steps = [] }) {
      const { model, bytes } = weights(seed);
      const config = modelConfig(ctx.project, 'sides');
      const ids = {
        model: 'sides',
        code: codeDigest(await selectCode(scratch.root, 'HEAD', config.code)),
        config: configDigest(config),
      };
      const checkpoint = await work.putArtifact({
        kind: 'checkpoint',
        name: 'sides',
        files: [await fileOf('model.json', model), await fileOf('weights.bin', bytes)],
        parents: [dataset],
        meta: { ...ids, seed, framework: 'tfjs' },
      });
      const run = await work.putArtifact({
        kind: 'run',
        name: 'sides',
        files: await keepSteps(work, steps),
        parents: [dataset, checkpoint],
        meta: {
          ...ids,
          hyperparameters: { epochs: 2, learning_rate: 0.01, hidden },
          seed,
          environment: { backend: 'cpu', node: '20.19.0', tfjs: '4.22.0' },
          items: { train: 115, validation: 13 },
          epochs: [1, 2].map((epoch) => ({
            epoch,
            step: epoch * 8,
            metrics: { loss: 1 / (epoch + seed), validationAccuracy: accuracy - (2 - epoch) / 10 },
          })),
          best_epoch: 2,
          stopped_early: false,
          metrics: { validationAccuracy: accuracy, validationLoss: 1 - accuracy },
          resumed: false,
          started_at: startedAt,
          seconds: 1.5 + seed,
          gpus: 2,
          who: 'dana',
          pipeline: '7',
          job: '70',
          commit: await scratch.git('rev-parse', 'HEAD'),
          ...more,
        } as never,
      });
      await work.writeRecord(`${runPrefix('tiny')}${run.slice(7)}.json`, { run });
      return { run, checkpoint, dataset };
    },
    async version(told) {
      const made = await place.train(told);
      const packaged = await work.putArtifact({
        kind: 'package',
        name: 'sides',
        files: [await fileOf('package.json', `{"seed":${told.seed}}`)],
        parents: [made.checkpoint],
        meta: { model: 'sides', runtime: 'tfjs', bytes: 10 },
      });
      await ctx.handover.write('train', 'sides', { ...made });
      await ctx.handover.write('package', 'sides', { package: packaged });
      const { outputs: given } = await runStep(register, ctx, { model: '' });
      const version = Number(given.version);
      const found = (await listVersions(work, 'tiny', 'sides')).find((one) => one.version === version)!;
      return { version, candidate: found.candidate, run: made.run };
    },
    async evaluated(candidate, accuracy, baseline) {
      const exact = (value: number) => ({ value, low: value, high: value });
      const digest = candidateDigest(candidate);
      const testset = await trusted.putArtifact({
        kind: 'dataset',
        name: 'halves',
        files: [],
        parents: [],
        meta: {},
      });
      await trusted.copyArtifact(work, candidate.package);
      const evaluation: Evaluation = {
        v: 1,
        project: 'tiny',
        model: 'sides',
        environment: 'production',
        isolation: 'network namespace',
        candidate: digest,
        baseline,
        testset,
        gates: [{ name: 'accuracy ≥ 0.5', status: 'pass', explanation: `it is ${accuracy}` }],
        verdict: 'pass',
        scores: {
          count: 32,
          classes: ['left', 'right'],
          metrics: { accuracy: exact(accuracy), size_bytes: exact(10) },
          perClass: [],
          confusion: [],
        },
        baselineScores: null,
        differences: {},
      };
      const parents = [candidate.package, testset];
      const stored = await trusted.putArtifact({
        kind: 'evaluation',
        name: 'sides',
        files: [],
        parents,
        meta: evaluation as never,
      });
      const question = evaluationQuestion({
        project: 'tiny',
        model: 'sides',
        environment: 'production',
        candidate: digest,
        baseline,
        gates: modelConfig(ctx.project, 'sides').gates,
        data: digestJson(ctx.project.datasets.halves),
      });
      await trusted.writeRecord(evaluationKey(question), { evaluation: stored });
      return stored;
    },
    async decide(candidate, evaluation, decision) {
      const seq = last.seq + 1;
      const signed = signDecision(
        {
          project: 'tiny',
          model: 'sides',
          environment: 'production',
          candidate: candidateDigest(candidate),
          evaluation,
          baseline: null,
          plan: digestBytes('plan'),
          decision,
          approvers: decision === 'approved' ? [{ id: '5', name: 'vera', role: 'validator' }] : [],
          policy: digestBytes('policy'),
          change: decision === 'approved' ? '!12' : 'system',
          seq,
          prev: last.prev,
          time: `2026-02-01T00:00:0${seq}.000Z`,
        },
        { id: keyId(publicKey), key: signer },
      );
      last = { seq, prev: decisionDigest(signed) };
      await trusted.writeRecord(decisionKey('tiny', 'sides', 'production', seq), signed);
    },
    async live(version, candidate, evaluation) {
      const current = {
        candidate: candidateDigest(candidate),
        evaluation,
        package: candidate.package,
        plan: digestBytes('plan'),
        version,
        since: '2026-02-01T00:00:00.000Z',
        commit: 'a'.repeat(40),
      };
      const state: LiveState = { v: 1, current, transition: null, failed: null, endpoint: null };
      await trusted.writeRecord(liveKey('tiny', 'sides', 'production'), state);
    },
    async lock(version, candidate, evaluation, run) {
      const entry = createEntry(candidate, evaluation, { version, run });
      await scratch.write({ 'cdl.lock': renderLock(withEntry(emptyLock, 'sides', 'production', entry)) });
    },
  };
  return place;
}
