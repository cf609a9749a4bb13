import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path/posix';
import { describe, expect, it } from 'vitest';

/** Path from the project's root → text. */
type Tree = ReadonlyMap<string, string>;

/** Folders of src from left to right; a file imports its own folder or those of groups to its left. */
const order = [
  ['core'],
  ['exec'],
  ['store', 'db', 'forge', 'report'],
  ['data'],
  ['train'],
  ['model'],
  ['serve'],
  ['deploy'],
  ['monitor'],
  ['steps'],
  ['sandbox'],
  // The command line starts the sandbox, as it starts the bot.
  ['cli'],
];

/** Files that implement one port each, by the beginning of their name; no driver knows another. */
const drivers: Readonly<Record<string, readonly string[]>> = {
  store: ['file', 's3'],
  forge: ['gitlab', 'github'],
  deploy: ['local', 'seldon'],
};

/** Where the process environment is read; everything else gets it as an argument. */
// The runner is a program of its own: PATH of its jobs is that of its machine.
const environmentReaders = ['src/steps/context.ts', 'src/cli/main.ts', 'src/sandbox/runner-main.ts'];

const mostLines = 400;

interface Import {
  target: string;
  dynamic: boolean;
}

/** Comments that begin a line go; others stay, for `/*` also stands in globs. */
const withoutComments = (text: string) =>
  text.replace(/^[ \t]*\/\*[\s\S]*?\*\//gm, '').replace(/^[ \t]*\/\/.*$/gm, '');

/** What a file imports by relative path, as paths from the root. */
function importsOf(path: string, text: string): Import[] {
  const found =
    /(?:^|\n)\s*(?:import|export)\s(?:[^'"`;]*?\sfrom\s*)?['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]\s*\)/g;
  return [...withoutComments(text).matchAll(found)].map(([, fixed, dynamic]) => ({
    target: normalize(join(dirname(path), (fixed ?? dynamic)!)),
    dynamic: dynamic !== undefined,
  }));
}

const isSource = (path: string) => path.startsWith('src/') || path.startsWith('bot/');
const folderOf = (path: string) => path.split('/')[1]!;
const levelOf = (path: string) => order.findIndex((group) => group.includes(folderOf(path)));

/** The driver a file belongs to: `gitlab-notes.ts` and `gitlab/x.ts` to gitlab. */
function driverOf(path: string): { port: string; driver: string } | null {
  const [, port, file] = path.split('/');
  const driver = drivers[port ?? '']?.find((name) => new RegExp(`^${name}(-|\\.|$)`).test(file ?? ''));
  return driver ? { port: port!, driver } : null;
}

function directionProblem(from: string, { target, dynamic }: Import): string | null {
  if (from.startsWith('bot/')) {
    return target.startsWith('bot/') || target === 'src/index.ts'
      ? null
      : 'the bot imports only src/index.ts';
  }
  const isShown = target === 'bot/main.ts' || target === 'bot/variables.ts';
  if (isShown && dynamic && folderOf(from) === 'cli') return null;
  if (!target.startsWith('src/')) return 'src imports only src';
  if (from === 'src/index.ts' || folderOf(from) === folderOf(target)) return null;
  return levelOf(target) >= 0 && levelOf(target) < levelOf(from)
    ? null
    : `${folderOf(from)} may not import ${folderOf(target)}`;
}

function driverProblem(from: string, { target }: Import): string | null {
  const [here, there] = [driverOf(from), driverOf(target)];
  if (!there || (here?.port === there.port && here.driver === there.driver)) return null;
  if (here?.port === there.port) return 'drivers of one port do not know each other';
  return from === `src/${there.port}/index.ts` || from === 'src/index.ts'
    ? null
    : `only src/${there.port}/index.ts names its drivers`;
}

/** Cycles of imports, those of types included: who must be read before whom. What is loaded on use closes none. */
function cycles(tree: Tree): string[] {
  const found = new Set<string>();
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      const round = trail.slice(at);
      const first = round.indexOf([...round].sort()[0]!);
      found.add([...round.slice(first), ...round.slice(0, first)].join(' → '));
      return;
    }
    const text = tree.get(path);
    if (done.has(path) || text === undefined) return;
    for (const { target, dynamic } of importsOf(path, text)) {
      if (!dynamic) visit(target, [...trail, path]);
    }
    done.add(path);
  };
  for (const path of tree.keys()) visit(path, []);
  return [...found].sort();
}

/** Exports whose line above does not end a doc comment. */
function undocumented(text: string): string[] {
  const lines = text.split('\n');
  let before = '';
  const names: string[] = [];
  for (const [index, line] of lines.entries()) {
    const name =
      /^export (?:async |abstract |declare )*(?:function\*?|class|const|let|interface|type|enum) (\w+)/.exec(
        line,
      )?.[1];
    // The signatures of one overloaded function share a comment.
    if (name && name !== before && !lines[index - 1]?.trimEnd().endsWith('*/')) names.push(name);
    before = name ?? (line.trim() === '' ? '' : before);
  }
  return names;
}

const checks = {
  'imports point to the left': (tree: Tree) => eachImport(tree, directionProblem),
  'drivers of a port do not know each other, and only its index names them': (tree: Tree) =>
    eachImport(tree, driverProblem),
  'there are no cycles': cycles,
  'only the composition roots read the process environment': (tree: Tree) =>
    eachFile(tree, (path, text) =>
      !environmentReaders.includes(path) &&
      /process\s*\??\.\s*env\b|process\[\s*['"]env|\{[^}]*\benv\b[^}]*\}\s*(=\s*process\b|from\s*['"](node:)?process['"])/.test(
        withoutComments(text),
      )
        ? ['reads process.env']
        : [],
    ),
  'no file is a drawer of odds and ends': (tree: Tree) =>
    eachFile(tree, (path) =>
      /(^|[/-])(utils?|helpers?|managers?|misc|common)([./-]|$)/i.test(path) ? ['bad name'] : [],
    ),
  'file names are kebab-case': (tree: Tree) =>
    eachFile(tree, (path) =>
      /^[a-z0-9]+([.-][a-z0-9]+)*\.ts$/.test(path.split('/').at(-1)!) ? [] : ['bad name'],
    ),
  [`no file is longer than ${mostLines} lines`]: (tree: Tree) =>
    eachFile(tree, (_path, text) => {
      const length = text.split('\n').length - 1;
      return length > mostLines ? [`${length} lines`] : [];
    }),
  'every export has a doc comment': (tree: Tree) =>
    eachFile(tree, (path, text) =>
      path.startsWith('src/') ? undocumented(text).map((name) => `${name} has no doc comment`) : [],
    ),
  'exports have names': (tree: Tree) =>
    eachFile(tree, (_path, text) => (/^export default\b/m.test(text) ? ['has a default export'] : [])),
} satisfies Record<string, (tree: Tree) => string[]>;

function eachFile(tree: Tree, problems: (path: string, text: string) => string[]): string[] {
  return [...tree].flatMap(([path, text]) => problems(path, text).map((problem) => `${path}: ${problem}`));
}

function eachImport(tree: Tree, problem: (from: string, one: Import) => string | null): string[] {
  return eachFile(tree, (path, text) =>
    importsOf(path, text).flatMap((one) => {
      const text = problem(path, one);
      return text ? [`${one.target}: ${text}`] : [];
    }),
  );
}

function readTree(): Tree {
  const root = new URL('../', import.meta.url).pathname;
  const paths = ['src', 'bot'].flatMap((top) =>
    readdirSync(join(root, top), { recursive: true, encoding: 'utf8' }).map((path) => `${top}/${path}`),
  );
  const sources = paths.filter((path) => path.endsWith('.ts') && isSource(path)).sort();
  return new Map(sources.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

describe('the sources', () => {
  const tree = readTree();

  it('are found', () => {
    expect(tree.size).toBeGreaterThan(20);
    expect(importsOf('src/core/lock.ts', tree.get('src/core/lock.ts')!).map((one) => one.target)).toContain(
      'src/core/digest.ts',
    );
  });

  it.each(Object.entries(checks))('keep the rule: %s', (_rule, check) => {
    expect(check(tree)).toEqual([]);
  });
});

describe('the rules', () => {
  const doc = '/** Something. */\n';
  const find = (rule: string, ...files: [string, string][]) =>
    checks[rule as keyof typeof checks](new Map(files));

  it.each([
    ['src/core/a.ts', "import { x } from '../store/index.ts';"],
    ['src/store/a.ts', "import type { X } from '../db/types.ts';"],
    ['src/exec/a.ts', "import { x } from '../store/index.ts';"],
    ['src/data/a.ts', "const x = await import('../steps/context.ts');"],
    ['src/data/a.ts', "export * from '../train/types.ts';"],
    ['src/data/a.ts', "import {\n  x,\n} from '../train/types.ts';"],
    ['src/sandbox/a.ts', "import { x } from '../cli/main.ts';"],
    ['src/cli/a.ts', "import { x } from '../index.ts';"],
    ['src/cli/a.ts', "import { x } from '../../bot/main.ts';"],
    ['src/cli/a.ts', "await import('../../bot/app.ts');"],
    ['src/steps/a.ts', "await import('../../bot/main.ts');"],
    ['src/steps/a.ts', "import { x } from '../../test/x.ts';"],
    ['bot/commands/a.ts', "import { x } from '../../src/core/error.ts';"],
  ])('refuse an import that points to the right: %s, %s', (path, text) => {
    expect(find('imports point to the left', [path, text])).toHaveLength(1);
  });

  it.each([
    ['src/steps/a.ts', "import { x } from '../core/error.ts';"],
    ['src/data/a.ts', "import { x } from '../store/index.ts';"],
    ['src/sandbox/api/a.ts', "import { x } from '../state.ts';"],
    ['src/cli/a.ts', "await import('../../bot/main.ts');"],
    ['src/cli/a.ts', "await import('../../bot/variables.ts');"],
    ['src/core/a.ts', "// import { x } from '../cli/main.ts';\nimport { z } from 'zod';"],
    ['bot/commands/a.ts', "import { x } from '../../src/index.ts';\nimport { y } from '../parse.ts';"],
  ])('allow an import that points to the left: %s, %s', (path, text) => {
    expect(find('imports point to the left', [path, text])).toEqual([]);
  });

  it('see every other fault', () => {
    const driver = 'drivers of a port do not know each other, and only its index names them';
    expect(find(driver, ['src/store/file.ts', "import { x } from './s3-parts.ts';"])).toHaveLength(1);
    expect(find(driver, ['src/forge/github.ts', "import { x } from './gitlab.ts';"])).toHaveLength(1);
    expect(find(driver, ['src/steps/a.ts', "import { x } from '../store/s3.ts';"])).toHaveLength(1);
    expect(find(driver, ['src/store/index.ts', "await import('./s3.ts');"])).toEqual([]);
    expect(find(driver, ['src/store/s3.ts', "import { x } from './s3-parts.ts';"])).toEqual([]);

    const [a, b] = ["import { b } from './b.ts';", "import { a } from './a.ts';"];
    expect(find('there are no cycles', ['src/core/a.ts', a], ['src/core/b.ts', b])).toEqual([
      'src/core/a.ts → src/core/b.ts',
    ]);
    expect(find('there are no cycles', ['src/core/a.ts', a], ['src/core/b.ts', ''])).toEqual([]);

    const env = 'only the composition roots read the process environment';
    for (const text of ['process.env.X', 'const { env } = process;', "import { env } from 'node:process';"]) {
      expect(find(env, ['src/sandbox/a.ts', text])).toHaveLength(1);
      expect(find(env, ['src/steps/context.ts', text])).toEqual([]);
    }
    expect(find(env, ['src/sandbox/a.ts', '// process.env is read elsewhere'])).toEqual([]);

    const drawer = 'no file is a drawer of odds and ends';
    expect(find(drawer, ['src/core/utils.ts', ''], ['src/core/run-manager.ts', ''])).toHaveLength(2);
    expect(find('file names are kebab-case', ['src/core/fileStore.ts', ''])).toHaveLength(1);
    expect(find(`no file is longer than ${mostLines} lines`, ['bot/a.ts', '\n'.repeat(401)])).toHaveLength(1);
    expect(find(`no file is longer than ${mostLines} lines`, ['bot/a.ts', '\n'.repeat(400)])).toEqual([]);
    expect(find('exports have names', ['src/core/a.ts', 'export default 1;'])).toHaveLength(1);

    const docs = 'every export has a doc comment';
    expect(find(docs, ['src/core/a.ts', `${doc}export const a = 1;\nexport async function b() {}`])).toEqual([
      'src/core/a.ts: b has no doc comment',
    ]);
    expect(
      find(docs, ['src/core/a.ts', `${doc}export function a(x: 1): 1;\nexport function a(x: 2): 2;`]),
    ).toEqual([]);
    expect(
      find(docs, ['src/core/a.ts', "export type { A } from './b.ts';\nexport { x } from './c.ts';"]),
    ).toEqual([]);
  });
});
