// Measurements side by side, one run: `npm run bench` (all) or `npm run bench -- cli train`. Ratios count; absolutes are this machine's.
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/exec/root.ts';
import type { Row } from './row.ts';

const suites: Record<string, () => Promise<Row[]>> = {
  cli: async () => (await import('./cli.ts')).benchCli(),
  train: async () => (await import('./train.ts')).benchTrain(),
  model: async () => (await import('./model.ts')).benchModel(),
  bot: async () => (await import('./bot.ts')).benchBot(),
  serve: async () => (await import('./serve.ts')).benchServe(),
  data: async () => (await import('./data.ts')).benchData(),
  news: async () => (await import('./news.ts')).benchNews(),
};

// Where it is set, Node reads certificates at every start, which here took longer than the start itself; nothing here goes over TLS.
delete process.env.NODE_EXTRA_CA_CERTS;

const wanted = process.argv.slice(2).filter((name) => !name.startsWith('-'));
const names = wanted.length > 0 ? wanted : Object.keys(suites);
const number = (value: number | null) =>
  value === null ? '–' : Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);

const sections: string[] = [];
for (const name of names) {
  const suite = suites[name];
  if (!suite) throw new Error(`there is no bench ${name}; there are ${Object.keys(suites).join(', ')}`);
  process.stderr.write(`measuring ${name} …\n`);
  const rows = await suite();
  sections.push(
    `## ${name}\n\n| what | value | unit | compared with | ratio |\n| --- | ---: | --- | ---: | ---: |\n${rows
      .map(
        (row) =>
          `| ${row.name} | ${number(row.value)} | ${row.unit} | ${number(row.baseline)} | ${number(row.ratio)} |`,
      )
      .join('\n')}\n`,
  );
}
const text = `# Measurements\n\n\`npm run bench${wanted.length > 0 ? ` -- ${wanted.join(' ')}` : ''}\` on ${cpus().length} cores, Node ${process.version}.\n\n${sections.join('\n')}`;
process.stdout.write(text);
if (wanted.length === 0) await writeFile(join(packageRoot(), 'bench', 'RESULTS.md'), text);
process.exit();
