import { z } from 'zod';

/** `models.<model>.train`: a program that trains, in place of the built-in trainer. */
export const trainSchema = z
  .strictObject({
    command: z
      .array(
        z
          .string()
          .min(1)
          .max(4096)
          .refine((word) => !word.includes('\0'), 'no NUL'),
      )
      .min(1)
      .max(100)
      .describe(
        'program and its arguments, started without a shell, or a notebook (.ipynb) that papermill executes; it reads CDL_JOB and writes CDL_EVENTS',
      ),
    launcher: z
      .enum(['torchrun', 'ray'])
      .optional()
      .describe(
        'torchrun: several processes on one machine; ray: a job of a Ray cluster; without one it is one process',
      ),
    processes: z
      .int()
      .min(1)
      .max(1024)
      .optional()
      .describe('that torchrun starts; default: one for each GPU of resources.train'),
    address: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('of the job server of the Ray cluster, http://head:8265; default: RAY_ADDRESS'),
    runtime: z
      .enum(['onnx', 'tfjs'])
      .default('onnx')
      .describe('what serves its model: model.onnx, or model.json with weights.bin'),
    restarts: z
      .int()
      .min(0)
      .max(100)
      .default(0)
      .describe('how often a command that fails goes on from a checkpoint it made since it was started'),
    grace: z.number().min(0).max(3600).default(30).describe('seconds between SIGTERM and SIGKILL'),
    disk: z
      .string()
      .regex(/^\d+(\.\d+)?(Mi|Gi)$/, 'a size like 512Mi or 50Gi')
      .default('50Gi')
      .describe('what it may write'),
  })
  .optional()
  .describe('train by a command (PyTorch, JAX, Keras, any program) instead of the built-in trainer');

/** See {@link trainSchema}. */
export type TrainConfig = NonNullable<z.output<typeof trainSchema>>;

/** What a package of a model is run with; `onnx` and `tfjs` name the files of its checkpoint. */
export type Runtime = TrainConfig['runtime'];

/** The runtime of a model: the built-in trainer makes models of TensorFlow.js. */
export function runtimeOf(config: { train?: TrainConfig | undefined }): Runtime {
  return config.train?.runtime ?? 'tfjs';
}

/** Bytes of a size like `512Mi` or `50Gi`. */
export function sizeBytes(text: string): number {
  return Math.floor(Number.parseFloat(text) * (text.endsWith('Gi') ? 2 ** 30 : 2 ** 20));
}
