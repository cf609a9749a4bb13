import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { measureOf } from '../../src/core/evaluation.ts';
import { compareCorrect, correctness } from '../../src/model/correct.ts';
import { compare, mcnemar, score } from '../../src/model/metrics.ts';
import { seededRandom } from '../../src/train/random.ts';
import { randomRows } from './random-rows.ts';

const python = process.env.CDL_PYTHON ?? 'python3';
const hasSklearn = spawnSync(python, ['-c', 'import sklearn, scipy']).status === 0;

/** What a Python program prints as JSON, given JSON. */
function ask<T>(script: string, input: object): T {
  const options = { input: JSON.stringify(input), maxBuffer: 2 ** 28 };
  return JSON.parse(execFileSync(python, ['-W', 'ignore', '-c', script], options).toString()) as T;
}

interface Rows {
  rows: number[];
  labels: number[];
  classes: number;
}

/** Probabilities in 64ths, so that many are equal and some are 0 or 1. */
function coarseRows(count: number, classes: number, truths: readonly number[], seed: number): Rows {
  const random = seededRandom('coarse', seed);
  const labels = Array.from({ length: count }, () => truths[Math.floor(random() * truths.length)]!);
  const rows = labels.flatMap((label) => {
    const row = Array.from({ length: classes }, () => 0);
    const units = [1, 2, 4, 64][Math.floor(random() * 4)]!;
    for (let unit = 0; unit < units; unit++)
      row[random() < 0.4 ? label : Math.floor(random() * classes)]! += 64 / units;
    return row.map((one) => one / 64);
  });
  return { rows, labels, classes };
}

const everyMetric = `
import json, sys
import numpy as np
from sklearn import metrics as m
from sklearn.calibration import calibration_curve
def tell(d):
  n = d["classes"]; labels = list(range(n))
  p = np.array(d["rows"], dtype=np.float64).reshape(-1, n); p = p / p.sum(1, keepdims=True)
  y = np.array(d["labels"]); q = p.argmax(1); one = np.eye(n)[y]
  k = dict(average="macro", zero_division=0); each = dict(average=None, zero_division=0, labels=labels)
  known = sorted(set(y) | set(q))
  tn = [m.recall_score(y != c, q != c, zero_division=0) for c in labels]
  # Predictions of single precision scikit-learn keeps its epsilon away from 0 and 1, but then it also adds in single precision.
  e = np.finfo(np.float32).eps
  out = {"accuracy": m.accuracy_score(y, q), "balanced_accuracy": m.balanced_accuracy_score(y, q),
    "macro_precision": m.precision_score(y, q, **k), "macro_recall": m.recall_score(y, q, **k), "macro_f1": m.f1_score(y, q, **k),
    "macro_f0.5": m.fbeta_score(y, q, beta=0.5, **k), "macro_f2": m.fbeta_score(y, q, beta=2, **k),
    "macro_specificity": np.mean([tn[c] for c in known]),
    "log_loss": m.log_loss(y, np.clip(p, e, 1 - e), labels=labels),
    "brier": np.mean(((p - one) ** 2).sum(1)) if n == 1 else np.sum([m.brier_score_loss(y == c, p[:, c], pos_label=True) for c in labels]),
    "map": m.label_ranking_average_precision_score(one, p), "ndcg": m.ndcg_score(one, p)}
  for top in (2, 3, 5):
    if top < n: out[f"top{top}_accuracy"] = m.top_k_accuracy_score(y, p, k=top, labels=labels)
  if n == 2: out["top2_accuracy"] = 1.0
  hit, sure = y == q, p.max(1)
  right, said = calibration_curve(hit, sure, n_bins=15, strategy="uniform")
  held = np.bincount(np.searchsorted(np.linspace(0, 1, 16)[1:-1], sure), minlength=15)
  held = held[held > 0]
  out["ece"] = np.sum(held * np.abs(right - said)) / len(y)
  both = [c for c in labels if 0 < one[:, c].sum() < len(y)]
  roc = {c: m.roc_auc_score(y == c, p[:, c]) for c in both}
  pr = {c: m.average_precision_score(y == c, p[:, c]) for c in both}
  if both: out["roc_auc"] = np.mean(list(roc.values())); out["pr_auc"] = np.mean(list(pr.values()))
  pr0, rc0, f1 = (f(y, q, **each) for f in (m.precision_score, m.recall_score, m.f1_score))
  half, two = (m.fbeta_score(y, q, beta=b, **each) for b in (0.5, 2))
  rows = [{"precision": pr0[c], "recall": rc0[c], "sensitivity": rc0[c], "f1": f1[c], "f0.5": half[c], "f2": two[c],
    "specificity": tn[c], **({"roc_auc": roc[c], "pr_auc": pr[c]} if c in roc else {})} for c in labels]
  return {"metrics": out, "perClass": rows, "confusion": m.confusion_matrix(y, q, labels=labels).tolist(),
    "calibration": [{"confidence": s, "accuracy": r, "count": int(h)} for s, r, h in zip(said, right, held)]}
print(json.dumps([tell(d) for d in json.load(sys.stdin)], default=float))`;

interface Told {
  metrics: Record<string, number>;
  perClass: Record<string, number>[];
  confusion: number[][];
  calibration: { confidence: number; accuracy: number; count: number }[];
}

describe.skipIf(!hasSklearn)(
  `scikit-learn${hasSklearn ? '' : ' (skipped: python3 with scikit-learn is not installed)'}`,
  () => {
    test('says the same of every metric to nine decimals: of ties, of sure and wrong rows, where classes are missing, of one class', () => {
      const sets: Rows[] = [];
      for (let seed = 1; seed <= 12; seed++) {
        const classes = 2 + (seed % 7);
        const { rows, labels } = randomRows(50 * seed, classes, 0.3, seed);
        sets.push({ rows: [...rows], labels: [...labels], classes });
        const all = Array.from({ length: classes }, (_, k) => k);
        const some = seed % 3 === 0 ? all.slice(1) : seed % 3 === 1 ? all : [classes - 1];
        sets.push(coarseRows(30 * seed, classes, some, seed));
      }
      const theirs = ask<Told[]>(everyMetric, sets);
      for (const [at, set] of sets.entries()) {
        const names = Array.from({ length: set.classes }, (_, k) => `c${k}`);
        const ours = score(Float32Array.from(set.rows), set.labels, names, { bootstrap: 0 });
        const told = theirs[at]!;
        const where = `set ${at}, ${set.classes} classes`;
        expect(Object.keys(ours.metrics).sort(), where).toEqual(Object.keys(told.metrics).sort());
        for (const [name, value] of Object.entries(told.metrics))
          expect(Math.abs(ours.metrics[name]!.value - value), `${name} of ${where}`).toBeLessThan(1e-9);
        for (const [index, row] of told.perClass.entries()) {
          for (const [name, value] of Object.entries(row)) {
            // Under the names that gates use.
            const own = measureOf(ours, `${name}[c${index}]`)!;
            expect(Math.abs(own.value - value), `${name}[c${index}] of ${where}`).toBeLessThan(1e-9);
          }
          expect(ours.perClass[index]!.roc_auc === undefined, where).toBe(row.roc_auc === undefined);
        }
        expect(ours.confusion, where).toEqual(told.confusion);
        expect(
          ours.calibration!.map((bin) => bin.count),
          where,
        ).toEqual(told.calibration.map((bin) => bin.count));
        for (const [bin, { confidence, accuracy }] of told.calibration.entries()) {
          expect(Math.abs(ours.calibration![bin]!.confidence - confidence), where).toBeLessThan(1e-9);
          expect(Math.abs(ours.calibration![bin]!.accuracy - accuracy), where).toBeLessThan(1e-9);
        }
      }
    });

    test('says the same of the errors of numbers, where truths are 0 and errors are equal as well', () => {
      const { rows, labels } = randomRows(301, 4, 0.5, 3);
      const values = [-2, 0, 0.5, 10];
      const script = `
import json, sys
import numpy as np
from sklearn import metrics as m
d = json.load(sys.stdin)
def tell(y, p):
  return {"mae": m.mean_absolute_error(y, p), "rmse": m.root_mean_squared_error(y, p), "r2": m.r2_score(y, p),
    "median_ae": m.median_absolute_error(y, p), "mape": m.mean_absolute_percentage_error(y, p)}
out = []
for rows, labels in d["sets"]:
  p = np.array(rows, dtype=np.float64).reshape(-1, 4); p = p / p.sum(1, keepdims=True)
  v = np.array(d["values"]); out.append(tell(v[np.array(labels)], p @ v))
print(json.dumps(out))`;
      const coarse = [1, 2, 3].map((seed) => coarseRows(40 + seed, 4, [0, 1, 2, 3], seed));
      const sets: [number[], number[]][] = [
        [[...rows], [...labels]],
        [[...rows.subarray(0, 4 * 300)], [...labels.subarray(0, 300)]],
        // Always the same truth.
        [
          [0.25, 0.25, 0.25, 0.25, 0.125, 0.125, 0.25, 0.5],
          [3, 3],
        ],
        ...coarse.map((one): [number[], number[]] => [one.rows, one.labels]),
      ];
      const theirs = ask<Record<string, number>[]>(script, { sets, values });
      for (const [at, [some, truths]] of sets.entries()) {
        const ours = score(Float32Array.from(some), truths, ['-2', '0', '0.5', '10'], {
          bootstrap: 0,
          values,
        });
        for (const [name, value] of Object.entries(theirs[at]!)) {
          const error = Math.abs(ours.metrics[name]!.value - value) / Math.max(1, Math.abs(value));
          expect(error, `${name} of set ${at}`).toBeLessThan(1e-9);
        }
      }
    });

    test('says the same as SciPy of McNemar’s exact test, from none to thousands of disagreements', () => {
      const random = seededRandom('mcnemar', 1);
      const pairs = [
        [0, 0],
        [0, 1],
        [7, 7],
        [2450, 2550],
        [1000, 1100],
        ...Array.from({ length: 60 }, (_, at) =>
          [random(), random()].map((one) => Math.floor(one * 3 ** (at / 7))),
        ),
      ];
      const script = `
import json, sys
from scipy.stats import binomtest
print(json.dumps([binomtest(b, b + c, 0.5).pvalue if b + c else 1.0 for b, c in json.load(sys.stdin)]))`;
      const theirs = ask<number[]>(script, pairs);
      for (const [at, [b, c]] of pairs.entries())
        expect(Math.abs(mcnemar(b!, c!) - theirs[at]!), `${b}, ${c}`).toBeLessThan(1e-9);
    });

    test('and SciPy’s bootstrap draw the same intervals, of a metric and of a paired difference, up to chance', () => {
      const { rows, labels } = randomRows(400, 3, 0.5, 21);
      const other = randomRows(400, 3, 0.4, 22).rows;
      const names = ['a', 'b', 'c'];
      const script = `
import json, sys
import numpy as np
from scipy.stats import bootstrap
d = json.load(sys.stdin)
y = np.array(d["labels"]); a, b = (np.array(d[k]).reshape(-1, 3).argmax(1) for k in ("rows", "other"))
def recall(y, q): return np.mean([(q[y == c] == c).mean() for c in range(3)])
how = dict(paired=True, vectorized=False, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
own = bootstrap((y, a), recall, **how).confidence_interval
both = bootstrap((y, a, b), lambda y, a, b: recall(y, a) - recall(y, b), **how).confidence_interval
print(json.dumps([[own.low, own.high], [both.low, both.high]]))`;
      const theirs = ask<[number, number][]>(script, {
        rows: [...rows],
        other: [...other],
        labels: [...labels],
      });
      const ours = [
        score(rows, labels, names, { bootstrap: 4000, areas: false }).metrics.balanced_accuracy!,
        compare(rows, other, labels, names, { bootstrap: 4000, areas: false }).differences.balanced_accuracy!,
      ];
      for (const [at, { low, high }] of ours.entries()) {
        const width = theirs[at]![1] - theirs[at]![0];
        expect(Math.abs(low - theirs[at]![0]) / width).toBeLessThan(0.05);
        expect(Math.abs(high - theirs[at]![1]) / width).toBeLessThan(0.05);
      }
      // The interval in closed form, of the same pair.
      const { difference, half } = compareCorrect(correctness(rows, labels), correctness(other, labels));
      const resampled = compare(rows, other, labels, names, { bootstrap: 4000, areas: false }).differences
        .accuracy!;
      expect(Math.abs(difference - half - resampled.low) / half).toBeLessThan(0.1);
      expect(Math.abs(difference + half - resampled.high) / half).toBeLessThan(0.1);
    });
  },
);
