import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Bundles the server and the gateway from the sources, as the build does, and whatever else a test runs as a process.
 * They lie below node_modules, where the packages they import are found.
 */
export async function bundlePrograms(more: Record<string, string> = {}): Promise<{
  path(name: string): string;
  remove(): Promise<void>;
}> {
  const cache = join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const outdir = await mkdtemp(join(cache, 'cdl-programs-'));
  await build({
    absWorkingDir: root,
    entryPoints: { main: 'src/serve/main.ts', 'gateway-main': 'src/serve/gateway-main.ts', ...more },
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
  return {
    path: (name) => join(outdir, `${name}.mjs`),
    remove: () => rm(outdir, { recursive: true, force: true }),
  };
}
