import type { layers as tfLayers } from '@tensorflow/tfjs-layers';
import type { Tensor, Tf } from '../types.ts';

type Layer = tfLayers.Layer;
type Registrable = Parameters<Tf['serialization']['registerClass']>[0];
type LayerArgs = Parameters<Tf['layers']['layerNormalization']>[0];

/** What the layer of tfjs-layers keeps once built. */
type Built = Layer & {
  axis: number | number[];
  epsilon: number;
  gamma: { read(): Tensor } | null;
  beta: { read(): Tensor } | null;
};

/**
 * Layer normalisation over the last axis, y = γ·(x − μ)/√(σ² + ε) + β, with its gradient in closed form.
 *
 * x `[..., D]`, gamma and beta `[D]`. With x̂ = (x − μ)/√(σ² + ε) and g = dy·γ:
 * dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + ε), dγ = Σ dy·x̂, dβ = Σ dy, means over the last axis, sums over the others.
 * Source: Ba, Kiros and Hinton 2016 (arXiv:1607.06450), equation 3, differentiated as Ioffe and Szegedy 2015 do for the
 * batch. The recorded gradient of the stock layer runs some hundred operations a call; this runs a dozen.
 */
export function layerNormalize(tf: Tf, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: number): Tensor {
  const normalize = tf.customGrad((...args) => {
    const [input, scale, offset, save] = args as unknown as [
      Tensor,
      Tensor,
      Tensor,
      (tensors: Tensor[]) => void,
    ];
    const centred = tf.sub(input, tf.mean(input, -1, true));
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
    const normal = tf.mul(centred, inverse);
    save([normal, inverse, scale]);
    return {
      value: tf.add(tf.mul(normal, scale), offset),
      gradFunc: (dy: Tensor, saved: Tensor[]) => {
        const [hat, inverseDeviation, weight] = saved as [Tensor, Tensor, Tensor];
        const g = tf.mul(dy, weight);
        const others = dy.shape.slice(1).map((_, axis) => axis);
        const along = tf.mul(hat, tf.mean(tf.mul(g, hat), -1, true));
        return [
          tf.mul(inverseDeviation, tf.sub(tf.sub(g, tf.mean(g, -1, true)), along)),
          tf.sum(tf.mul(dy, hat), others),
          tf.sum(dy, others),
        ];
      },
    };
  });
  return normalize(x, gamma, beta);
}

/**
 * Makes `tf.layers.layerNormalization` and every loaded model use {@link layerNormalize} where the axis is the last.
 *
 * The class keeps its name and configuration, so saved models stay readable anywhere. `tf` is changed.
 */
export function registerLayerNormalization(tf: Tf): void {
  const Stock = tf.layers.layerNormalization().constructor as new (args?: LayerArgs) => Layer;
  class LayerNormalization extends Stock {
    static readonly className = 'LayerNormalization';

    override call(inputs: Tensor | Tensor[], kwargs: Parameters<Layer['call']>[1]): Tensor | Tensor[] {
      const { axis, epsilon, gamma, beta } = this as unknown as Built;
      const x = Array.isArray(inputs) ? inputs[0]! : inputs;
      const width = x.shape[x.rank - 1]!;
      if (!Array.isArray(axis) || axis.length !== 1 || axis[0] !== x.rank - 1)
        return super.call(inputs, kwargs);
      return tf.tidy(() =>
        layerNormalize(tf, x, gamma?.read() ?? tf.ones([width]), beta?.read() ?? tf.zeros([width]), epsilon),
      );
    }
  }
  tf.serialization.registerClass(LayerNormalization as unknown as Registrable);
  const make = (args?: LayerArgs) =>
    new LayerNormalization(args) as ReturnType<typeof tf.layers.layerNormalization>;
  tf.layers = { ...tf.layers, layerNormalization: make };
}
