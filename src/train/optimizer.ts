import type { NamedTensorMap, Optimizer, Variable } from '@tensorflow/tfjs-core';
import { UserError } from '../core/error.ts';
import type { WasmBackend } from './kernels/heap.ts';
import type { OptimizerName, Tensor, Tf } from './types.ts';

/** All an optimizer remembers: its step count and, per variable in the order asked for, its slots. */
export interface OptimizerState {
  step: number;
  slots: Float32Array[][];
}

/** A TensorFlow.js optimizer whose memory can be saved and put back bit by bit. */
export interface ResumableOptimizer extends Optimizer {
  /** How many slots (tensors of a variable's shape) it keeps per variable. */
  readonly slotCount: number;
  state(variables: readonly Variable[]): OptimizerState;
  restore(variables: readonly Variable[], state: OptimizerState): void;
}

interface Rule {
  slotCount: number;
  /** One pass: reads weights w and gradients g, updates the slots in place, writes the new weights to `out`. */
  pass(w: Float32Array, g: Float32Array, out: Float32Array, slots: Float32Array[], step: number): void;
  /** The same with tensors, for backends whose memory is elsewhere: returns the new weights, then the new slots. */
  tensors(w: Tensor, g: Tensor, slots: Tensor[], step: number): Tensor[];
}

/**
 * Adam: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1, with β₁ = 0.9, β₂ = 0.999, ε = 1e-7 (as Keras).
 * √v̂ + ε is computed as √v / √(1 − β₂ᵗ) + ε.
 */
function adam(tf: Tf, rate: number, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7): Rule {
  const scales = (step: number) => ({
    move: rate / (1 - beta1 ** step),
    root: 1 / Math.sqrt(1 - beta2 ** step),
  });
  return {
    slotCount: 2,
    pass(w, g, out, [m, v], step) {
      const { move, root } = scales(step);
      for (let k = 0; k < w.length; k++) {
        const slope = g[k]!;
        const first = beta1 * m![k]! + (1 - beta1) * slope;
        const second = beta2 * v![k]! + (1 - beta2) * slope * slope;
        m![k] = first;
        v![k] = second;
        out[k] = w[k]! - (move * first) / (Math.sqrt(second) * root + epsilon);
      }
    },
    tensors(w, g, [m, v], step) {
      const { move, root } = scales(step);
      const first = tf.add(tf.mul(m!, beta1), tf.mul(g, 1 - beta1));
      const second = tf.add(tf.mul(v!, beta2), tf.mul(tf.square(g), 1 - beta2));
      const denominator = tf.add(tf.mul(tf.sqrt(second), root), epsilon);
      return [tf.sub(w, tf.div(tf.mul(first, move), denominator)), first, second];
    },
  };
}

/** Stochastic gradient descent, w ← w − η·g. */
function sgd(tf: Tf, rate: number): Rule {
  return {
    slotCount: 0,
    pass(w, g, out) {
      for (let k = 0; k < w.length; k++) out[k] = w[k]! - rate * g[k]!;
    },
    tensors: (w, g) => [tf.sub(w, tf.mul(g, rate))],
  };
}

/** Gradient descent with momentum 0.9 (Polyak 1964), as Sutskever et al. 2013 write it: a ← μ·a + g, w ← w − η·a. */
function momentum(tf: Tf, rate: number, decay = 0.9): Rule {
  return {
    slotCount: 1,
    pass(w, g, out, [a], _step) {
      for (let k = 0; k < w.length; k++) {
        const sum = decay * a![k]! + g[k]!;
        a![k] = sum;
        out[k] = w[k]! - rate * sum;
      }
    },
    tensors(w, g, [a]) {
      const sum = tf.add(tf.mul(a!, decay), g);
      return [tf.sub(w, tf.mul(sum, rate)), sum];
    },
  };
}

/** RMSProp with decay 0.9 and ε = 1e-7 (Tieleman and Hinton 2012, lecture 6e): w ← w − η·g / √(s + ε). */
function rmsprop(tf: Tf, rate: number, decay = 0.9, epsilon = 1e-7): Rule {
  return {
    slotCount: 1,
    pass(w, g, out, [s], _step) {
      for (let k = 0; k < w.length; k++) {
        const slope = g[k]!;
        const mean = decay * s![k]! + (1 - decay) * slope * slope;
        s![k] = mean;
        out[k] = w[k]! - (rate * slope) / Math.sqrt(mean + epsilon);
      }
    },
    tensors(w, g, [s]) {
      const mean = tf.add(tf.mul(s!, decay), tf.mul(tf.square(g), 1 - decay));
      return [tf.sub(w, tf.div(tf.mul(g, rate), tf.sqrt(tf.add(mean, epsilon)))), mean];
    },
  };
}

const rules: Record<OptimizerName, (tf: Tf, rate: number) => Rule> = { adam, sgd, momentum, rmsprop };

/** The names {@link createOptimizer} takes. */
export const optimizerNames = Object.keys(rules) as OptimizerName[];

/**
 * Makes an optimizer for float32 variables.
 *
 * On wasm and cpu an update is one pass over memory per variable; on native backends it is tensor operations there.
 * `place` overrides that choice. A variable is never written in place: XNNPACK caches packed weights by tensor id, so
 * every update assigns a new tensor. Throws a UserError (config-invalid) for an unknown name or a rate that is not
 * a positive number.
 */
export function createOptimizer(
  tf: Tf,
  name: OptimizerName,
  learningRate: number,
  place: 'memory' | 'tensors' = ['wasm', 'cpu'].includes(tf.getBackend()) ? 'memory' : 'tensors',
): ResumableOptimizer {
  const make = Object.hasOwn(rules, name) ? rules[name] : undefined;
  if (!make) {
    throw new UserError('config-invalid', `optimizer "${name}" is not one of ${optimizerNames.join(', ')}`);
  }
  if (!(Number.isFinite(learningRate) && learningRate > 0)) {
    throw new UserError('config-invalid', `learningRate ${learningRate} is not a positive number`);
  }
  const rule = make(tf, learningRate);

  class RuleOptimizer extends tf.Optimizer implements ResumableOptimizer {
    static readonly className = `CDL-${name}`;
    readonly slotCount = rule.slotCount;
    #step = 0;
    readonly #memory = new Map<string, Float32Array[]>();
    readonly #tensors = new Map<string, Tensor[]>();

    override applyGradients(gradients: NamedTensorMap | { name: string; tensor: Tensor }[]): void {
      const pairs: [string, Tensor][] = Array.isArray(gradients)
        ? gradients.map((gradient) => [gradient.name, gradient.tensor])
        : Object.entries(gradients);
      this.#step++;
      tf.tidy(() => {
        for (const [variableName, gradient] of pairs) {
          const variable = tf.engine().registeredVariables[variableName];
          if (!variable || !gradient) continue;
          if (place === 'memory') this.#updateInMemory(variable, gradient);
          else this.#updateWithTensors(variable, gradient);
        }
      });
      this.incrementIterations();
    }

    #updateInMemory(variable: Variable, gradient: Tensor): void {
      const slots = this.#slots(variable);
      if (tf.getBackend() !== 'wasm') {
        const out = new Float32Array(variable.size);
        rule.pass(floats(variable), floats(gradient), out, slots, this.#step);
        variable.assign(tf.tensor(out, variable.shape));
        return;
      }
      const backend = tf.backend() as unknown as WasmBackend;
      const info = backend.makeOutput(variable.shape, 'float32');
      const next = tf.engine().makeTensorFromTensorInfo(info);
      // Views only now: the allocation above may have moved the heap.
      const [w, g, out] = [variable, gradient, info].map((t) => backend.typedArrayFromHeap(t)) as [
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      rule.pass(w, g, out, slots, this.#step);
      variable.assign(next);
    }

    #updateWithTensors(variable: Variable, gradient: Tensor): void {
      const before =
        this.#tensors.get(variable.name) ??
        Array.from({ length: rule.slotCount }, () => tf.zerosLike(variable));
      const [next, ...slots] = rule.tensors(variable, gradient, before, this.#step);
      variable.assign(next!);
      tf.dispose(before);
      this.#tensors.set(
        variable.name,
        slots.map((slot) => tf.keep(slot)),
      );
    }

    #slots(variable: Variable): Float32Array[] {
      let slots = this.#memory.get(variable.name);
      if (!slots) {
        slots = Array.from({ length: rule.slotCount }, () => new Float32Array(variable.size));
        this.#memory.set(variable.name, slots);
      }
      return slots;
    }

    state(variables: readonly Variable[]): OptimizerState {
      const slots = variables.map((variable) => {
        const tensors = this.#tensors.get(variable.name);
        return tensors
          ? tensors.map((slot) => Float32Array.from(floats(slot)))
          : this.#slots(variable).map((slot) => slot.slice());
      });
      return { step: this.#step, slots };
    }

    restore(variables: readonly Variable[], state: OptimizerState): void {
      this.#step = state.step;
      variables.forEach((variable, index) => {
        const slots = state.slots[index]!.map((slot) => slot.slice());
        if (place === 'memory') this.#memory.set(variable.name, slots);
        else {
          tf.dispose(this.#tensors.get(variable.name) ?? []);
          this.#tensors.set(
            variable.name,
            slots.map((slot) => tf.keep(tf.tensor(slot, variable.shape))),
          );
        }
      });
    }

    override dispose(): void {
      for (const slots of this.#tensors.values()) tf.dispose(slots);
      this.#tensors.clear();
      this.#memory.clear();
      super.dispose();
    }

    override getConfig() {
      return { name, learningRate };
    }
  }
  return new RuleOptimizer();
}

function floats(tensor: Tensor): Float32Array {
  const values = tensor.dataSync();
  if (!(values instanceof Float32Array)) throw new Error(`expected a float32 tensor, got ${tensor.dtype}`);
  return values;
}
