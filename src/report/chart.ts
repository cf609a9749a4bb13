import { createRequire } from 'node:module';
import type { Chart } from '../core/report.ts';
import { chartSpec } from './chart-spec.ts';
import { sheetSvg } from './sheet.ts';

/** Inter (SIL Open Font License 1.1) as TrueType. Where its package is missing, the fonts of the system are used. */
const fontFiles = [
  '@expo-google-fonts/inter/400Regular/Inter_400Regular.ttf',
  '@expo-google-fonts/inter/600SemiBold/Inter_600SemiBold.ttf',
];

/**
 * Draws a chart as a PNG picture on white, twice the size of its layout for sharp screens. The same chart gives the same
 * bytes on the same machine. Vega makes an SVG without a canvas, resvg the pixels; both are loaded on use.
 */
export async function drawChart(chart: Chart): Promise<Buffer> {
  const svg = await drawSvg(chart);
  const { Resvg } = await import('@resvg/resvg-js');
  const files = installedFonts();
  const image = new Resvg(svg, {
    background: 'white',
    fitTo: { mode: 'zoom', value: 2 },
    font: {
      fontFiles: files,
      loadSystemFonts: files.length === 0,
      defaultFontFamily: files.length === 0 ? 'DejaVu Sans' : 'Inter',
    },
    logLevel: 'off',
  });
  return image.render().asPng();
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
