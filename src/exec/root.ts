import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

const manifest = z.object({ name: z.literal('cdl') });

/**
 * The folder of this package, found by walking up from this file to the `package.json` named `cdl`; the same whether run
 * from `src/` or from the bundles in `dist/`. Throws an Error when the package was taken apart.
 */
export function packageRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    try {
      if (manifest.safeParse(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))).success) {
        return folder;
      }
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
    if (folder === dirname(folder)) throw new Error('the package.json of cdl is not above its own code');
  }
}
