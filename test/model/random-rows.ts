import { seededRandom } from '../../src/train/random.ts';

/** Random probabilities of `count` items that favour the truth by `skill`. */
export function randomRows(count: number, classes: number, skill: number, seed: number) {
  const random = seededRandom('rows', seed);
  const labels = Uint8Array.from({ length: count }, () => Math.floor(random() * classes));
  const rows = new Float32Array(count * classes);
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let k = 0; k < classes; k++) sum += rows[i * classes + k] = random() + (k === labels[i] ? skill : 0);
    for (let k = 0; k < classes; k++) rows[i * classes + k]! /= sum;
  }
  return { rows, labels };
}
