import { badRequest, type RequestError, shown } from './request-error.ts';
import { checkShape, dataJson, elements, nestedJson, readData, shapeOf } from './tensor.ts';
import type { Servable, Signature, Tensor } from './types.ts';

/** A checked prediction request; `form` is how the client wrote its data and gets its answer. */
export interface SeldonRequest {
  puid: string | null;
  inputs: Tensor[];
  form: 'ndarray' | 'tensor';
}

/** A checked feedback: what really was the case, for a prediction made earlier. */
export interface SeldonFeedback {
  /** Id of the prediction (`meta.puid` of its answer), when the client kept it. */
  request: string | null;
  reward: number | null;
  /** Labels or class indexes, as sent. */
  truth: unknown;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function puidOf(meta: unknown): string | null {
  return isRecord(meta) && typeof meta.puid === 'string' && meta.puid !== '' ? meta.puid : null;
}

/**
 * Reads a Seldon v1 message (docs.seldon.io, Seldon Core 1 "External Prediction API": SeldonMessage) against a model's
 * signature: `data.ndarray`, nested or one flat row an item, or `data.tensor` with `shape` and `values`; for a model that
 * takes raw items `strData` with one of them, or `data.ndarray` of strings.
 * Throws RequestError 400.
 */
export function readSeldonRequest(body: unknown, signature: Signature): SeldonRequest {
  if (!isRecord(body)) throw badRequest(`the message must be an object, not ${shown(body)}`);
  const { data, strData } = body;
  const puid = puidOf(body.meta);
  const takesStrings = signature.inputs[0]!.datatype === 'BYTES';
  if (takesStrings && typeof strData === 'string') {
    return { puid, form: 'ndarray', inputs: [inputOf([strData], [1], 'strData', signature)] };
  }
  if (!isRecord(data)) {
    throw badRequest(
      takesStrings
        ? 'the message needs "strData" with one item, or "data" with an ndarray of strings; binData and jsonData are not taken'
        : 'the message needs "data" with ndarray or tensor; strData, binData and jsonData are not taken',
    );
  }
  if (data.ndarray !== undefined) {
    const shape = shapeOf(data.ndarray, 'data.ndarray');
    return { puid, form: 'ndarray', inputs: [inputOf(data.ndarray, shape, 'data.ndarray', signature)] };
  }
  if (isRecord(data.tensor)) {
    const shape = checkShape(data.tensor.shape, 'data.tensor');
    return { puid, form: 'tensor', inputs: [inputOf(data.tensor.values, shape, 'data.tensor', signature)] };
  }
  throw badRequest('data needs ndarray (nested arrays) or tensor {shape, values}');
}

function inputOf(data: unknown, shape: number[], where: string, signature: Signature): Tensor {
  const input = signature.inputs[0]!;
  const item = input.shape.slice(1);
  const isWhole = shape.length === item.length + 1 && item.every((size, index) => shape[index + 1] === size);
  const isFlat = shape.length === 2 && shape[1] === elements(item);
  if (!(isWhole || isFlat) || shape[0]! < 1) {
    throw badRequest(
      `${where} has the shape [${shape.join(', ')}]; the model takes [${['N', ...item].join(', ')}] or [N, ${elements(item)}]`,
    );
  }
  // The message names no type: numbers are doubles until the model's input type takes them.
  const datatype = input.datatype === 'BYTES' ? 'BYTES' : 'FP64';
  return {
    name: input.name,
    datatype,
    shape: [shape[0]!, ...item],
    data: readData(data, datatype, shape, where),
  };
}

/** The SeldonMessage answering a prediction: one row of class probabilities an item, `names` their classes. */
export function seldonResponse(
  info: Servable['info'],
  request: { puid: string; form: 'ndarray' | 'tensor' },
  outputs: readonly Tensor[],
): object {
  const output = outputs[0]!;
  const data =
    request.form === 'tensor'
      ? { tensor: { shape: output.shape, values: dataJson(output) } }
      : { ndarray: nestedJson(output) };
  return {
    data: { names: info.signature.classes, ...data },
    meta: {
      puid: request.puid,
      requestPath: { [info.model]: `${info.version}@${info.package}` },
      tags: {},
    },
  };
}

/** Reads a Feedback message: `reward`, `truth`, and the response it is about. Throws RequestError 400. */
export function readSeldonFeedback(body: unknown): SeldonFeedback {
  if (!isRecord(body)) throw badRequest(`the feedback must be an object, not ${shown(body)}`);
  const { reward, truth, response, request } = body;
  if (reward !== undefined && typeof reward !== 'number') {
    throw badRequest(`reward must be a number, not ${shown(reward)}`);
  }
  const data = isRecord(truth) && isRecord(truth.data) ? truth.data : null;
  const values = data?.ndarray ?? (isRecord(data?.tensor) ? data.tensor.values : undefined);
  if (reward === undefined && values === undefined) {
    throw badRequest('feedback needs a reward or truth.data with ndarray or tensor');
  }
  const about = [response, request].map((message) => puidOf(isRecord(message) ? message.meta : null));
  return { request: about[0] ?? about[1] ?? null, reward: reward ?? null, truth: values ?? null };
}

/** The error body of Seldon v1: SeldonMessage with a failed status. */
export function seldonError(error: RequestError): object {
  return { status: { code: error.status, info: error.message, reason: 'BAD_REQUEST', status: 'FAILURE' } };
}
