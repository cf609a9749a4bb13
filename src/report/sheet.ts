import type { Chart } from '../core/report.ts';
import { shownNames } from './chart-style.ts';
import { escapeHtml } from './escape.ts';
import { cleanLine, clip, displayWidth } from './text.ts';

type Sheet = Extract<Chart, { kind: 'sheet' }>;

const tile = 56;
const gap = 6;
const margin = 16;
/** About how wide a name is drawn: capitals take more room than other letters, wide characters twice as much. */
const drawnWidth = (name: string) => 6.6 * displayWidth(name) + 4 * (name.match(/\p{Lu}/gu)?.length ?? 0);

/** PNG as base64 begins with its signature (PNG specification, 5.2); anything else is left out. */
const png = /^iVBORw0KGgo[A-Za-z0-9+/]+={0,2}$/;

/**
 * A contact sheet as SVG: a row of small pictures for each name. The pictures stand in the document itself and are PNG
 * only, so that drawing it reads nothing else.
 */
export function sheetSvg(sheet: Sheet): string {
  const most = Math.max(1, ...sheet.rows.map((row) => row.pictures.length));
  const names = shownNames(
    sheet.rows.map((row) => row.name),
    34,
  );
  const left = margin + Math.ceil(Math.max(0, ...names.map(drawnWidth))) + 2 * gap;
  const width = Math.max(420, left + most * (tile + gap) + margin - gap);
  const top = margin + 34;
  const height = top + Math.max(1, sheet.rows.length) * (tile + gap) + margin - gap;
  const font = `font-family="Inter, 'DejaVu Sans', Helvetica, Arial, sans-serif"`;
  const rows = sheet.rows.flatMap((row, index) => {
    const y = top + index * (tile + gap);
    const name = escapeHtml(names[index]!);
    return [
      `<text x="${margin}" y="${y + tile / 2 + 4}" ${font} font-size="12" fill="#1f2933">${name}</text>`,
      ...row.pictures.map((picture, column) => {
        const x = left + column * (tile + gap);
        const frame = `<rect x="${x}" y="${y}" width="${tile}" height="${tile}" fill="#f5f7fa" stroke="#e4e7eb"/>`;
        if (!png.test(picture)) return frame;
        return `${frame}<image x="${x}" y="${y}" width="${tile}" height="${tile}" preserveAspectRatio="xMidYMid meet" href="data:image/png;base64,${picture}"/>`;
      }),
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="${margin}" y="${margin + 14}" ${font} font-size="16" font-weight="600" fill="#1f2933">${escapeHtml(clip(cleanLine(sheet.title), 90))}</text>`,
    ...rows,
    '</svg>',
  ].join('\n');
}
