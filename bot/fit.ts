import { type Block, type Report, renderMarkdown } from '../src/index.ts';

/** What a forge takes as one comment, in characters, less the room of our hidden marker. */
export const longestReport = { gitlab: 999_000, github: 64_500 } as const;

const most = 20;
const shorten = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length)}…` : text;

/** A block cut down to what one reads anyway; the same when there is nothing to cut. Commands stay whole. */
function cut(block: Block): Block {
  switch (block.kind) {
    case 'details':
      return { kind: 'text', text: `${shorten(block.summary, 200)}: left out, too long for a comment.` };
    case 'table': {
      const rows = block.rows.slice(0, most).map((row) => row.map((cell) => shorten(cell, 200)));
      const left = block.rows.length - rows.length;
      const more = left > 0 ? [[`… ${left} more`, ...block.head.slice(1).map(() => '')]] : [];
      return { ...block, rows: [...rows, ...more] };
    }
    case 'code':
      return { ...block, text: shorten(block.text, 2000) };
    case 'facts':
      return {
        ...block,
        facts: block.facts
          .slice(0, most)
          .map(([name, value]): [string, string] => [shorten(name, 100), shorten(value, 300)]),
      };
    case 'links':
      return { ...block, links: block.links.slice(0, most) };
    case 'gates':
      return {
        ...block,
        gates: block.gates.slice(0, most).map((gate) => ({
          ...gate,
          name: shorten(gate.name, 200),
          explanation: shorten(gate.explanation, 300),
        })),
      };
    case 'text':
    case 'heading':
      return { ...block, text: shorten(block.text, 500) };
    default:
      return block;
  }
}

/**
 * A report that fits into a comment of `longest` characters: its longest blocks are cut first, then the others, the last
 * ones of many go; what a person has to copy stays. Pure.
 */
export function fitReport(
  report: Report,
  longest: number,
  pictures: ReadonlyMap<string, string> = new Map(),
): Report {
  if (renderMarkdown(report, pictures).length <= longest) return report;
  const title = shorten(report.title, 200);
  const summary = shorten(report.summary, 2000);
  const size = (blocks: Block[], refs: Report['refs'] = {}): number =>
    renderMarkdown({ ...report, title, summary, refs, blocks }, pictures).length;
  const bare = size([], report.refs);
  // Blocks stand one below the other: the whole is as long as its parts, each measured once and again when it is cut.
  const frame = size([]);
  const parts = report.blocks.map((block) => ({ block, length: size([block]) - frame + 2 }));
  const total = () => parts.reduce((sum, one) => sum + one.length, bare);
  for (const one of [...parts].sort((a, b) => b.length - a.length)) {
    if (total() <= longest) break;
    one.block = cut(one.block);
    one.length = size([one.block]) - frame + 2;
  }
  for (let at = parts.length - 1; at >= 0 && total() > longest; at--) {
    if (parts[at]!.block.kind !== 'command') parts.splice(at, 1);
  }
  return { ...report, title, summary, blocks: parts.map(({ block }) => block) };
}
