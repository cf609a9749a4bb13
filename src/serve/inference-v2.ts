import { badRequest, shown } from './request-error.ts';
import {
  checkShape,
  dataJson,
  datatypes,
  elements,
  fits,
  isDatatype,
  maxElements,
  readData,
} from './tensor.ts';
import type { Servable, Signature, Tensor } from './types.ts';

/** A checked inference request. `outputs` are the names asked for, null for all. */
export interface InferRequest {
  id: string | null;
  inputs: Tensor[];
  outputs: string[] | null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads an inference request object (Open Inference Protocol v2 REST, "Inference Request JSON Object") against a model's
 * signature. Throws RequestError 400 naming the first thing that is wrong. The binary tensor extension is not spoken.
 */
export function readInferRequest(body: unknown, signature: Signature): InferRequest {
  if (!isRecord(body)) throw badRequest(`the request must be an object, not ${shown(body)}`);
  if (body.id !== undefined && typeof body.id !== 'string') {
    throw badRequest(`id must be a string, not ${shown(body.id)}`);
  }
  if (body.parameters !== undefined && !isRecord(body.parameters)) {
    throw badRequest(`parameters must be an object, not ${shown(body.parameters)}`);
  }
  if (!Array.isArray(body.inputs)) throw badRequest(`inputs must be an array, not ${shown(body.inputs)}`);
  const byName = new Map<string, Tensor>();
  let total = 0;
  for (const [index, value] of body.inputs.entries()) {
    const tensor = readInput(value, `inputs[${index}]`, signature);
    if (byName.has(tensor.name)) throw badRequest(`inputs[${index}].name "${tensor.name}" appears twice`);
    byName.set(tensor.name, tensor);
    total += elements(tensor.shape);
    if (total > maxElements) throw badRequest(`inputs hold more than ${maxElements} elements`);
  }
  const inputs = signature.inputs.map(({ name }) => {
    const tensor = byName.get(name);
    if (!tensor) throw badRequest(`input "${name}" is missing`);
    return tensor;
  });
  return { id: body.id ?? null, inputs, outputs: readOutputs(body.outputs, signature) };
}

function readInput(value: unknown, where: string, signature: Signature): Tensor {
  if (!isRecord(value)) throw badRequest(`${where} must be an object, not ${shown(value)}`);
  const { name, datatype } = value;
  const expected = signature.inputs.find((input) => input.name === name);
  if (typeof name !== 'string' || !expected) {
    const known = signature.inputs.map((input) => `"${input.name}"`).join(', ');
    throw badRequest(`${where}.name ${shown(name)} is not an input of this model; it has ${known}`);
  }
  if (!isDatatype(datatype)) {
    throw badRequest(`${where}.datatype ${shown(datatype)} is not one of ${datatypes.join(', ')}`);
  }
  if ((datatype === 'BYTES') !== (expected.datatype === 'BYTES')) {
    throw badRequest(`${where}.datatype is ${datatype}; input "${name}" takes ${expected.datatype}`);
  }
  if (isRecord(value.parameters) && value.parameters.binary_data_size !== undefined) {
    throw badRequest(`${where} uses the binary tensor extension, which this server does not list`);
  }
  const shape = checkShape(value.shape, where);
  if (!fits(shape, expected.shape)) {
    throw badRequest(
      `${where}.shape is [${shape.join(', ')}]; input "${name}" takes [${expected.shape.join(', ')}] (-1: any number from 1)`,
    );
  }
  return { name, datatype, shape, data: readData(value.data, datatype, shape, where) };
}

function readOutputs(value: unknown, signature: Signature): string[] | null {
  if (value === undefined) return null;
  if (!Array.isArray(value)) throw badRequest(`outputs must be an array, not ${shown(value)}`);
  const names = value.map((output: unknown, index) => {
    const name = isRecord(output) ? output.name : undefined;
    if (typeof name !== 'string' || !signature.outputs.some((known) => known.name === name)) {
      const known = signature.outputs.map((one) => `"${one.name}"`).join(', ');
      throw badRequest(
        `outputs[${index}].name ${shown(name)} is not an output of this model; it has ${known}`,
      );
    }
    return name;
  });
  return names.length === 0 ? null : names;
}

/** The response object of an inference; outputs in the order they were asked for. */
export function inferResponse(
  info: Servable['info'],
  request: { id: string; outputs: string[] | null },
  outputs: readonly Tensor[],
): object {
  const chosen = request.outputs
    ? request.outputs.flatMap((name) => outputs.filter((output) => output.name === name))
    : outputs;
  return {
    model_name: info.model,
    model_version: info.version,
    id: request.id,
    outputs: chosen.map((output) => ({
      name: output.name,
      datatype: output.datatype,
      shape: output.shape,
      data: dataJson(output),
    })),
  };
}

/** The model metadata object (Open Inference Protocol v2 REST, "Model Metadata Response JSON Object"). */
export function modelMetadata({ info, runtime = 'tfjs' }: Servable): object {
  return {
    name: info.model,
    versions: [info.version],
    platform: `cdl_${runtime}`,
    inputs: info.signature.inputs,
    outputs: info.signature.outputs,
    properties: { package: info.package, classes: JSON.stringify(info.signature.classes) },
  };
}

/** The server metadata object; no extension of the protocol is spoken. */
export function serverMetadata(version: string): object {
  return { name: 'cdl', version, extensions: [] };
}
