import type * as TfCore from '@tensorflow/tfjs-core';
import type * as TfLayers from '@tensorflow/tfjs-layers';
import type { RawItem } from '../data/raw-item.ts';

/** TensorFlow.js as one namespace: the core operations and the layers API, whatever backend runs them. */
export type Tf = typeof TfCore & typeof TfLayers;

/** A layered model of TensorFlow.js. */
export type LayersModel = TfLayers.LayersModel;

/** A tensor of TensorFlow.js. */
export type Tensor = TfCore.Tensor;

/**
 * Labelled items for classification, stored flat.
 *
 * `x` holds `count` items of `shape` (row-major, `count × product(shape)` numbers), `y` one class index per item,
 * `classes` their names in the order of the index.
 */
export interface TrainData {
  x: Uint8Array | Float32Array;
  y: Int32Array | Uint8Array;
  shape: number[];
  count: number;
  classes: string[];
}

/** What the trainer itself understands; every further key belongs to the user's `build`. */
export interface Hyperparameters {
  /** How often the training set is passed through, at least 1. */
  epochs: number;
  /** Items per step; the last batch of an epoch may be smaller. */
  batchSize: number;
  learningRate: number;
  optimizer: OptimizerName;
  /** Stop after `patience` epochs without a validation loss lower by at least `minDelta`; the best weights are kept. */
  earlyStopping?: { patience: number; minDelta: number } | null;
  [name: string]: unknown;
}

/** The update rules the built-in trainer knows. */
export type OptimizerName = 'adam' | 'sgd' | 'momentum' | 'rmsprop';

/** What the items look like when they reach the model: the shape of one, and the classes. */
export interface DataShape {
  shape: number[];
  classes: string[];
}

/** A training item as `fit` sees it. */
export type FitItem = RawItem;

/** The scalars of `models.<model>.transform` in `cdl.yaml`, by name. */
export type Parameters = Readonly<Record<string, number | string | boolean>>;

/** What a user's `model.ts` exports. The same `preprocess` and `encode` run in training, evaluation and serving. */
export interface ModelCode {
  /**
   * For items that are no tensors: learns from the training items alone what `encode` needs, such as a vocabulary. What it
   * returns must have a JSON form.
   */
  fit?(items: AsyncIterable<FitItem>, parameters: Parameters): unknown;
  /**
   * For items that are no tensors: turns one into numbers, always as many. It is given the bytes and nothing else, because a
   * server has nothing else. Synchronous.
   */
  encode?(item: { bytes: Uint8Array }, state: unknown): Uint8Array | Float32Array;
  /**
   * Makes a fresh model whose one output is `[N, classes]`: probabilities (softmax) or logits (linear).
   * Synchronous. It may be compiled or not: loss and optimizer come from the trainer.
   */
  build(tf: Tf, hyperparameters: Hyperparameters, data: DataShape): LayersModel;
  /** Turns raw items `[N, ...shape]` (int32 holding bytes, or float32) into the model's float input. Synchronous. */
  preprocess(tf: Tf, raw: Tensor): Tensor;
}

/** One training. The same job gives the same bytes, also when it was interrupted and resumed. */
export interface TrainJob extends ModelCode {
  data: { train: TrainData; validation: TrainData };
  hyperparameters: Hyperparameters;
  /** Decides initial weights, order of the items and dropout. */
  seed: number;
  /** Folder of a layers model whose weights those of the same name begin with; null or absent: none. */
  pretrained?: string | null;
  /** Folder of a checkpoint of the same job to go on from; null to begin. */
  resume: string | null;
  /** Folder for `checkpoints/` and, at the end, `model/`; made when absent. */
  output: string;
}

/**
 * Numbers by name: `loss` (mean cross-entropy in nats, without penalties of regularisers) and `accuracy` (0 to 1) over
 * the epoch so far, while the weights change; `validationLoss` and `validationAccuracy` at its end.
 */
export type Metrics = Record<string, number>;

/**
 * What a training tells while it runs. `epoch` counts from 1, `step` from 1 over the whole training.
 * `metrics` depend on the job alone; `samplesPerSecond` is the machine's.
 */
export type TrainEvent =
  | { kind: 'step'; step: number; epoch: number; metrics: Metrics; samplesPerSecond: number }
  | {
      kind: 'epoch';
      step: number;
      epoch: number;
      metrics: Metrics;
      checkpoint: string | null;
      samplesPerSecond: number;
    }
  /** The signal stopped it; the job can be resumed from `checkpoint`. */
  | { kind: 'stopped'; step: number; epoch: number; checkpoint: string }
  /** `metrics` are those of the epoch whose weights are in the folder `model`. */
  | {
      kind: 'done';
      step: number;
      epoch: number;
      /** Null where a program did not say. */
      bestEpoch: number | null;
      stoppedEarly: boolean;
      metrics: Metrics;
      model: string;
    };

/** What to do about a loss that is no number. */
export const lossHint = 'lower the learning rate, or look for items that hold no numbers';

/** Something that trains. Iterating drives it; leaving the iteration ends it. Throws UserError training-failed. */
export interface Trainer {
  readonly name: string;
  train(job: TrainJob, signal: AbortSignal): AsyncIterable<TrainEvent>;
}
