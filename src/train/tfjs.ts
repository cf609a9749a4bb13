import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Variable } from '@tensorflow/tfjs-core';
import { type Digest, digestBytes, digestJson } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import type { OpenedTf } from './backend.ts';
import { checkData, gatherItems, gatherLabels } from './batches.ts';
import {
  loadCheckpoint,
  type Progress,
  readWeights,
  saveCheckpoint,
  type TrainingState,
  writeWeights,
} from './checkpoint.ts';
import { countCorrect, crossEntropy, type OutputKind, oneHot, outputKind } from './loss.ts';
import { encodeModel, writeFolder } from './model-files.ts';
import { createOptimizer, type ResumableOptimizer } from './optimizer.ts';
import { evaluateModel } from './predict.ts';
import { beginFrom } from './pretrained.ts';
import { permutation, seededRandom, withRandom } from './random.ts';
import {
  type Hyperparameters,
  type LayersModel,
  lossHint,
  type Metrics,
  type Tensor,
  type Tf,
  type TrainData,
  type TrainEvent,
  type Trainer,
  type TrainJob,
} from './types.ts';

/** Steps between two `step` events; also how often other work of the process, such as a signal, gets its turn. */
const stepsPerEvent = 16;

/**
 * The built-in trainer: mini-batch training of a classifier with TensorFlow.js.
 *
 * Determinism: initial weights, order of the items and dropout masks come from `job.seed`, also where the model code
 * gives no seed (see `withRandom`); a job gives the same bytes on the same backend and processor type, whether or not it was
 * killed and resumed in between. State a custom layer keeps outside its weights is not saved.
 *
 * Below `job.output`: `checkpoints/step-<n>` after every epoch and when stopped by the signal, `model/` at the end.
 * Throws a UserError: training-failed when the loss is not finite, config-invalid, data-invalid or code-invalid when the
 * job cannot be run, and those of `beginFrom` and `loadCheckpoint`.
 */
export function createTfjsTrainer(opened: OpenedTf): Trainer {
  return {
    name: `tfjs (${opened.backend})`,
    train: (job, signal) => train(opened.tf, job, signal),
  };
}

/** A training in memory. */
interface Session {
  tf: Tf;
  job: TrainJob;
  identity: Digest;
  model: LayersModel;
  kind: OutputKind;
  variables: Variable[];
  optimizer: ResumableOptimizer;
}

async function* train(tf: Tf, job: TrainJob, signal: AbortSignal): AsyncGenerator<TrainEvent> {
  checkHyperparameters(job.hyperparameters);
  checkData(job.data.train, 'training data');
  checkData(job.data.validation, 'validation data');
  const session = open(tf, job);
  try {
    if (job.pretrained) {
      const { digest } = await beginFrom(tf, session.model, job.pretrained);
      session.identity = digestJson({ job: session.identity, pretrained: digest });
    }
    const state = job.resume ? await resume(session, job.resume) : begin();
    yield* run(session, state, signal);
  } finally {
    session.model.dispose();
    session.optimizer.dispose();
  }
}

async function* run(session: Session, state: TrainingState, signal: AbortSignal): AsyncGenerator<TrainEvent> {
  const { tf, job, model } = session;
  const { progress } = state;
  const { epochs, batchSize, earlyStopping } = job.hyperparameters;
  const { train: data, validation } = job.data;
  const batches = Math.ceil(data.count / batchSize);
  while (progress.epoch < epochs && !progress.stopped) {
    const epoch = progress.epoch + 1;
    const order = permutation(data.count, seededRandom(job.seed, 'order', epoch));
    let since = performance.now();
    let sinceItems = progress.running.seen;
    const rate = (from: number, items: number) => items / Math.max(1e-9, (performance.now() - from) / 1000);
    const [epochSince, epochItems] = [since, sinceItems];
    while (progress.batch < batches) {
      if (signal.aborted) {
        const checkpoint = await save(session, state);
        yield { kind: 'stopped', step: progress.step, epoch, checkpoint };
        return;
      }
      step(session, progress, order, epoch);
      if (progress.step % stepsPerEvent === 0) {
        const { seen } = progress.running;
        const samplesPerSecond = rate(since, seen - sinceItems);
        yield {
          kind: 'step',
          step: progress.step,
          epoch,
          metrics: runningMetrics(progress),
          samplesPerSecond,
        };
        await setImmediate();
        since = performance.now();
        sinceItems = seen;
      }
    }
    const samplesPerSecond = rate(epochSince, progress.running.seen - epochItems);
    const validated = evaluateModel(tf, model, job.preprocess, validation);
    if (!Number.isFinite(validated.loss)) {
      throw new UserError(
        'training-failed',
        `the validation loss is ${validated.loss} after epoch ${epoch}`,
        lossHint,
      );
    }
    progress.last = {
      ...runningMetrics(progress),
      validationLoss: validated.loss,
      validationAccuracy: validated.accuracy,
    };
    progress.epoch = epoch;
    progress.batch = 0;
    progress.running = { loss: 0, correct: 0, seen: 0 };
    if (earlyStopping) judge(session, state, earlyStopping);
    const checkpoint = await save(session, state);
    yield { kind: 'epoch', step: progress.step, epoch, metrics: progress.last, checkpoint, samplesPerSecond };
  }
  if (state.bestWeights) writeWeights(tf, model, state.bestWeights);
  const folder = join(job.output, 'model');
  await writeFolder(folder, { ...encodeModel(model) });
  yield {
    kind: 'done',
    step: progress.step,
    epoch: progress.epoch,
    bestEpoch: progress.best?.epoch ?? progress.epoch,
    stoppedEarly: progress.stopped,
    metrics: progress.best?.metrics ?? progress.last,
    model: folder,
  };
}

/** Builds the model with seeded initial weights. Throws a UserError (code-invalid) for one that cannot be trained. */
function open(tf: Tf, job: TrainJob): Session {
  const { data, hyperparameters, seed } = job;
  const optimizer = createOptimizer(tf, hyperparameters.optimizer, hyperparameters.learningRate);
  let model: LayersModel;
  try {
    model = withRandom(seededRandom(seed, 'weights'), 'build()', () => {
      const built = job.build(tf, hyperparameters, { shape: data.train.shape, classes: data.train.classes });
      if (!(built instanceof tf.LayersModel)) throw new Error('it did not return a tf.LayersModel');
      // Layers without an input shape make their weights on first use: that has to happen under the same seed.
      tf.tidy(
        () => void forward(tf, built, job.preprocess(tf, gatherItems(tf, data.train, null, 0, 1)), false),
      );
      return built;
    });
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError('code-invalid', `build() or preprocess() failed: ${why}`, undefined, { cause });
  }
  const kind = outputKind(model, data.train.classes.length);
  const variables = model.trainableWeights.map((weight) => weight.read() as Variable);
  if (variables.length === 0) throw new UserError('code-invalid', 'the model has no trainable weights');
  return { tf, job, identity: jobDigest(job), model, kind, variables, optimizer };
}

function forward(tf: Tf, model: LayersModel, input: Tensor, training: boolean): Tensor {
  if (!(input instanceof tf.Tensor) || input.rank === 0) {
    throw new Error('preprocess() did not return a batch as a tensor');
  }
  const output = model.apply(input, { training });
  return (Array.isArray(output) ? output[0] : output) as Tensor;
}

/** One mini-batch: forward, backward, update. Adds to `progress`. Throws a UserError (training-failed). */
function step(session: Session, progress: Progress, order: Uint32Array, epoch: number): void {
  const { tf, job, model, kind, variables, optimizer } = session;
  const { train: data } = job.data;
  const classes = data.classes.length;
  const from = progress.batch * job.hyperparameters.batchSize;
  const to = Math.min(data.count, from + job.hyperparameters.batchSize);
  const labels = gatherLabels(data, order, from, to);
  const [loss, correct] = withRandom(seededRandom(job.seed, 'step', progress.step), 'a step', () =>
    tf.tidy((): [number, number] => {
      const input = job.preprocess(tf, gatherItems(tf, data, order, from, to));
      let right = 0;
      let dataLoss = 0;
      const { grads } = tf.variableGrads(() => {
        const outputs = forward(tf, model, input, true);
        right = countCorrect(outputs.dataSync() as Float32Array, labels, classes);
        let total = crossEntropy(tf, kind, outputs, oneHot(tf, labels, classes));
        dataLoss = total.dataSync()[0]!;
        for (const penalty of model.calculateLosses()) total = tf.add(total, penalty);
        return total as ReturnType<Tf['scalar']>;
      }, variables);
      if (Number.isFinite(dataLoss)) optimizer.applyGradients(grads);
      return [dataLoss, right];
    }),
  );
  if (!Number.isFinite(loss)) {
    throw new UserError(
      'training-failed',
      `the loss is ${loss} in epoch ${epoch}, step ${progress.step + 1}`,
      lossHint,
    );
  }
  progress.step++;
  progress.batch++;
  progress.running.loss += loss * (to - from);
  progress.running.correct += correct;
  progress.running.seen += to - from;
}

function runningMetrics({ running }: Progress): Metrics {
  return { loss: running.loss / running.seen, accuracy: running.correct / running.seen };
}

/** Early stopping: remembers the best epoch by validation loss and ends the training when it is too long ago. */
function judge(
  session: Session,
  state: TrainingState,
  { patience, minDelta }: { patience: number; minDelta: number },
): void {
  const { progress } = state;
  const loss = progress.last.validationLoss!;
  if (!progress.best || loss < progress.best.loss - minDelta) {
    progress.best = { epoch: progress.epoch, loss, metrics: progress.last, waited: 0 };
    state.bestWeights = readWeights(session.model);
  } else {
    progress.best.waited++;
    progress.stopped = progress.best.waited >= patience;
  }
}

function begin(): TrainingState {
  return {
    progress: {
      epoch: 0,
      batch: 0,
      step: 0,
      running: { loss: 0, correct: 0, seen: 0 },
      last: {},
      best: null,
      stopped: false,
    },
    optimizer: { step: 0, slots: [] },
    bestWeights: null,
  };
}

async function resume(session: Session, folder: string): Promise<TrainingState> {
  const { tf, identity, model, variables, optimizer } = session;
  const sizes = variables.map((variable) => variable.size);
  const state = await loadCheckpoint(tf, folder, identity, model, sizes, optimizer.slotCount);
  optimizer.restore(variables, state.optimizer);
  return state;
}

function save(session: Session, state: TrainingState): Promise<string> {
  const { job, identity, model, variables, optimizer } = session;
  return saveCheckpoint(job.output, identity, model, { ...state, optimizer: optimizer.state(variables) });
}

/** What a checkpoint must agree with: seed, data and hyperparameters; more epochs may follow. The code is not in it. */
function jobDigest({ seed, data, hyperparameters }: TrainJob): Digest {
  const { epochs: _, ...rest } = hyperparameters;
  const describe = ({ x, y, shape, classes }: TrainData) => ({
    x: digestBytes(new Uint8Array(x.buffer, x.byteOffset, x.byteLength)),
    y: digestJson([...y]),
    shape,
    classes,
  });
  return digestJson({
    seed,
    hyperparameters: rest,
    train: describe(data.train),
    validation: describe(data.validation),
  });
}

function checkHyperparameters({ epochs, batchSize, earlyStopping }: Hyperparameters): void {
  const positive = { epochs, batchSize, ...(earlyStopping ? { patience: earlyStopping.patience } : {}) };
  for (const [name, value] of Object.entries(positive)) {
    if (!Number.isInteger(value) || value < 1) {
      throw new UserError(
        'config-invalid',
        `hyperparameter ${name} is ${value}; it has to be a whole number from 1`,
      );
    }
  }
  if (earlyStopping && !(earlyStopping.minDelta >= 0)) {
    throw new UserError(
      'config-invalid',
      `earlyStopping.minDelta is ${earlyStopping.minDelta}; it has to be 0 or more`,
    );
  }
}
