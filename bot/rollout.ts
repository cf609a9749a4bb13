import {
  type Block,
  type Project,
  type Rollout,
  rolloutKey,
  rolloutSchema,
  type Zone,
} from '../src/index.ts';
import { readableTime } from './time.ts';
import type { CheckedClaim, Facts } from './types.ts';

/** How the deployment of what a merged change proposed goes; null when the last one there was of something else. */
export async function readRollout(
  trusted: Zone,
  place: { model: string; environment: string },
  { project }: Pick<Project, 'project'>,
  claim: CheckedClaim,
  returns: Facts['returns'],
): Promise<Rollout | null> {
  const wanted = returns ? returns.candidate : claim.kind === 'verified' ? claim.digest : null;
  if (wanted === null) return null;
  const record = await trusted.readRecord(rolloutKey(project, place.model, place.environment));
  const parsed = rolloutSchema.safeParse(record?.value);
  // Told for people and decides nothing: one that cannot be read is none.
  return parsed.success && parsed.data.candidate === wanted ? parsed.data : null;
}

const words: Record<Rollout['state'], string> = {
  running: 'under way',
  done: 'done: it serves all requests',
  failed: 'rolled back',
};

/** The steps of a deployment so far, and how it ended. */
export function rolloutBlocks(facts: Pick<Facts, 'rollout' | 'environment'>): Block[] {
  const { rollout, environment } = facts;
  if (!rollout) return [];
  return [
    { kind: 'heading', text: `Rollout to ${environment}` },
    {
      kind: 'facts',
      facts: [
        ['version', String(rollout.version)],
        ['state', words[rollout.state]],
        ...(rollout.reason ? ([['why', rollout.reason]] as [string, string][]) : []),
      ],
    },
    ...(rollout.steps.length > 0
      ? [
          {
            kind: 'table' as const,
            head: ['time', 'traffic', 'what'],
            align: ['left', 'right', 'left'] as ('left' | 'right')[],
            rows: rollout.steps.map(({ at, traffic, text }) => [readableTime(at), `${traffic} %`, text]),
          },
        ]
      : []),
  ];
}
