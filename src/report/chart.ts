import { createRequire } from 'node:module';
import type { Chart } from '../core/report.ts';
import { chartSpec } from './chart-spec.ts';
import { padding } from './chart-style.ts';
import { sheetSvg } from './sheet.ts';

/** What is not in Inter: neither Latin, Greek or Cyrillic nor what stands between their words. */
const otherScripts =
  /[^\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Common}\p{Script=Inherited}]/u;

/** Inter (SIL Open Font License 1.1) as TrueType. Where its package is missing, the fonts of the system are used. */
const fontFiles = [
  '@expo-google-fonts/inter/400Regular/Inter_400Regular.ttf',
  '@expo-google-fonts/inter/600SemiBold/Inter_600SemiBold.ttf',
];

/** Pixels of a picture for each of its layout. */
const zoom = 2;

/**
 * Draws a chart as a PNG picture on white, twice the size of its layout for sharp screens. The same chart gives the same
 * bytes on the same machine. Vega makes an SVG without a canvas, resvg the pixels; they are loaded on use.
 */
export async function drawChart(chart: Chart): Promise<Buffer> {
  const svg = await drawSvg(chart);
  const { Resvg } = await import('@resvg/resvg-js');
  const files = installedFonts();
  const image = new Resvg(roomy(svg), {
    background: 'white',
    fitTo: { mode: 'zoom', value: zoom },
    font: {
      fontFiles: files,
      // Looking for the fonts of the system takes a while.
      loadSystemFonts: files.length === 0 || otherScripts.test(svg),
      defaultFontFamily: files.length === 0 ? 'DejaVu Sans' : 'Inter',
    },
    logLevel: 'off',
  });
  const { default: sharp } = await import('sharp');
  const margin = padding * zoom;
  return sharp(image.render().asPng())
    .trim({ background: 'white', threshold: 8 })
    .extend({ top: margin, right: margin, bottom: margin, left: margin, background: 'white' })
    .png()
    .toBuffer();
}

/** Without a canvas Vega guesses how wide texts are: mostly they are narrower, a few are wider and need room to be cut to. */
function roomy(svg: string): string {
  const spare = 200;
  return svg.replace(/^<svg [^>]*>/, (head) =>
    head
      .replace(/ width="(\d+)"/, (_, width) => ` width="${Number(width) + 2 * spare}"`)
      .replace(/ viewBox="0 0 (\d+)/, (_, width) => ` viewBox="${-spare} 0 ${Number(width) + 2 * spare}`),
  );
}

/** How wide a picture of {@link drawChart} is meant to be shown, in pixels (IHDR; PNG specification, 11.2.2). */
export function layoutWidth(png: Buffer): number {
  return png.readUInt32BE(16) / zoom;
}

/** The chart as SVG. */
export async function drawSvg(chart: Chart): Promise<string> {
  if (chart.kind === 'sheet') return sheetSvg(chart);
  const [vega, lite] = await Promise.all([import('vega'), import('vega-lite')]);
  const { spec } = lite.compile(chartSpec(chart));
  // No loader can reach anything: the data is in the chart, and a name in it must not become a request.
  const view = new vega.View(vega.parse(spec), { renderer: 'none', logLevel: vega.Error });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

function installedFonts(): string[] {
  const require = createRequire(import.meta.url);
  return fontFiles.flatMap((file) => {
    try {
      return [require.resolve(file)];
    } catch {
      return [];
    }
  });
}
