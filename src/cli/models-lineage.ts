import { shortDigest } from '../core/digest.ts';
import { type LineageNode, readLineage } from '../model/lineage.ts';
import { readRun } from '../model/runs.ts';
import { type ModelsDesk, oneVersion } from './models-desk.ts';
import type { CommandInput } from './types.ts';

const nodeText = (node: LineageNode): string =>
  [
    node.kind ?? 'gone',
    shortDigest(node.digest),
    node.label,
    node.sources.length > 0 ? `from ${node.sources.join(', ')}` : null,
  ]
    .filter(Boolean)
    .join('  ');

/** `cdl models lineage VERSION`: what a version was made of, down to where its data came from. */
export async function lineage(
  input: CommandInput,
  desk: ModelsDesk,
  what: readonly string[],
): Promise<number> {
  const { work } = desk.sources;
  const one = oneVersion(await desk.known(), 'lineage', what);
  const training = await readRun(work, one.run);
  const { candidate, model, version } = one;
  const roots = [candidate.package, one.run, ...(training?.facts.tuning ? [training.facts.tuning] : [])];
  const nodes = await readLineage(work, roots);
  const byDigest = new Map(nodes.map((node) => [node.digest, node]));
  const told = new Set<string>();
  const lines = [
    `${model} version ${version}  ${shortDigest(one.digest)}`,
    `├ code ${shortDigest(candidate.code)}, config ${shortDigest(candidate.config)}${training?.facts.commit ? `, commit ${training.facts.commit.slice(0, 8)}` : ''}${training?.facts.pipeline ? `, pipeline ${training.facts.pipeline}` : ''}`,
  ];
  const walk = (digest: LineageNode['digest'], indent: string, isLast: boolean): void => {
    const node = byDigest.get(digest)!;
    const isTold = told.has(digest) && node.parents.length > 0;
    told.add(digest);
    lines.push(`${indent}${isLast ? '└' : '├'} ${nodeText(node)}${isTold ? '  (see above)' : ''}`);
    if (isTold) return;
    for (const [index, parent] of node.parents.entries()) {
      walk(parent, `${indent}${isLast ? '  ' : '│ '}`, index === node.parents.length - 1);
    }
  };
  for (const [index, root] of roots.entries()) walk(root, '', index === roots.length - 1);
  input.console.print(lines.join('\n'), {
    model,
    version,
    candidate: one.digest,
    commit: training?.facts.commit ?? null,
    pipeline: training?.facts.pipeline ?? null,
    code: candidate.code,
    config: candidate.config,
    roots,
    nodes,
  });
  return 0;
}
