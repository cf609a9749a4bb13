// A training as somebody has it: a perceptron 784-64-10 by stochastic gradient descent in plain JavaScript, on noise. With
// CDL_JOB and CDL_EVENTS it also tells what a command of cdl.yaml tells; without, it only trains: `node model-train.mjs STEPS`.
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const job = process.env.CDL_JOB ? JSON.parse(readFileSync(process.env.CDL_JOB, 'utf8')) : null;
const steps = Number(job?.hyperparameters.steps ?? process.argv[2]);
const tell = (event) => {
  if (process.env.CDL_EVENTS) appendFileSync(process.env.CDL_EVENTS, `${JSON.stringify(event)}\n`);
};
const [inputs, hidden, classes, batch, rate] = [784, 64, 10, 32, 0.05];
let state = 1;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
};
const noise = (size, scale) => Float32Array.from({ length: size }, () => (random() - 0.5) * scale);
const [first, second] = [noise(inputs * hidden, 0.1), noise(hidden * classes, 0.3)];
const items = noise(inputs * 512, 2);
for (let step = 1; step <= steps; step++) {
  let loss = 0;
  for (let at = 0; at < batch; at++) {
    const item = Math.floor(random() * 512);
    const x = items.subarray(item * inputs, (item + 1) * inputs);
    const h = new Float32Array(hidden);
    for (let i = 0; i < inputs; i++) for (let j = 0; j < hidden; j++) h[j] += x[i] * first[i * hidden + j];
    for (let j = 0; j < hidden; j++) h[j] = Math.max(0, h[j]);
    const out = new Float32Array(classes);
    for (let j = 0; j < hidden; j++)
      for (let k = 0; k < classes; k++) out[k] += h[j] * second[j * classes + k];
    const most = Math.max(...out);
    const sum = out.reduce((all, one) => all + Math.exp(one - most), 0);
    const error = out.map((one, k) => Math.exp(one - most) / sum - (k === item % classes ? 1 : 0));
    loss -= Math.log(Math.max(1e-9, error[item % classes] + 1)) / batch;
    for (let j = 0; j < hidden; j++) {
      let back = 0;
      for (let k = 0; k < classes; k++) {
        back += error[k] * second[j * classes + k];
        second[j * classes + k] -= (rate / batch) * error[k] * h[j];
      }
      if (h[j] > 0) for (let i = 0; i < inputs; i++) first[i * hidden + j] -= (rate / batch) * back * x[i];
    }
  }
  if (step % 100 === 0) tell({ kind: 'step', step, metrics: { loss } });
}
if (job) {
  mkdirSync(`${job.output}/model`, { recursive: true });
  writeFileSync(`${job.output}/model/weights.bin`, first);
}
tell({ kind: 'done', model: 'model' });
