// Bundles the sources to dist/: one entry per process we start, shared code in chunks, packages left outside.
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
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
      contents: `export * from '${path}'; export { default } from '${path}';`,
    }));
    // `z` as a namespace is known to the bundler, which then leaves out what nobody uses of it.
    onLoad({ filter: /\/(src|bot|bench|scripts)\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replace("import { z } from 'zod'", "import * as z from 'zod'"),
      loader: 'ts',
    }));
    // Messages of zod in forty languages, of which we use one.
    onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js';",
      resolveDir: `${root}node_modules/zod/v4/locales`,
    }));
  },
};

const fresh = `dist.${process.pid}`;
await build({
  absWorkingDir: root,
  entryPoints: Object.fromEntries(Object.entries(entries).filter(([, file]) => existsSync(root + file))),
  outdir: fresh,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  plugins: [bundleSome],
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: 'linked',
  logLevel: 'warning',
});
const licences = bundled.map(
  (name) => `${name}\n\n${readFileSync(`${root}node_modules/${name}/LICENSE`, 'utf8')}`,
);
writeFileSync(`${root}${fresh}/licences.txt`, licences.join(`\n${'-'.repeat(40)}\n\n`));
// Swapped in whole, so that a process started meanwhile never sees half a build.
const old = `${root}dist.${process.pid}.old`;
if (existsSync(`${root}dist`)) renameSync(`${root}dist`, old);
renameSync(root + fresh, `${root}dist`);
rmSync(old, { recursive: true, force: true });
