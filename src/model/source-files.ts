import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Digest, digestBytes } from '../core/digest.ts';
import type { DatasetConfig } from '../core/project.ts';
import type { Runtime } from '../core/project-train.ts';
import type { EncodeConfig } from '../core/project-transform.ts';
import { bundleModel } from './bundle.ts';
import { configuredState, encodeState, holdsCode, stateFile } from './encoder.ts';
import { encodeManifest, modelFiles } from './package.ts';

/** What of a commit decides about a package, besides the weights. */
export interface PackageSource {
  model: string;
  /** The model's code with its bytes, as `code:` selects it. */
  files: readonly { path: string; bytes: Uint8Array }[];
  entry: string;
  /** Default tfjs. */
  runtime?: Runtime;
  /** What the items are; default: tensors of bytes. */
  item?: DatasetConfig['item'];
  /** Whether `encode` of `cdl.yaml` stands for the code's own. */
  encode?: EncodeConfig | undefined;
  /** Of one tensor. */
  shape: readonly number[];
  classes: readonly string[];
}

/** Whether items come as bytes that have to be encoded. */
export const isRaw = (
  item: DatasetConfig['item'] | undefined,
): item is Exclude<DatasetConfig['item'], 'tensor'> => item !== undefined && item !== 'tensor';

/**
 * The content of `signature.json` for a classifier (see `PackageManifest` of the serving layer): tensors of bytes, or raw
 * items as strings; pictures and other files in base64.
 */
export function classifierManifest(
  source: Pick<PackageSource, 'model' | 'runtime' | 'item' | 'shape' | 'classes'>,
) {
  const { item = 'tensor', runtime = 'tfjs' } = source;
  const coding = item === 'text' || item === 'record' ? ('str' as const) : ('base64' as const);
  const input = !isRaw(item)
    ? { name: 'input', datatype: 'UINT8' as const, shape: [-1, ...source.shape] }
    : {
        name: 'input',
        datatype: 'BYTES' as const,
        shape: [-1],
        parameters: { content_type: coding, item },
      };
  return {
    v: 1 as const,
    model: source.model,
    runtime,
    signature: {
      inputs: [input],
      outputs: [
        { name: 'probabilities', datatype: 'FP32' as const, shape: [-1, source.classes.length] },
        { name: 'label', datatype: 'BYTES' as const, shape: [-1] },
      ],
      classes: [...source.classes],
    },
  };
}

/**
 * The files of a package that follow from the commit alone. Throws UserError code-invalid when the code does not bundle.
 */
export async function sourceContents(source: PackageSource): Promise<Record<string, string>> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-source-'));
  try {
    for (const file of source.files) {
      const path = join(folder, file.path);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, file.bytes);
    }
    return {
      ...(holdsCode(source.runtime, isRaw(source.item), source.encode) && {
        'code.mjs': await bundleModel(folder, source.entry),
      }),
      ...(source.encode && { [stateFile]: encodeState(configuredState(source.encode)) }),
      'signature.json': encodeManifest(classifierManifest(source)),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * The digests of {@link sourceContents}: whoever reviews a candidate makes the files again instead of believing the job
 * that says it did.
 */
export async function filesFromSource(source: PackageSource): Promise<Record<string, Digest>> {
  const contents = await sourceContents(source);
  return Object.fromEntries(Object.entries(contents).map(([path, text]) => [path, digestBytes(text)]));
}

/**
 * What is wrong with the files of a package, given those of its checkpoint and those that {@link filesFromSource} made:
 * it must hold exactly these, and what a transform learned when there is one. Empty when nothing is.
 */
export function packageProblems(
  packaged: readonly { path: string; digest: Digest }[],
  checkpoint: readonly { path: string; digest: Digest }[],
  fromSource: Readonly<Record<string, Digest>>,
  transform: readonly { path: string; digest: Digest }[] = [],
  runtime: Runtime = 'tfjs',
): string[] {
  const expected = new Map(Object.entries(fromSource));
  for (const name of modelFiles[runtime]) {
    const file = checkpoint.find((one) => one.path === name);
    if (file) expected.set(name, file.digest);
  }
  const learned = transform.find((one) => one.path === stateFile);
  const problems: string[] = [];
  if (learned && !expected.has(stateFile)) expected.set(stateFile, learned.digest);
  else if (learned && expected.get(stateFile) !== learned.digest)
    problems.push('the transform encodes otherwise than cdl.yaml of the commit says');
  for (const { path, digest } of packaged) {
    const wanted = expected.get(path);
    if (wanted === undefined)
      problems.push(`the package holds ${path}, which neither commit nor checkpoint has`);
    else if (wanted !== digest)
      problems.push(`${path} of the package is not what the commit and the checkpoint make`);
    expected.delete(path);
  }
  for (const path of expected.keys()) problems.push(`the package lacks ${path}`);
  return problems;
}
