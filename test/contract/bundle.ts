import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Bundles a TypeScript module so that a plain `node` can run it as another process. It lies below node_modules, where the
 * packages it imports are found.
 */
export async function bundleForNode(entry: URL): Promise<{ path: string; remove(): Promise<void> }> {
  const cache = join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const outdir = await mkdtemp(join(cache, 'cdl-test-'));
  await build({
    absWorkingDir: root,
    entryPoints: { main: fileURLToPath(entry) },
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
  return { path: join(outdir, 'main.mjs'), remove: () => rm(outdir, { recursive: true, force: true }) };
}
