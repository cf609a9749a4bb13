import { tinyConfig, tinyFiles } from './project.ts';

/**
 * A trainer without any framework: nearest mean, written as ONNX (onnx.ai, onnx.proto3) by hand. In its first epoch it keeps
 * a checkpoint; with the hyperparameter \`crash\` it then fails, and succeeds when it goes on from there.
 */
const trainer = `import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
const job = JSON.parse(readFileSync(process.env.CDL_JOB, 'utf8'));
const tell = (event) => appendFileSync(process.env.CDL_EVENTS, JSON.stringify(event) + '\\n');
const npy = (path) => { const bytes = readFileSync(path); return bytes.subarray(10 + bytes.readUInt16LE(8)); };

const varint = (n) => { const out = []; while (n > 127) { out.push((n & 127) | 128); n >>>= 7; } return [...out, n]; };
const num = (field, n) => Buffer.from([...varint(field << 3), ...varint(n)]);
const len = (field, ...parts) => {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  return Buffer.concat([Buffer.from([...varint((field << 3) | 2), ...varint(body.length)]), body]);
};
const tensor = (name, dims, values) =>
  len(5, ...dims.map((dim) => num(1, dim)), num(2, 1), len(8, name), len(9, Buffer.from(new Float32Array(values).buffer)));
const value = (field, name, dims) =>
  len(field, len(1, name), len(2, len(1, num(1, 1), len(2, ...['N', ...dims].map((dim) => len(1, typeof dim === 'number' ? num(1, dim) : len(2, dim)))))));
const node = (op, inputs, output) => len(1, ...inputs.map((name) => len(1, name)), len(2, output), len(4, op));

const { data, classes } = job;
const size = data.shape.reduce((a, b) => a * b, 1);
const [x, y] = [npy(data.train.items), npy(data.train.labels)];
const means = classes.map(() => new Float64Array(size));
const counts = classes.map(() => 0);
y.forEach((label, item) => { counts[label]++; for (let k = 0; k < size; k++) means[label][k] += x[item * size + k]; });
means.forEach((mean, label) => mean.forEach((sum, k) => { mean[k] = sum / counts[label] / 255; }));
mkdirSync(job.output + '/checkpoints/1/deep', { recursive: true });
writeFileSync(job.output + '/checkpoints/1/deep/means.safetensors', JSON.stringify(means.map((mean) => [...mean])));
tell({ kind: 'step', epoch: 1, step: 1, metrics: { loss: 0.7 } });
tell({ kind: 'epoch', epoch: 1, step: 1, metrics: { loss: 0.5, validation_loss: 0.6 }, checkpoint: 'checkpoints/1' });
if (job.hyperparameters.crash && !job.resume) process.exit(9);
const weights = Array.from({ length: size * classes.length }, (_, at) => 2 * means[at % classes.length][Math.floor(at / classes.length)] / 255);
const bias = means.map((mean) => -mean.reduce((sum, one) => sum + one * one, 0));
mkdirSync(job.output + '/model', { recursive: true });
writeFileSync(job.output + '/model/model.onnx', Buffer.concat([
  num(1, 8),
  len(7, node('Flatten', ['input'], 'flat'), node('Gemm', ['flat', 'w', 'b'], 'logits'), len(2, 'graph'),
    tensor('w', [size, classes.length], weights), tensor('b', [classes.length], bias),
    value(11, 'input', data.shape), value(12, 'logits', [classes.length])),
  len(8, num(2, 13)),
]));
tell({ kind: 'done', model: 'model', metrics: { validation_accuracy: 1 }, environment: { framework: 'none' } });
`;

/** The tiny project, trained by a program that knows nothing of TensorFlow.js, without a module of ours. */
export function onnxFiles(hyperparameters = '{ epochs: 1 }'): Record<string, string | Buffer> {
  const { 'model.ts': _model, 'lib/scale.ts': _scale, ...files } = tinyFiles();
  const config = tinyConfig()
    .replace(
      'code: [model.ts, "lib/**"]',
      `code: [train.mjs]\n    train: { command: [node, train.mjs], restarts: 1 }`,
    )
    .replace(/hyperparameters: .*/, `hyperparameters: ${hyperparameters}`);
  return { ...files, 'cdl.yaml': config, 'train.mjs': trainer };
}
