import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import picomatch from 'picomatch';
import type { DatasetConfig } from '../core/project.ts';
import { ownFunctions } from '../core/project-data-rules.ts';
import type { Program } from '../data/custom.ts';
import { exportCode, type SelectedFile } from '../exec/code.ts';
import { packageRoot } from '../exec/root.ts';
import { bundleModel } from '../model/bundle.ts';
import type { Ctx } from './types.ts';

/**
 * Makes the programs that cleaning starts, each in a folder that holds the files its `code:` names and nothing else; a module
 * is bundled from these alone. They see of the environment what model code sees. Throws UserError code-invalid.
 */
export async function openPrograms(
  ctx: Pick<Ctx, 'childEnvironment' | 'signal'>,
  config: Pick<DatasetConfig, 'clean' | 'rules'>,
  files: readonly SelectedFile[],
  folder: string,
): Promise<Program[]> {
  const child = join(packageRoot(), 'dist', 'data', 'custom-child.js');
  const programs: Program[] = [];
  for (const [index, own] of ownFunctions(config).entries()) {
    const at = join(folder, `program-${index}`);
    const declared = picomatch([...own.config.code], { dot: true, flags: 's' });
    await mkdir(at, { recursive: true });
    await exportCode(
      files.filter((file) => declared(file.path)),
      at,
    );
    let command = own.config.command as [string, ...string[]] | undefined;
    if (!command) {
      const bundle = join(at, '.bundle.mjs');
      await writeFile(bundle, await bundleModel(at, own.config.module!, { positions: true }));
      command = [process.execPath, child, bundle, own.task];
    }
    programs.push({
      command,
      folder: at,
      environment: ctx.childEnvironment,
      timeout: own.config.timeout,
      signal: ctx.signal,
      what: own.what,
    });
  }
  return programs;
}
