import { codeDigest } from '../core/candidate.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { catalogue, UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { configDigest, modelConfig, parseProject, projectFile } from '../core/project.ts';
import { type KnownVersion, readVersionDetail, type VersionDetail } from '../deploy/known-versions.ts';
import { selectCode } from '../exec/code.ts';
import { lockfiles } from '../exec/lockfiles.ts';
import { run } from '../exec/run.ts';
import { type Checked, verifyTree } from '../model/verify-tree.ts';
import { bytesText } from './data-text.ts';
import { findVersion, type ModelsDesk } from './models-desk.ts';
import type { CommandInput } from './types.ts';

/** One thing that is not as the registry says. */
interface Problem {
  version: number;
  what: string;
}

/** What of a version comes from git, computed again from its commit; null where the commit is not in this clone. */
async function gitProblems(root: string, detail: VersionDetail): Promise<string[] | null> {
  const commit = detail.training?.facts.commit;
  if (!commit || !/^[0-9a-f]{40,64}$/.test(commit)) return null;
  const shown = await run('git', ['show', `${commit}:${projectFile}`], { cwd: root });
  if (shown.code !== 0) return null;
  const wrong: string[] = [];
  const say = (name: string, is: Digest, was: Digest) => {
    if (is !== was)
      wrong.push(`${name} of commit ${commit.slice(0, 8)} is ${shortDigest(is)}, not ${shortDigest(was)}`);
  };
  try {
    const config = modelConfig(parseProject(shown.stdout.toString()), detail.model);
    say('the configuration', configDigest(config), detail.candidate.config);
    say('the code', codeDigest(await selectCode(root, commit, config.code)), detail.candidate.code);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    wrong.push(`commit ${commit.slice(0, 8)}: ${error.message}`);
  }
  if (detail.dependencies) {
    const there = new Map((await lockfiles(root, commit)).map((one) => [one.path, one.digest]));
    for (const { path, digest } of detail.dependencies) {
      const is = there.get(path);
      if (is) say(path, is, digest);
      else wrong.push(`${path} is not in commit ${commit.slice(0, 8)}`);
    }
  }
  return wrong;
}

/** What in the record does not fit itself or the manifests it names. */
function recordProblems(one: VersionDetail): string[] {
  const { candidate, training } = one;
  if (!training) return [`run ${shortDigest(one.run)} is no run`];
  const wrong: string[] = [];
  const { facts } = training;
  const pairs = [
    ['code', facts.code, candidate.code],
    ['config', facts.config, candidate.config],
    ['dataset', training.dataset, candidate.dataset],
    ['checkpoint', training.checkpoint, candidate.checkpoint],
  ] as const;
  for (const [name, of, is] of pairs) {
    if (of !== null && of !== is)
      wrong.push(`its run made ${name} ${shortDigest(of)}, not ${shortDigest(is)}`);
  }
  return wrong;
}

/**
 * `cdl models verify [VERSION…]`: reads every byte of versions (without any, of all) and of all they were made of again, and
 * compares every digest; code, configuration and lockfiles with their commit, where this clone has it. Exit 6 when anything
 * is not what it should be.
 */
export async function verify(
  input: CommandInput,
  desk: ModelsDesk,
  what: readonly string[],
): Promise<number> {
  const { ctx, sources } = desk;
  const { signal } = ctx;
  const known = await desk.known();
  const versions: KnownVersion[] =
    what.length > 0 ? what.map((one) => findVersion(known, one)) : known.versions;
  const [seenWork, seenTrusted] = [new Map<Digest, Checked>(), new Map<Digest, Checked>()];
  const problems: Problem[] = [];
  const rows = [];
  for (const [index, one] of versions.entries()) {
    input.console.progress(`version ${one.version}`, index / versions.length);
    const detail = await readVersionDetail(sources, known, one);
    const { candidate } = one;
    const roots = (['package', 'checkpoint', 'dataset', 'transform'] as const).flatMap((name) => {
      const digest = candidate[name];
      return digest === null ? [] : [{ name, digest }];
    });
    const bom = one.sbom ? [{ name: 'sbom', digest: one.sbom.artifact }] : [];
    const read = await verifyTree(sources.work, [...roots, ...bom, { name: 'run', digest: one.run }], {
      seen: seenWork,
      depth: Number.POSITIVE_INFINITY,
      signal,
    });
    if (sources.trusted) {
      const evaluated = detail.evaluations.map(({ digest }) => ({ name: 'evaluation', digest }));
      read.push(...(await verifyTree(sources.trusted, evaluated, { seen: seenTrusted, depth: 1, signal })));
    }
    const git = await gitProblems(ctx.root, detail);
    const wrong = [
      ...read
        .filter((part) => part.state !== 'whole')
        .map((part) => `${part.name} ${shortDigest(part.digest)} is ${part.state}: ${part.why}`),
      ...recordProblems(detail),
      ...(git ?? []),
    ];
    problems.push(...wrong.map((text) => ({ version: one.version, what: text })));
    rows.push({
      version: one.version,
      candidate: one.digest,
      artifacts: read.length,
      bytes: read.reduce((sum, part) => sum + part.bytes, 0),
      git: git === null ? 'not here' : 'compared',
      problems: wrong,
    });
  }
  const lines = rows.flatMap((row) => {
    const isWhole = row.problems.length === 0;
    const git =
      row.git === 'not here'
        ? '; its commit is not in this clone, so code and configuration were not compared'
        : isWhole
          ? '; code and configuration are those of its commit'
          : '';
    const read = `${plural(row.artifacts, 'artifact')}, ${bytesText(row.bytes)} read`;
    return [
      `${isWhole ? '✓' : '✗'} version ${row.version}  ${read}${git}`,
      ...row.problems.map((text) => `    ${text}`),
    ];
  });
  input.console.print(lines.join('\n') || 'there are no versions yet: cdl register makes them', {
    model: known.model,
    versions: rows,
    problems,
  });
  return problems.length === 0 ? 0 : catalogue['artifact-corrupt'].exit;
}
