import type { Digest } from '../core/digest.ts';
import type { Runtime } from '../core/project-train.ts';

/** Data types of the Open Inference Protocol v2 that we serve. */
export type Datatype = 'BOOL' | 'UINT8' | 'INT32' | 'INT64' | 'FP32' | 'FP64' | 'BYTES';

/** A named tensor, row-major. */
export interface Tensor {
  name: string;
  datatype: Datatype;
  shape: number[];
  data: Uint8Array | Int32Array | Float32Array | Float64Array | string[];
}

/** A tensor that a servable takes or gives; -1 stands for any batch size. */
export interface TensorSpec {
  name: string;
  datatype: Datatype;
  shape: number[];
  /** How strings stand for raw items, in the words of MLServer's content types: as UTF-8 text, or in base64. */
  parameters?:
    | { content_type: 'str' | 'base64'; item?: 'text' | 'image' | 'record' | 'file' | undefined }
    | undefined;
}

/** What a servable takes and gives. */
export interface Signature {
  inputs: TensorSpec[];
  outputs: TensorSpec[];
  /** Names of the classes the output columns stand for. */
  classes: string[];
}

/** A model that answers. One at a time changes it (`patch`); a patched servable has another digest. */
export interface Servable {
  readonly info: { model: string; version: string; package: Digest; signature: Signature };
  /** Default tfjs. */
  readonly runtime?: Runtime;
  infer(inputs: Tensor[]): Promise<Tensor[]>;
  dispose(): void;
}

/** The file `signature.json` of a package: what `cdl package` writes and `cdl serve` reads. */
export interface PackageManifest {
  v: 1;
  model: string;
  /**
   * `tfjs`: `model.json`, `weights.bin` and the bundled code `code.mjs` with build and preprocess; for raw items also
   * `state.json`, which its encode is given. `onnx`: `model.onnx`, which takes the numbers as they are; code and state for
   * raw items alone.
   */
  runtime: Runtime;
  signature: Signature;
}
