// Bundles the sources to dist/: one entry per process we start, shared code in chunks, packages left outside.
import { existsSync, renameSync, rmSync } from 'node:fs';
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
  'model/child': 'src/model/child.ts',
  'serve/main': 'src/serve/main.ts',
  'serve/gateway-main': 'src/serve/gateway-main.ts',
  'sandbox/runner-main': 'src/sandbox/runner-main.ts',
  'scripts/generate': 'scripts/generate.ts',
  'bench/main': 'bench/main.ts',
  'bench/bot-forge': 'bench/bot-forge.ts',
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
  packages: 'external',
  sourcemap: 'linked',
  logLevel: 'warning',
});
// Swapped in whole, so that a process started meanwhile never sees half a build.
const old = `${root}dist.${process.pid}.old`;
if (existsSync(`${root}dist`)) renameSync(`${root}dist`, old);
renameSync(root + fresh, `${root}dist`);
rmSync(old, { recursive: true, force: true });
