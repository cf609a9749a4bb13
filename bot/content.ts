import { codeDigest, configDigest, type Digest, digestJson, ownFunctions } from '../src/index.ts';
import type { Facts, Rejection, Sources } from './types.ts';

/** A model by the cdl.yaml of a commit. */
export type Made = Pick<Facts, 'model' | 'headProject'>;

/**
 * What a commit says that one model is made of: its code and that which cleans its data, its configuration and its data set.
 * Known before any job ran, where a candidate is not. Throws UserError file-missing for a commit that is gone.
 */
export async function contentOf(
  { mirror }: Pick<Sources, 'mirror'>,
  { model, headProject }: Made,
  commit: string,
): Promise<Digest> {
  const config = headProject.models[model]!;
  const data = headProject.datasets[config.data]!;
  const cleaning = ownFunctions(data).flatMap((own) => own.config.code);
  return digestJson({
    v: 1,
    model,
    code: codeDigest(await mirror.codeFiles(commit, [...config.code, ...cleaning])),
    config: configDigest(config),
    data,
  });
}

/** The newest word by which a model is sent back as it stands now; null when there is none, or what it was about is gone. */
export async function rejectionOf(
  sources: Pick<Sources, 'mirror'>,
  rejections: readonly Rejection[],
  facts: Made & Pick<Facts, 'change' | 'claim'>,
): Promise<Rejection | null> {
  if (rejections.length === 0) return null;
  const now = [
    await contentOf(sources, facts, facts.change.head),
    ...(facts.claim.kind === 'verified' ? [facts.claim.digest] : []),
  ];
  return rejections.find((one) => one.about.some((it) => now.includes(it))) ?? null;
}
