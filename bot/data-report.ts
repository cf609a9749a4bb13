import { type Block, shortDigest, type Verdict } from '../src/index.ts';
import { approveDataLine } from './data-approval.ts';
import type { DataFacts, Facts } from './types.ts';

/** What stands above the report while every gate passed and the data has no approval. */
export function dataHeadline({ refused }: DataFacts): { verdict: Verdict; summary: string } {
  return refused
    ? { verdict: 'fail', summary: `Every gate passed, but its data cannot be approved: ${refused}.` }
    : { verdict: 'pass', summary: 'Every gate passed; waiting for approval of its data.' };
}

/** Reasons shown one by one; the others are summed up. */
const shownReasons = 8;

/** What was set aside of the data and why, in words that no change can choose; nothing when nothing was. */
function quarantineBlocks({ quarantined }: Pick<DataFacts, 'quarantined'>): Block[] {
  if (quarantined.length === 0) return [];
  const rest = quarantined.slice(shownReasons).reduce((sum, [, count]) => sum + count, 0);
  const rows = quarantined.slice(0, shownReasons).map(([reason, count]) => [reason, String(count)]);
  if (rest > 0) rows.push([`${quarantined.length - shownReasons} other reasons`, String(rest)]);
  return [{ kind: 'table', head: ['set aside because', 'items'], align: ['left', 'right'], rows }];
}

/** What is to be approved: how many items each class has, and what every rule says. */
function amountBlocks({ perClass, evidence }: DataFacts): Block[] {
  if (perClass.length === 0) return [];
  const bars = perClass.map(([name, value]) => ({ name, value }));
  const gates = evidence.findings.flatMap(({ name, status, explanation }) =>
    status === 'pass' || status === 'fail' || status === 'skip'
      ? [{ name, status, explanation } as const]
      : [],
  );
  return [
    {
      kind: 'chart',
      chart: { kind: 'bars', title: 'Items of each class (training side)', x: 'class', y: 'items', bars },
    },
    { kind: 'details', summary: `Rules of the data (${gates.length})`, blocks: [{ kind: 'gates', gates }] },
  ];
}

/**
 * The data version, what was set aside of it, and what is to be done about it; nothing where nobody asks for an approval of it
 * and nothing was set aside.
 */
export function dataBlocks({ data, rules, change }: Facts): Block[] {
  if (!data || (data.required === 0 && data.quarantined.length === 0)) return [];
  if (data.required === 0) {
    const { version, dataset } = data.evidence;
    return [
      { kind: 'heading', text: 'Data' },
      {
        kind: 'facts',
        facts: [
          ['data version', `${shortDigest(version)} of ${dataset}`],
          ['amount and quality', data.summary],
        ],
      },
      ...quarantineBlocks(data),
    ];
  }
  const { evidence, approvals, required, refused } = data;
  const { labels } = evidence;
  const people = rules!.project.roles.data.join(', ') || 'nobody: roles.data in cdl.yaml is empty';
  const blocks: Block[] = [
    { kind: 'heading', text: 'Data' },
    {
      kind: 'facts',
      facts: [
        ['data version', `${shortDigest(evidence.version)} of ${evidence.dataset}`],
        ['amount and quality', data.summary],
        ...(labels
          ? [
              [
                'labels',
                `${shortDigest(labels.set)}, Krippendorff’s alpha ${labels.alpha?.toFixed(3) ?? 'not defined'}`,
              ] satisfies [string, string],
            ]
          : []),
        [
          'approvals of the data',
          refused === null ? `${approvals.length} of ${required}` : `it cannot be approved: ${refused}`,
        ],
        ['who may', `data: ${people}`],
        ...approvals.map(({ approver }): [string, string] => [
          'data approved by',
          `${approver.name} (${approver.role})`,
        ]),
      ],
    },
    ...amountBlocks(data),
    ...quarantineBlocks(data),
  ];
  if (change.state === 'open' && refused === null && approvals.length < required) {
    blocks.push({
      kind: 'command',
      command: approveDataLine(data),
      why: 'Approve this data version; the candidate can be approved after that',
    });
  }
  return blocks;
}
