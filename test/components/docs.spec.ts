import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { steps } from '../../src/steps/index.ts';

const root = packageRoot();
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'src/README.md',
  'bot/README.md',
  'ci-components/README.md',
  'runners/gpu/README.md',
  'templates/fashion/README.md',
  'templates/news/README.md',
  'templates/news-torch/README.md',
];
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** A heading's anchor as GitLab and GitHub make it. */
const anchor = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

it.each(pages)('every link of %s leads somewhere, anchors included', (page) => {
  for (const [, target] of read(page).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
    const [path, fragment] = target!.split('#') as [string, string | undefined];
    const file = path ? join(dirname(page), path) : page;
    expect(existsSync(join(root, file)), `${page} → ${target}`).toBe(true);
    if (fragment === undefined) continue;
    const text = readFileSync(join(root, file), 'utf8');
    const anchors = [...text.matchAll(/^#+ (.+)$/gm)].map((match) => anchor(match[1]!));
    expect(anchors, `${page} → ${target}`).toContain(fragment);
  }
});

it.each(pages)('%s names no command that is not there', (page) => {
  const known = new Set(['init', ...[...steps, ...commands].map((one) => one.name)]);
  const named = [...read(page).matchAll(/(?:`|^|&& )cdl ([a-z][a-z-]*)/gm)].map((match) => match[1]!);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
});
