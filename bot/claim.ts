import { z } from 'zod';
import {
  type Artifact,
  type Candidate,
  type Claim,
  candidateDigest,
  candidateKey,
  candidateSchema,
  claimKey,
  claimPath,
  claimSchema,
  codeDigest,
  configDigest,
  type DatasetConfig,
  type Digest,
  entryCandidate,
  filesFromSource,
  keepNewest,
  keptFor,
  type LiveState,
  type Lock,
  lockEntry,
  type ModelConfig,
  type PackageSource,
  packageProblems,
  runtimeOf,
  UserError,
  versionKey,
  type Zone,
} from '../src/index.ts';
import type { CheckedClaim, HeadPipeline, Sources } from './types.ts';

/** A registry record, as far as it is looked at here. */
const registeredSchema = z.object({ candidate: candidateSchema });

/** The first verified claim of a candidate; null when there was none. */
export async function readClaim(trusted: Zone, candidate: Digest): Promise<Claim | null> {
  const record = await trusted.readRecord(claimKey(candidate));
  const parsed = record ? claimSchema.safeParse(record.value) : null;
  return parsed?.success ? parsed.data : null;
}

/** Claims of a project that are kept in memory; one is about 1 KB. */
const mostClaims = 500;

/** Claims as they were read, by forge and job: what a job that succeeded left behind is never replaced. */
const kept = new WeakMap<Sources['forge'], Map<string, Buffer>>();

/** The claim among the artifacts of a pipeline's jobs that succeeded; null when there is none. */
async function readArtifact(
  sources: Pick<Sources, 'forge'>,
  head: HeadPipeline,
  model: string,
): Promise<Buffer | null> {
  const jobs = head.jobs.filter((job) => job.state === 'success');
  // The one that usually has it first: every job without it costs a request.
  jobs.sort((a, b) => Number(b.name.includes('register')) - Number(a.name.includes('register')));
  const known = keptFor(kept, sources.forge);
  for (const job of jobs) {
    const key = `${job.id} ${claimPath(model)}`;
    const bytes = known.get(key) ?? (await sources.forge.artifact(job.id, claimPath(model)));
    if (bytes) return keepNewest(known, mostClaims, key, bytes);
  }
  return null;
}

/** Whether a pipeline claims a candidate of a model, however it ended. */
export async function hasClaim(
  sources: Pick<Sources, 'forge'>,
  head: HeadPipeline | null,
  model: string,
): Promise<boolean> {
  return head !== null && (await readArtifact(sources, head, model)) !== null;
}

async function claimOf(sources: Sources, head: HeadPipeline | null, model: string): Promise<unknown> {
  const bytes = head?.state === 'success' ? await readArtifact(sources, head, model) : null;
  if (!bytes) return null;
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return { unreadable: true };
  }
}

async function artifactOf(work: Zone, digest: Digest): Promise<Artifact | null> {
  if (!(await work.hasArtifact(digest))) return null;
  return work.getArtifact(digest);
}

/** What is wrong with a candidate's artifacts; empty when they are there and belong together. */
export async function artifactProblems(
  work: Zone,
  candidate: Candidate,
  made: { item: DatasetConfig['item'] } & Partial<Pick<PackageSource, 'runtime' | 'encode'>>,
  fromSource: (() => Promise<Record<string, Digest>>) | null,
): Promise<{ problems: string[]; bytes: number }> {
  const { item, runtime = 'tfjs', encode } = made;
  const problems: string[] = [];
  const expect = async (digest: Digest, kind: Artifact['kind'], parent: Digest | null) => {
    const artifact = await artifactOf(work, digest).catch((error: unknown) => {
      if (error instanceof UserError) return null;
      throw error;
    });
    if (!artifact) problems.push(`the ${kind} ${digest} is not in the store, or not whole`);
    else if (artifact.kind !== kind) problems.push(`${digest} is a ${artifact.kind}, not a ${kind}`);
    else if (parent && !artifact.parents.includes(parent)) {
      problems.push(`the ${kind} ${digest} was not made from ${parent}`);
    }
    return artifact;
  };
  const packaged = await expect(candidate.package, 'package', candidate.checkpoint);
  const checkpoint = await expect(candidate.checkpoint, 'checkpoint', candidate.dataset);
  await expect(candidate.dataset, 'dataset', null);
  const { transform } = candidate;
  if ((transform === null) !== (item === 'tensor')) {
    problems.push(
      transform === null
        ? `transform: the claim names none, but the items of the data are of kind ${item}`
        : 'transform: the claim names one, but the items of the data are tensors',
    );
  }
  const transformed = transform && (await expect(transform, 'transform', candidate.dataset));
  if (transformed) {
    for (const one of [checkpoint, packaged]) {
      if (one && !one.parents.includes(transform)) {
        problems.push(`the ${one.kind} was not made from the transform ${transform}`);
      }
    }
  }
  if (packaged && checkpoint && fromSource) {
    const expected = await fromSource().catch((error: unknown) => {
      if (error instanceof UserError) return error;
      throw error;
    });
    if (expected instanceof UserError)
      problems.push(`the code of the commit makes no package: ${expected.message}`);
    else {
      problems.push(
        ...packageProblems(packaged.files, checkpoint.files, expected, transformed?.files, runtime),
      );
    }
  }
  for (const [name, wanted] of [
    ['code', candidate.code],
    ['config', candidate.config],
  ] as const) {
    const made = checkpoint?.meta[name];
    if (typeof made === 'string' && made !== wanted)
      problems.push(`the checkpoint was trained with other ${name}`);
  }
  // What encode says in cdl.yaml needs no code; the package holds what it says, see above.
  if (transformed && !encode && transformed.meta.code !== candidate.code) {
    problems.push('the transform was made with other code');
  }
  return { problems, bytes: packaged?.files.reduce((sum, file) => sum + file.size, 0) ?? 0 };
}

/** Whether the registry gave this candidate, from this run, the number the claim names. */
async function versionProblems(work: Zone, project: string, claim: Claim): Promise<string[]> {
  const { candidate, version } = claim;
  const record = await work.readRecord(versionKey(project, candidate.model, version));
  const parsed = registeredSchema.safeParse(record?.value);
  if (!parsed.success) return [`the registry has no version ${version} of ${candidate.model}`];
  if (candidateDigest(parsed.data.candidate) === candidateDigest(candidate)) return [];
  return [`version ${version} of ${candidate.model} in the registry is another candidate`];
}

/** What a package of this commit must hold besides the weights; the work zone's word for it is not taken. */
async function remakeFiles(
  sources: Sources,
  input: {
    commit: string;
    model: string;
    config: ModelConfig;
    data: Pick<DatasetConfig, 'item' | 'shape' | 'classes'>;
  },
): Promise<Record<string, Digest>> {
  const { config, data } = input;
  const [selected, tree] = await Promise.all([
    sources.mirror.codeFiles(input.commit, config.code),
    sources.mirror.readTree(input.commit),
  ]);
  const oids = new Map(tree.map((file) => [file.path, file.oid]));
  const files = await Promise.all(
    selected.map(async ({ path }) => ({ path, bytes: await sources.mirror.readBlob(oids.get(path)!) })),
  );
  return filesFromSource({
    model: input.model,
    files,
    entry: config.entry,
    runtime: runtimeOf(config),
    encode: config.encode,
    ...data,
  });
}

/**
 * The candidate of a head: what somebody asked to propose, what its pipeline claims, what the bot found registered
 * elsewhere, or while that pipeline still runs what its lock entry names; each only if git and the store agree.
 */
export async function checkClaim(
  sources: Sources,
  input: {
    head: HeadPipeline | null;
    commit: string;
    model: string;
    config: ModelConfig;
    data: Pick<DatasetConfig, 'item' | 'shape' | 'classes'>;
    /** Name of the project in cdl.yaml. */
    project: string;
    lock: Lock;
    environment: string;
    /** What somebody asked to propose; it counts while code and configuration of the commit make it. */
    registered: Claim | null;
    /** What the bot found in the registry; it counts while nothing else says what is proposed. */
    found: Claim | null;
    /** The lock alone says what is proposed: an entry that is copied to another environment. */
    lockOnly: boolean;
  },
): Promise<CheckedClaim> {
  const { model, config } = input;
  const code = codeDigest(await sources.mirror.codeFiles(input.commit, config.code));
  const asked = input.lockOnly ? null : input.registered;
  const isMadeHere = (one: { code: Digest; config: Digest }) =>
    one.code === code && one.config === configDigest(config);
  const isAsked = asked !== null && isMadeHere(asked.candidate);
  const raw = input.lockOnly || isAsked ? null : await claimOf(sources, input.head, model);
  let claim: Claim;
  let source: 'pipeline' | 'lock' | 'registry' = 'pipeline';
  const entry = lockEntry(input.lock, model, input.environment);
  const found = input.found && !input.lockOnly && isMadeHere(input.found.candidate) ? input.found : null;
  if (isAsked) {
    claim = asked;
    source = 'registry';
  } else if (raw !== null) {
    const parsed = claimSchema.safeParse(raw);
    if (!parsed.success) return { kind: 'wrong', problems: [`${claimPath(model)} is not a claim`] };
    claim = parsed.data;
  } else if (
    found &&
    (!entry || !isMadeHere(entry) || entry.candidate === candidateDigest(found.candidate))
  ) {
    claim = found;
    source = 'registry';
  } else {
    // After the bot's own lock commit the content is known already; nobody has to wait for its (cached) pipeline.
    if (!entry) return { kind: 'none' };
    if (!isMadeHere(entry)) {
      if (!input.lockOnly) return { kind: 'none' };
      return {
        kind: 'wrong',
        problems: ['the entry was made from other code or configuration than the commit has'],
      };
    }
    if (input.head?.state === 'success' && !input.lockOnly) return { kind: 'none' };
    if (!(await sources.trusted.readRecord(candidateKey(entry.candidate)))) return { kind: 'none' };
    claim = { v: 1, candidate: entryCandidate(model, entry), ...entry.info };
    source = 'lock';
  }
  const { candidate } = claim;
  const problems: string[] = [];
  if (candidate.model !== model) problems.push(`the claim is about ${candidate.model}, not ${model}`);
  if (candidate.code !== code) problems.push('code: the claim names other files than the commit has');
  if (candidate.config !== configDigest(config))
    problems.push('config: the claim names another configuration');
  const digest = candidateDigest(candidate);
  const recorded = (await sources.trusted.readRecord(candidateKey(digest))) !== null;
  // Once is enough: what stands in the trusted zone was made again from its commit before it was put there.
  const remake = recorded ? null : () => remakeFiles(sources, input);
  const artifacts = await artifactProblems(
    sources.work,
    candidate,
    { item: input.data.item, runtime: runtimeOf(input.config), encode: input.config.encode },
    remake,
  );
  problems.push(...artifacts.problems);
  if (!recorded) problems.push(...(await versionProblems(sources.work, input.project, claim)));
  if (problems.length > 0) return { kind: 'wrong', problems };
  // The first claim wins, so that version and run in the lock do not depend on who asked last.
  const kept = recorded ? await readClaim(sources.trusted, digest) : null;
  return {
    kind: 'verified',
    claim: kept ?? claim,
    digest,
    source,
    recorded,
    bytes: artifacts.bytes,
  };
}

/** Package and version of a candidate that is or was live; null when nothing tells. */
export async function versionThatRan(
  trusted: Zone,
  live: LiveState | null,
  candidate: Digest | null,
): Promise<{ package: Digest; version: number } | null> {
  if (candidate === null) return null;
  if (live?.current?.candidate === candidate) return live.current;
  const claim = await readClaim(trusted, candidate);
  return claim && { package: claim.candidate.package, version: claim.version };
}
