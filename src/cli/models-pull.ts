import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { UserError } from '../core/error.ts';
import { readVersionDetail } from '../deploy/known-versions.ts';
import { sbomFile } from '../model/sbom.ts';
import { bytesText } from './data-text.ts';
import { type ModelsDesk, oneVersion } from './models-desk.ts';
import { detailJson } from './models-show.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl models pull VERSION`: package, checkpoint and all that is known of a version, in a new folder. Every byte is compared
 * with its digest, and the folder is there whole or not at all. Throws UserError usage for a folder that holds something.
 */
export async function pull(input: CommandInput, desk: ModelsDesk, what: readonly string[]): Promise<number> {
  const { sources } = desk;
  const known = await desk.known();
  const one = oneVersion(known, 'pull', what);
  const out = resolve(
    input.cwd,
    typeof input.options.out === 'string' ? input.options.out : `${one.model}-${one.version}`,
  );
  const there = await readdir(out).catch(() => []);
  if (there.length > 0) {
    throw new UserError(
      'usage',
      `${relative(input.cwd, out) || out} is not empty`,
      'name another folder: --out',
    );
  }
  const detail = await readVersionDetail(sources, known, one);
  await mkdir(dirname(out), { recursive: true });
  const folder = await mkdtemp(join(dirname(out), '.cdl-pull-'));
  try {
    let bytes = 0;
    for (const name of ['package', 'checkpoint'] as const) {
      const digest = one.candidate[name];
      // What was measured is kept in the trusted zone, also when it went from where it was made.
      const isThere = await sources.work.hasArtifact(digest);
      const zone = isThere || !sources.trusted ? sources.work : sources.trusted;
      const artifact = await zone.saveArtifact(digest, join(folder, name));
      bytes += artifact.files.reduce((sum, file) => sum + file.size, 0);
    }
    const bill = one.sbom && (await sources.work.hasArtifact(one.sbom.artifact)) ? one.sbom : null;
    // It is no part of the candidate, so nobody vouches for what else that artifact holds.
    const file =
      bill && (await sources.work.getArtifact(bill.artifact)).files.find(({ path }) => path === sbomFile);
    if (file) await sources.work.saveBlob(file.digest, join(folder, sbomFile));
    await writeFile(join(folder, 'version.json'), `${JSON.stringify(detailJson(detail), null, 2)}\n`);
    await rm(out, { recursive: true, force: true });
    await rename(folder, out);
    const shown = relative(input.cwd, out);
    const parts = ['package', 'checkpoint', ...(bill ? [sbomFile] : [])].join(', ');
    const missing = bill
      ? ''
      : one.sbom
        ? '\nIts bill of materials is not in the store any more.'
        : '\nIt was registered without a bill of materials.';
    input.console.print(
      `${one.model} version ${one.version}: ${parts} and version.json (${bytesText(bytes)}) in ${shown}${missing}`,
      {
        ...{ model: one.model, version: one.version, candidate: one.digest, folder: out, bytes },
        sbom: bill ? bill.artifact : null,
      },
    );
    return 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
