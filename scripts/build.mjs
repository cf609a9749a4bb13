// Bundles the sources to dist/: one entry per process we start, shared code in chunks, packages left outside.
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const entries = {
  index: 'src/index.ts',
  'cli/main': 'src/cli/main.ts',
  'cli/janitor': 'src/cli/janitor.ts',
  'bot/main': 'bot/main.ts',
  'bot/receiver': 'bot/receiver.ts',
  'steps/transform-child': 'src/steps/transform-child.ts',
  'steps/train-child': 'src/steps/train-child.ts',
  'data/custom-child': 'src/data/custom-child.ts',
  'data/folder-worker': 'src/data/folder/worker.ts',
  'model/child': 'src/model/child.ts',
  'serve/main': 'src/serve/main.ts',
  'serve/gateway-main': 'src/serve/gateway-main.ts',
  'sandbox/runner-main': 'src/sandbox/runner-main.ts',
  'scripts/generate': 'scripts/generate.ts',
  'bench/main': 'bench/main.ts',
  'bench/model-search': 'bench/model-search.ts',
  'bench/bot-forge': 'bench/bot-forge.ts',
};
/**
 * Packages that every command loads: bundled, because to find and open their two hundred files takes longer than to run them.
 * All others stay outside. Their licences go along (dist/licences.txt).
 */
const bundled = ['canonicalize', 'commander', 'picomatch', 'yaml', 'zod'];
const bundleSome = {
  name: 'bundle-some',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[^./]/ }, ({ path, kind, importer }) => {
      if (kind === 'entry-point') return undefined;
      // A bundled CommonJS module cannot `require` in an ES module; an import of the same takes its place.
      if (kind === 'require-call' && isBuiltin(path) && importer.includes('/node_modules/')) {
        return { path, namespace: 'builtin' };
      }
      const name = path.split('/')[0];
      return bundled.includes(name) ? undefined : { path, external: true };
    });
    onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      // Loaded when something of it is used: what commander needs to start other programs takes milliseconds.
      contents: `module.exports = new Proxy({}, { get: (_, name) => process.getBuiltinModule('${path}')[name] });`,
    }));
    onLoad({ filter: /\/(src|bot|bench|scripts)\/.*\.ts$/ }, ({ path }) => ({
      contents: directBuiltins(readFileSync(path, 'utf8'))
        // `z` as a namespace is known to the bundler, which then leaves out what nobody uses of it.
        .replace("import { z } from 'zod'", "import * as z from 'zod'"),
      loader: 'ts',
    }));
    // Messages of zod in forty languages, of which we use one.
    onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js';",
      resolveDir: `${root}node_modules/zod/v4/locales`,
    }));
  },
};

/**
 * Takes what Node has built in from `process`: an import makes a module around it first and for that looks at everything it has,
 * which opens stdin, and streams that nobody uses.
 */
function directBuiltins(source) {
  return source.replace(
    /^import (?!type )(\w+)?(?:, )?(?:\{([^}]*)\})? from '(node:[\w/]+)';/gm,
    (_, whole, names, from) => {
      const builtin = `process.getBuiltinModule('${from}')`;
      const wanted = (names ?? '')
        .split(',')
        .map((name) => name.trim().replace(' as ', ': '))
        .filter((name) => name !== '' && !name.startsWith('type '));
      // On as many lines as before, so that positions in stack traces stay right.
      return [
        ...(whole ? [`const ${whole} = ${builtin};`] : []),
        ...(wanted.length > 0 ? [`const { ${wanted.join(', ')} } = ${builtin};`] : []),
        (names ?? '').replace(/[^\n]/g, ''),
      ].join(' ');
    },
  );
}

/** What the quickest commands load: to find, open and link forty small files takes longer than to run them. */
const quick = [
  'src/cli/program.ts',
  'src/cli/data.ts',
  'src/cli/data-add.ts',
  'src/cli/data-checkout.ts',
  'src/cli/data-share.ts',
  'src/steps/zones.ts',
  'src/store/file.ts',
  'src/store/zone.ts',
  'src/exec/run.ts',
];

/** What reads and writes manifests, and with it zod: a changed `cdl data add` needs it, and nothing more of what steps need. */
const manifests = ['src/core/artifact.ts'];

/** What every step loads, whichever it is. */
const steps = ['src/cli/step-command.ts'];

/** How all of it is written. */
const shared = {
  absWorkingDir: root,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: 'linked',
  logLevel: 'warning',
};

const fresh = `dist.${process.pid}`;
const { metafile } = await build({
  ...shared,
  entryPoints: Object.fromEntries(Object.entries(entries).filter(([, file]) => existsSync(root + file))),
  outdir: fresh,
  splitting: true,
  plugins: [bundleSome],
  metafile: true,
});
await join();
const licences = bundled.map(
  (name) => `${name}\n\n${readFileSync(`${root}node_modules/${name}/LICENSE`, 'utf8')}`,
);
writeFileSync(`${root}${fresh}/licences.txt`, licences.join(`\n${'-'.repeat(40)}\n\n`));
// Swapped in whole, so that a process started meanwhile never sees half a build.
const old = `${root}dist.${process.pid}.old`;
if (existsSync(`${root}dist`)) renameSync(`${root}dist`, old);
renameSync(root + fresh, `${root}dist`);
rmSync(old, { recursive: true, force: true });

/**
 * Puts what `cli/main.js` imports into `startup.js`, the chunks of {@link quick} into `quick.js`, what {@link manifests} need
 * beside them into `manifests.js`, and what {@link steps} need beside all of these into `steps.js`. Whoever else imports one of
 * them takes it out of there, so that nothing is there twice.
 */
async function join() {
  const outputs = new Map(Object.entries(metafile.outputs));
  const names = new Map(
    [...outputs].flatMap(([file, { entryPoint }]) => (entryPoint ? [[entryPoint, file]] : [])),
  );
  const main = names.get('src/cli/main.ts');
  /** In which file each one is from now on. */
  const joined = new Map();
  const visit = (file, into, found) => {
    for (const { path, kind } of outputs.get(file).imports) {
      if (kind !== 'import-statement' || !outputs.has(path) || joined.has(path)) continue;
      visitAll(path, into, found);
    }
    return found;
  };
  const visitAll = (file, into, found) => {
    if (joined.has(file)) return;
    joined.set(file, into);
    found.push(file);
    visit(file, into, found);
  };
  const groups = [['startup.js', visit(main, 'startup.js', [])]];
  for (const [into, entries] of [
    ['quick.js', quick],
    ['manifests.js', manifests],
    ['steps.js', steps],
  ]) {
    const found = [];
    for (const entry of entries) visitAll(names.get(entry), into, found);
    groups.push([into, found]);
  }

  const order = [...joined.keys()];
  const alias = (file, name) => `m${order.indexOf(file)}_${name}`;
  const exported = (file, list) => `export {${outputs.get(file).exports.map(list).join(', ')}}`;
  const handOn = (file, folder) =>
    `${exported(file, (name) => `${alias(file, name)} as ${name}`)} from '${folder}${joined.get(file)}';\n`;
  // One that only these import, and only when it is needed, is not run before.
  const isLazy = (file) =>
    outputs.get(file).entryPoint !== undefined &&
    [...outputs].every(
      ([from, { imports }]) =>
        joined.get(from) === joined.get(file) || !imports.some(({ path }) => path === file),
    );
  /** What belongs to `own` is bundled, what was joined elsewhere is imported from there. */
  const resolver = (own) => ({
    name: 'joined',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /./ }, ({ path, kind, resolveDir }) => {
        if (kind === 'entry-point') return undefined;
        const file = path.startsWith('.') ? relative(root, resolve(resolveDir, path)) : null;
        const at = joined.get(file);
        if (at === own && own !== null) return { path: root + file };
        // Only where it is imported at the beginning: what is loaded when it is needed stays a file of its own.
        if (at !== undefined && kind === 'import-statement') {
          return {
            path: file,
            namespace: 'joined',
            suffix: resolve(root, fresh) === resolveDir ? '' : '?above',
          };
        }
        return { path, external: true };
      });
      onLoad({ filter: /./, namespace: 'joined' }, ({ path, suffix }) => ({
        contents: handOn(path, suffix === '' ? './' : '../'),
        resolveDir: `${root}${fresh}`,
      }));
    },
  });
  const write = (options, own) =>
    build({ ...shared, sourcemap: 'linked', allowOverwrite: true, plugins: [resolver(own)], ...options });
  for (const [name, files] of groups) {
    const contents = files
      .filter((file) => !isLazy(file) && outputs.get(file).exports.length > 0)
      .map(
        (file) =>
          `${exported(file, (name) => `${name} as ${alias(file, name)}`)} from './${relative(fresh, file)}';`,
      )
      .join('\n');
    const stdin = { contents, resolveDir: `${root}${fresh}`, sourcefile: name };
    await write({ stdin, outfile: `${fresh}/${name}` }, name);
  }
  // All others name the joined files themselves: a file that only hands on takes as long to find as any.
  const others = [...outputs.keys()].filter((file) => file.endsWith('.js') && !joined.has(file));
  await write({ entryPoints: others, outdir: fresh, outbase: fresh }, null);
  for (const file of order) {
    rmSync(`${root}${file}.map`, { force: true });
    // Only what is loaded when it is needed is still asked for under its name.
    if (isLazy(file) || outputs.get(file).entryPoint === undefined) rmSync(root + file);
    else writeFileSync(root + file, handOn(file, './'));
  }
}
