import { shortDigest } from '../core/digest.ts';
import type { Block, Report } from '../core/report.ts';
import type { Cleaned } from '../data/cleaned-version.ts';

/** What cleaning did, for people: steps, what was set aside and why, and a few examples of that (training side only). */
export function cleanReport(dataset: string, made: Cleaned, seen: number): Report {
  const { meta, aside } = made;
  const cleaned = meta.cleaned!;
  const changed = Object.entries(cleaned.changed);
  const blocks: Block[] = [
    {
      kind: 'facts',
      facts: [
        ['Side', meta.side === 'train' ? 'training' : 'test (withheld)'],
        ['Items looked at', String(seen)],
        ['Kept', String(meta.count)],
        ['Set aside', aside > 0 ? `${aside}, with their reasons and as they came` : '0'],
        ['Made equal by cleaning', cleaned.copies > 0 ? `${cleaned.copies}, left out` : '0'],
      ],
    },
  ];
  if (changed.length > 0) {
    blocks.push({
      kind: 'table',
      head: ['step', 'items changed'],
      align: ['left', 'right'],
      rows: changed.map(([step, count]) => [step, String(count)]),
    });
  }
  if (aside > 0) blocks.push(...asideBlocks(made));
  return {
    key: `clean:${dataset}`,
    title: `${dataset}: cleaned version ${shortDigest(made.digest)}`,
    // How many are too many is for validate to say.
    verdict: aside > 0 ? 'warn' : 'pass',
    summary:
      aside > 0
        ? `${meta.count} of ${seen} items are kept, ${aside} are set aside.`
        : `All ${seen} items are in order${cleaned.copies > 0 ? `; ${cleaned.copies} became equal to another` : ''}.`,
    blocks,
  };
}

function asideBlocks({ meta, reasons, asidePerClass, examples }: Cleaned): Block[] {
  const nameOf = (label: number | null) => (label === null ? 'without label' : (meta.classes[label] ?? '–'));
  const blocks: Block[] = [
    {
      kind: 'table',
      head: ['set aside because', 'items'],
      align: ['left', 'right'],
      rows: reasons.map(([reason, count]) => [reason, String(count)]),
    },
  ];
  if (asidePerClass.some((count) => count > 0)) {
    blocks.push({
      kind: 'chart',
      chart: {
        kind: 'bars',
        title: `Items set aside of each class (${meta.side})`,
        x: 'class',
        y: 'items',
        bars: meta.classes.map((name, index) => ({ name, value: asidePerClass[index] ?? 0 })),
      },
    });
  }
  const named = [...new Set(examples.map((one) => one.reason))];
  if (examples.some((one) => one.png !== null)) {
    const rows = named.map((name) => ({
      name,
      pictures: examples.flatMap((one) => (one.reason === name && one.png !== null ? [one.png] : [])),
    }));
    blocks.push({
      kind: 'chart',
      chart: { kind: 'sheet', title: 'Examples of what was set aside (training side)', rows },
    });
  }
  const texts = examples.filter((one) => one.text !== null);
  if (texts.length > 0) {
    blocks.push({
      kind: 'details',
      summary: 'Examples of what was set aside (training side, shortened)',
      blocks: [
        {
          kind: 'table',
          head: ['reason', 'item', 'class', 'text'],
          align: ['left', 'left', 'left', 'left'],
          rows: texts.map((one) => [one.reason, shortDigest(one.id), nameOf(one.label), one.text!]),
        },
      ],
    });
  }
  return blocks;
}
