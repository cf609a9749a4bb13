import sharp from 'sharp';
import { expect, test } from 'vitest';
import type { Chart } from '../../src/core/report.ts';
import { drawChart, drawSvg } from '../../src/report/chart.ts';
import { chartsOf } from '../../src/report/chart-key.ts';
import { renderTerminal } from '../../src/report/terminal.ts';
import { sample } from './sample.ts';

const charts = [...chartsOf(sample.blocks).values()];

/** Width and height from the IHDR chunk (PNG specification, 11.2.2). */
const sizeOf = (png: Buffer) => [png.readUInt32BE(16), png.readUInt32BE(20)] as const;

test.each(charts.map((chart) => [chart.kind, chart] as const))(
  'draws %s as a PNG, twice the same',
  async (_, chart) => {
    const png = await drawChart(chart);
    expect(png.subarray(1, 4).toString()).toBe('PNG');
    const [width, height] = sizeOf(png);
    expect(width).toBeGreaterThan(600);
    expect(height).toBeGreaterThan(400);
    expect(png.length).toBeGreaterThan(5000);
    expect((await drawChart(chart)).equals(png)).toBe(true);
  },
);

test.each(charts.map((chart) => [chart.kind, chart] as const))(
  'leaves %s the same narrow margin on every side',
  async (_, chart) => {
    const { data, info } = await sharp(await drawChart(chart))
      .greyscale()
      .raw()
      .toBuffer({ resolveWithObject: true });
    const isInk = (x: number, y: number) => data[(y * info.width + x) * info.channels]! < 248;
    const rows = Array.from({ length: info.height }, (_row, y) => y);
    const columns = Array.from({ length: info.width }, (_column, x) => x);
    const hasInk = {
      column: (x: number) => rows.some((y) => isInk(x, y)),
      row: (y: number) => columns.some((x) => isInk(x, y)),
    };
    const margins = [
      columns.findIndex(hasInk.column),
      [...columns].reverse().findIndex(hasInk.column),
      rows.findIndex(hasInk.row),
      [...rows].reverse().findIndex(hasInk.row),
    ];
    for (const margin of margins) expect(margin).toBe(32);
  },
);

test('shows every class, count and series as text', async () => {
  for (const chart of charts) {
    const svg = await drawSvg(chart);
    const names =
      chart.kind === 'confusion'
        ? chart.classes
        : chart.kind === 'lines'
          ? chart.series.map((s) => s.name)
          : chart.kind === 'bars'
            ? chart.bars.map((b) => b.name)
            : chart.kind === 'parallel'
              ? chart.axes.map((axis) => axis.name)
              : chart.rows.map((row) => row.name);
    for (const name of names) expect(svg).toContain(`>${name}</text>`);
  }
});

test('draws charts without data, with one point, with equal names, with hostile names', async () => {
  const odd: Chart[] = [
    { kind: 'lines', title: '', x: 'x', y: 'y', series: [] },
    {
      kind: 'lines',
      title: 't',
      x: 'x',
      y: 'y',
      series: [
        {
          name: 'a',
          points: [
            [1, Number.NaN],
            [2, 1],
          ],
        },
      ],
    },
    { kind: 'bars', title: 't', x: 'x', y: 'y', bars: [] },
    {
      kind: 'parallel',
      title: 't',
      axes: [{ name: 'a', scale: true, ticks: [], best: '1' }],
      lines: [
        { places: [-1e9], score: Number.NaN, best: true },
        { places: [Number.NaN], score: 1, best: false },
      ],
    },
    { kind: 'sheet', title: '', rows: [] },
    {
      kind: 'sheet',
      title: '<',
      rows: [{ name: '<image href="file:///etc/passwd"/>', pictures: ['"/><a '] }],
    },
    {
      kind: 'bars',
      title: 't',
      x: 'x',
      y: 'y',
      bars: [
        { name: 'a', value: 1 },
        { name: 'a', value: 2.5 },
      ],
    },
    {
      kind: 'confusion',
      title: 't',
      classes: ['</text><script>', 'datum.x'],
      counts: [
        [0, 0],
        [1, 2],
      ],
    },
  ];
  for (const chart of odd) expect((await drawChart(chart)).length).toBeGreaterThan(500);
  expect(await drawSvg(odd[5]!)).not.toMatch(/<image|<a /);
  expect(await drawSvg(odd[7]!)).not.toContain('<script');
  expect(await drawSvg(odd[6]!)).toContain('>a (2)<');
});

test('of many bars the highest and the lowest are shown, in a picture one can look at and on the terminal', async () => {
  const bars = Array.from({ length: 256 }, (_, index) => ({
    name: `class ${index}`,
    value: 1000 + ((index * 37) % 256),
  }));
  const chart: Chart = { kind: 'bars', title: 'Items', x: 'class', y: 'items', bars };
  const values = bars.map(({ value }) => value).sort((a, b) => a - b);
  const svg = await drawSvg(chart);
  const drawn = [...svg.matchAll(/>class (\d+)</g)].map(([, index]) => bars[Number(index)]!);
  expect(drawn.map(({ name }) => name)).toEqual(
    bars.filter(({ value }) => value <= values[19]! || value >= values[236]!).map(({ name }) => name),
  );
  expect(svg).toContain('the 20 highest and the 20 lowest of 256');
  const png = await drawChart(chart);
  expect(png.readUInt32BE(20)).toBeLessThan(3000);
  const block = { kind: 'chart', chart } as const;
  const text = renderTerminal({ key: 'k', title: 't', verdict: 'pass', summary: 's', blocks: [block] });
  expect(text.match(/^class \d+ /gm)).toHaveLength(40);
  expect(text).toContain('the 20 highest and the 20 lowest of 256');
});

test('long names of one beginning are told apart by their ends, and bars that are all 0 begin at the left', async () => {
  const name = (end: string) => `a class whose name goes on and on ${end}`;
  const bars = [
    { name: name('by day'), value: 0 },
    { name: name('by night'), value: 0 },
  ];
  const svg = await drawSvg({ kind: 'bars', title: 't', x: 'x', y: 'y', bars });
  expect(svg).toMatch(/>a class whose[^<]*…[^<]*by day</);
  expect(svg).toMatch(/>a class whose[^<]*…[^<]*by night</);
  const zeros = [...svg.matchAll(/translate\(([\d.]+),[\d.]+\)"[^>]*>0</g)].map(([, x]) => Number(x));
  expect(Math.max(...zeros)).toBeLessThan(20);
});

test('a sheet leaves as much room as its names take, and tells long ones apart', async () => {
  const row = (name: string) => ({ name, pictures: ['iVBORw0KGgoAAAA='] });
  const sheet = async (...names: string[]) => {
    const svg = await drawSvg({ kind: 'sheet', title: 't', rows: names.map(row) });
    return { svg, left: Number(/<rect x="(\d+)" y="50"/.exec(svg)?.[1]) };
  };
  const [short, long] = [
    await sheet('cat'),
    await sheet(...['see', 'hear'].map((verb) => `width below 32 pixels, too little to ${verb}`)),
  ];
  expect(short.left).toBeLessThan(60);
  expect(long.left).toBeGreaterThan(200);
  expect(long.svg).toMatch(/…[^<]*to see<[\s\S]*…[^<]*to hear</);
});

test('a matrix of many classes draws the cells that hold something, and names that do not run into each other', async () => {
  const classes = Array.from({ length: 120 }, (_, index) => `class ${index}`);
  const counts = classes.map((_, row) => classes.map((_, column) => (row === column ? 9 : 0)));
  const svg = await drawSvg({ kind: 'confusion', title: 't', classes, counts });
  expect(svg.match(/aria-roledescription="rect mark"/g)).toHaveLength(120);
  expect(svg.match(/opacity="1">class \d+</g)!.length).toBeLessThan(130);
});

test('parallel coordinates name every choice where it lies, and the ends of a scale', async () => {
  const svg = await drawSvg({
    kind: 'parallel',
    title: 'search',
    axes: [
      {
        name: 'rate',
        scale: true,
        ticks: [
          { place: 0, text: '0.001' },
          { place: 1, text: '0.1' },
        ],
        best: '0.01',
      },
      {
        name: 'rule',
        scale: false,
        ticks: ['sgd', 'adam', 'adagrad'].map((text, at) => ({ place: (at + 0.5) / 3, text })),
        best: 'adam',
      },
    ],
    lines: [{ places: [0.5, 0.5], score: 1, best: true }],
  });
  for (const text of ['rate', 'rule', '0.001', '0.1', 'sgd', 'adam', 'adagrad'])
    expect(svg).toContain(`>${text}</text>`);
});

test('a picture ends where its words end', async () => {
  const lines = (name: string): Chart => ({
    ...{ kind: 'lines', title: 't', x: 'x', y: 'y' },
    series: [{ name, points: [0, 1].map((at): [number, number] => [at, at]) }],
  });
  const [short, long] = await Promise.all(
    ['i'.repeat(24), 'M'.repeat(24)].map(async (name) => sizeOf(await drawChart(lines(name)))[0]),
  );
  // Guessed from the number of letters, both would be as wide.
  expect(short!).toBeLessThan(long! - 200);
});

test('lines behind the others show where they ended, and one that went wrong does not hide what is shown', async () => {
  const points = (...values: number[]) => values.map((value, at): [number, number] => [at + 1, value]);
  const svg = await drawSvg({
    ...{ kind: 'lines', title: 't', x: 'x', y: 'y' },
    series: [{ name: 'best', points: points(1, 0.5, 0.25) }],
    behind: [points(1.25), points(1.2, 0.75), points(1e9, 1e9)],
  });
  // Labels of the y axis: the numbers up to a little more than 1.
  const told = [...svg.matchAll(/>(\d+\.\d+)<\/text>/g)].map(([, text]) => Number(text));
  expect(Math.max(...told)).toBeLessThan(2);
  expect(svg.match(/stroke="#c3ccd5"/g)!.length).toBeGreaterThanOrEqual(2);
});

test('parallel coordinates tell the winner’s values on scales, where no word is else', async () => {
  const svg = await drawSvg({
    kind: 'parallel',
    title: 'search',
    axes: [
      {
        name: 'rate',
        scale: true,
        ticks: [0, 1].map((place) => ({ place, text: `${place}` })),
        best: '0.0123',
      },
      { name: 'rule', scale: false, ticks: [{ place: 0.5, text: 'adam' }], best: 'adam' },
    ],
    lines: [{ places: [0.5, 0.5], score: 1, best: true }],
  });
  expect(svg).toContain('>0.0123</text>');
  expect(svg.match(/>adam<\/text>/g)).toHaveLength(2);
});
