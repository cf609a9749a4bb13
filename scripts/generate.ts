// Writes everything that is derived from the sources: components, their README, JSON Schema of cdl.yaml, the step table, the bot's variables.
// With --check it only says what differs, and exits 1.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renderVariables } from '../bot/variables.ts';
import { projectJsonSchema } from '../src/core/project.ts';
import { packageRoot } from '../src/exec/root.ts';
import { renderComponent, renderInputTable } from '../src/steps/component.ts';
import { steps } from '../src/steps/index.ts';
import { commandEventJsonSchema, commandJobJsonSchema } from '../src/train/command-protocol.ts';

const root = packageRoot();
const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };

/** Replaces what stands between two marker comments. */
function between(text: string, marker: string, content: string): string {
  const begin = `<!-- begin ${marker} -->`;
  const end = `<!-- end ${marker} -->`;
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from < 0 || to < from) throw new Error(`the markers of ${marker} are missing`);
  return `${text.slice(0, from + begin.length)}\n${content.trim()}\n${text.slice(to)}`;
}

const files = new Map<string, string>();
const loaded = await Promise.all(steps.map((step) => step.load()));
for (const step of loaded)
  files.set(`ci-components/templates/${step.name}.yml`, renderComponent(step, version));
files.set('ci-components/cdl.schema.json', `${JSON.stringify(projectJsonSchema(), null, 2)}\n`);
for (const [name, schema] of [
  ['train-job', commandJobJsonSchema()],
  ['train-event', commandEventJsonSchema()],
] as const) {
  files.set(`ci-components/${name}.schema.json`, `${JSON.stringify(schema, null, 2)}\n`);
}
const components = await readFile(join(root, 'ci-components/README.md'), 'utf8');
files.set(
  'ci-components/README.md',
  between(
    components,
    'inputs',
    loaded
      .map((step) => `### \`${step.name}\`\n\n${step.summary}.\n\n${renderInputTable(step, version)}`)
      .join('\n'),
  ),
);
const readme = await readFile(join(root, 'README.md'), 'utf8');
files.set(
  'README.md',
  between(
    readme,
    'steps',
    `| step | what it does |\n| --- | --- |\n${steps.map((step) => `| \`${step.name}\` | ${step.summary} |`).join('\n')}`,
  ),
);

const bot = await readFile(join(root, 'bot/README.md'), 'utf8');
files.set('bot/README.md', between(bot, 'variables', renderVariables()));

/** A component's inputs are its interface: one that is gone or renamed needs a new major version. */
function lostInputs(before: string, after: string): string[] {
  const names = (text: string) => {
    const header = text.split('\n---\n')[0] ?? '';
    return [...header.matchAll(/^ {4}([\w-]+):/gm)].map((match) => match[1]!);
  };
  const kept = new Set(names(after));
  return names(before).filter((name) => !kept.has(name));
}

let different = 0;
for (const [path, content] of files) {
  const current = await readFile(join(root, path), 'utf8').catch(() => null);
  if (current === content) continue;
  const lost = current && path.endsWith('.yml') ? lostInputs(current, content) : [];
  if (lost.length > 0 && version.split('.')[0] === '0') {
    console.warn(`${path}: the inputs ${lost.join(', ')} are gone; say so in the release notes`);
  } else if (lost.length > 0) {
    throw new Error(`${path}: the inputs ${lost.join(', ')} are gone; that needs a new major version`);
  }
  different++;
  if (process.argv.includes('--check'))
    console.error(`${path} is not what the sources make: run npm run generate`);
  else {
    await writeFile(join(root, path), content);
    console.log(`wrote ${path}`);
  }
}
if (process.argv.includes('--check') && different > 0) process.exitCode = 1;
