import {
  type DataDecision,
  evidenceDigest,
  judgeVersion,
  type Project,
  readDataChain,
  shortDigest,
} from '../src/index.ts';
import type { Roles } from './roles.ts';
import type { CheckedClaim, DataFacts, Facts, Sources } from './types.ts';

/** Reads how the data version of a candidate stands, by the default branch's rules. Throws UserError decision-invalid. */
export async function readData(
  { work, trusted, keys }: Pick<Sources, 'work' | 'trusted' | 'keys'>,
  roles: Roles,
  rules: Facts['rules'],
  claim: CheckedClaim,
): Promise<DataFacts | null> {
  if (!rules || claim.kind !== 'verified') return null;
  const { project, model } = rules;
  const dataset = model.data;
  const version = claim.claim.candidate.dataset;
  const manifest = await work.getArtifact(version);
  const config = project.datasets[dataset]!;
  const required = project.approvals.data?.required ?? 0;
  const zones = { work, trusted, counted: required > 0 };
  const standing = await judgeVersion(zones, project.project, dataset, config, version, manifest);
  const review = evidenceDigest(standing.evidence);
  const { decisions } = await readDataChain(trusted, keys, project.project, dataset);
  const approvals = new Map<string, DataDecision>();
  for (const one of decisions) {
    const { id } = one.approver;
    if (one.evidence !== review || one.version !== version || approvals.has(id)) continue;
    const found = await roles.roleOf(project, ['data'], id);
    if (found) approvals.set(id, { ...one, approver: { ...one.approver, name: found.person.username } });
  }
  return { ...standing, review, required, approvals: [...approvals.values()] };
}

/** Whether the data does not stand in the way of an approval. */
export function isDataOpen({ data }: Pick<Facts, 'data'>): boolean {
  if (!data || data.required === 0) return true;
  return data.refused === null && data.approvals.length >= data.required;
}

/** The line that somebody with the role data copies. */
export function approveDataLine({ review }: Pick<DataFacts, 'review'>): string {
  return `cdl /approve-data ${shortDigest(review)}`;
}

/** What a person of the role data says by approving. */
export function dataDecisionOf(
  data: DataFacts,
  said: Pick<DataDecision, 'approver' | 'policy' | 'change'> & { project: Project['project'] },
): Omit<DataDecision, 'seq' | 'prev' | 'time'> {
  const { dataset, version, verdict, labels } = data.evidence;
  return { dataset, version, evidence: data.review, decision: 'approved', verdict, labels, ...said };
}
