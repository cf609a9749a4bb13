import { cleanLine, clip, clipMiddle } from './text.ts';

/** Of text. */
export const ink = '#1f2933';
/** Of secondary text. */
export const faint = '#52606d';
/** Of lines behind the data. */
export const grid = '#e4e7eb';
/** Room around a chart, in pixels of its layout. */
export const padding = 16;
/** The look all charts share. */
export const chartConfig = {
  font: 'Inter, DejaVu Sans, Helvetica, Arial, sans-serif',
  padding,
  background: 'white',
  view: { stroke: null },
  title: { anchor: 'start', fontSize: 16, fontWeight: 600, color: ink, offset: 14 },
  axis: {
    labelColor: faint,
    titleColor: ink,
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 600,
    titlePadding: 10,
    gridColor: grid,
    domainColor: '#9aa5b1',
    tickColor: '#9aa5b1',
    labelLimit: 160,
  },
  legend: {
    labelLimit: 320,
    labelColor: ink,
    labelFontSize: 12,
    titleFontSize: 12,
    titleColor: ink,
    symbolStrokeWidth: 3,
  },
} as const;

/** Names as they are shown: cleaned, cut where it tells them apart, and distinct even when two classes share one. */
export function shownNames(names: readonly string[], width: number): string[] {
  const cleaned = names.map(cleanLine);
  const heads = new Map<string, Set<string>>();
  for (const name of cleaned) {
    const head = clip(name, width);
    heads.set(head, (heads.get(head) ?? new Set()).add(name));
  }
  const used = new Map<string, number>();
  return cleaned.map((name) => {
    const head = clip(name, width);
    const text = (heads.get(head)!.size > 1 ? clipMiddle(name, width) : head) || '–';
    const times = (used.get(text) ?? 0) + 1;
    used.set(text, times);
    return times === 1 ? text : `${text} (${times})`;
  });
}
