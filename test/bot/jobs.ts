import picomatch from 'picomatch';
import { idxHeader } from '../../src/data/idx.ts';
import { run } from '../../src/exec/run.ts';
import { openObjects } from '../../src/forge/git-objects.ts';
import { createTrees, type Trees } from '../../src/forge/git-trees.ts';
import {
  type Candidate,
  candidateDigest,
  codeDigest,
  configDigest,
  type Digest,
  digestBytes,
  digestJson,
  type Evaluation,
  evaluationKey,
  evaluationQuestion,
  judge,
  type LiveState,
  liveKey,
  type Measure,
  parseProject,
  type Scores,
  versionKey,
  type Zone,
} from '../../src/index.ts';
import { type PackageSource, sourceContents } from '../../src/model/source-files.ts';

// What the jobs of a pipeline leave in the store, without running any: the same for every forge.

const exact = (value: number): Measure => ({ value, low: value, high: value });

/** Scores of a model that gets `right` of 100 items of each class. */
export function scoresOf(right: number): Scores {
  const share = right / 100;
  return {
    count: 200,
    classes: ['shirt', 'shoe'],
    metrics: { accuracy: exact(share), macro_f1: exact(share), size_bytes: exact(1000) },
    perClass: ['shirt', 'shoe'].map((name) => ({
      name,
      precision: share,
      recall: share,
      f1: share,
      support: 100,
    })),
    confusion: [
      [right, 100 - right],
      [100 - right, right],
    ],
  };
}

/** Runs git and gives its output. */
export async function git(cwd: string, ...args: string[]): Promise<string> {
  const env = { PATH: process.env.PATH ?? '', HOME: cwd, GIT_CONFIG_NOSYSTEM: '1' };
  const result = await run('git', args, { cwd, env });
  if (result.code !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr.toString()}`);
  return result.stdout.toString().trim();
}

const repositories = new Map<string, Trees>();

/** Reads commits of a repository, all through one process of git, which ends when nobody has read for a while. */
export function treesOf(repository: string): Trees {
  const env = { PATH: process.env.PATH ?? '', HOME: repository, GIT_CONFIG_NOSYSTEM: '1' };
  const trees = repositories.get(repository) ?? createTrees(openObjects(repository, env));
  repositories.set(repository, trees);
  return trees;
}

/** A file's text in a commit; null when there is none. */
export async function textAt(repository: string, commit: string, path: string): Promise<string | null> {
  const trees = treesOf(repository);
  const file = (await trees.files(commit))?.find((one) => one.path === path);
  return file ? (await trees.blob(file.oid)).toString('utf8') : null;
}

/** The files that `code:` selects, with their bytes, as `selectCode` of the steps gives them. */
async function codeAt(repository: string, commit: string, globs: readonly string[]) {
  const trees = treesOf(repository);
  const matches = picomatch([...globs], { dot: true });
  const chosen = (await trees.files(commit))!.filter(({ path }) => path !== 'cdl.lock' && matches(path));
  return Promise.all(
    chosen.map(async ({ path, mode, oid }) => {
      const bytes = await trees.blob(oid);
      return {
        path,
        mode: mode === '100755' ? ('100755' as const) : ('100644' as const),
        digest: digestBytes(bytes),
        bytes,
      };
    }),
  );
}

/** Labels and quarantine of a data version, as many as are told. */
function dataFiles(told: { perClass: number[]; quarantined: Record<string, number> }) {
  const labels = told.perClass.flatMap((count, label) => Array.from({ length: count }, () => label));
  const lines = Object.entries(told.quarantined).flatMap(([reason, count]) =>
    Array.from({ length: count }, () => `${JSON.stringify({ reason })}\n`),
  );
  const bytes = Buffer.concat([idxHeader([labels.length]), Uint8Array.from(labels)]);
  return { 'labels.idx': bytes, 'quarantine.jsonl': lines.join('') };
}

async function putCandidate(
  work: Zone,
  code: Digest,
  config: Digest,
  source: PackageSource,
  more: object,
  held: object,
): Promise<{ candidate: Candidate; run: Digest }> {
  const put = async (
    kind: 'dataset' | 'checkpoint' | 'package' | 'run',
    parents: Digest[],
    meta: Record<string, never> | object,
    contents: Record<string, string | Uint8Array> = { data: `${kind} of ${code}` },
  ) => {
    const files = await Promise.all(
      Object.entries(contents).map(async ([path, bytes]) => ({ path, ...(await work.putBlob(bytes)) })),
    );
    return work.putArtifact({ kind, name: 'fashion', files, parents, meta: meta as Record<string, string> });
  };
  const weights = { 'model.json': '{}', 'weights.bin': `weights of ${code}` };
  const meta = {
    v: 1,
    side: 'train',
    count: 2000,
    classes: ['shirt', 'shoe'],
    shape: [2, 2],
    perClass: [1000, 1000],
    duplicates: 0,
    quarantined: {},
    source: { names: ['images.idx', 'labels.idx'], sha256: ['a'.repeat(64), 'b'.repeat(64)] },
    split: { key: 'one', test: 0.2, validation: 0.1 },
    ...more,
  };
  const dataset = await put('dataset', [], meta, dataFiles({ ...meta, ...held }));
  const checkpoint = await put('checkpoint', [dataset], { code, config }, weights);
  const packaged = await put('package', [checkpoint], {}, { ...weights, ...(await sourceContents(source)) });
  const epochs = [1, 2, 3].map((epoch) => ({ epoch, step: epoch * 10, metrics: { loss: 1 / epoch } }));
  const made = await put('run', [checkpoint], { epochs });
  return {
    candidate: { model: 'fashion', code, config, dataset, transform: null, checkpoint, package: packaged },
    run: made,
  };
}

/** What the register job of a commit claims. `versions` remembers the numbers that were given. */
export async function makeClaim(job: {
  work: Zone;
  repository: string;
  sha: string;
  versions: Map<string, number>;
  /** More of the manifest of the data version. */
  data?: object;
  /** What its files hold, where that is not what the manifest says. */
  held?: object;
}): Promise<object> {
  const { work, repository, sha, versions, data = {}, held = {} } = job;
  const project = parseProject((await textAt(repository, sha, 'cdl.yaml'))!);
  const config = project.models.fashion!;
  const { shape, classes } = project.datasets[config.data]!;
  const files = await codeAt(repository, sha, config.code);
  const source = { model: 'fashion', files, entry: config.entry, shape, classes };
  const { candidate, run: made } = await putCandidate(
    work,
    codeDigest(files),
    configDigest(config),
    source,
    data,
    held,
  );
  const digest = candidateDigest(candidate);
  const version = versions.get(digest) ?? versions.size + 1;
  versions.set(digest, version);
  const record = { v: 1, project: project.project, model: 'fashion', version, candidate, run: made };
  await work.writeRecord(versionKey(project.project, 'fashion', version), record, { ifAbsent: true });
  return { v: 1, candidate, version, run: made };
}

/**
 * What the evaluate job leaves: the answer to the question of its inputs. `quality` says how good a model.ts is, or a
 * candidate.
 */
export async function answerQuestion(job: {
  trusted: Zone;
  quality: ReadonlyMap<string, number> | ((candidate: Digest) => number);
  repository: string;
  sha: string;
  inputs: Readonly<Record<string, unknown>>;
}): Promise<{ digest: Digest; baseline: Digest | null }> {
  const { trusted, quality, repository, sha, inputs } = job;
  const candidate = inputs.cdl_candidate as Digest;
  const environment = String(inputs.cdl_environment ?? 'production');
  const base = parseProject((await textAt(repository, sha, 'cdl.yaml'))!);
  const record = await trusted.readRecord(`candidates/${candidate.slice(7)}.json`);
  const live = (await trusted.readRecord(liveKey('fashion', 'fashion', environment)))?.value as
    | LiveState
    | undefined;
  const right = ({ code: wanted, ...candidate }: Candidate) => {
    if (typeof quality === 'function') return quality(candidateDigest({ code: wanted, ...candidate }));
    for (const [text, percent] of quality) {
      const digest = codeDigest([{ path: 'model.ts', mode: '100644', digest: digestBytes(text) }]);
      if (digest === wanted) return percent;
    }
    return 90;
  };
  const scores = scoresOf(right(record!.value as Candidate));
  const before = live?.current
    ? ((await trusted.readRecord(`candidates/${live.current.candidate.slice(7)}.json`))?.value as Candidate)
    : null;
  const baselineScores = before ? scoresOf(right(before)) : null;
  const difference = baselineScores
    ? { accuracy: exact(scores.metrics.accuracy!.value - baselineScores.metrics.accuracy!.value) }
    : {};
  const evaluation: Evaluation = {
    v: 1,
    project: 'fashion',
    model: 'fashion',
    environment,
    isolation: 'network namespace',
    candidate,
    baseline: live?.current?.candidate ?? null,
    testset: digestJson('test set'),
    ...judge(base.models.fashion!.gates, scores, baselineScores, difference),
    scores,
    baselineScores,
    differences: difference,
  };
  const digest = await trusted.putArtifact({
    kind: 'evaluation',
    name: 'fashion',
    files: [],
    parents: [],
    meta: evaluation as never,
  });
  // The job works the question out by itself: what is live may have moved since it was asked.
  const { gates, data } = base.models.fashion!;
  const question = evaluationQuestion({
    project: base.project,
    model: 'fashion',
    environment,
    candidate,
    baseline: evaluation.baseline,
    gates,
    data: digestJson(base.datasets[data]),
  });
  await trusted.writeRecord(evaluationKey(question), { evaluation: digest }, { ifAbsent: true });
  return { digest, baseline: evaluation.baseline };
}
