import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { byAge, type ReadProgress, type Run, readRuns, runDigests, runFactsSchema } from './runs.ts';

const part = digestSchema.nullable();
const lineSchema = z.object({
  digest: digestSchema,
  facts: runFactsSchema.omit({ epochs: true }),
  dataset: part,
  transform: part,
  source: part,
  checkpoint: part,
});

/** A run without its metrics by epoch: what lists and rankings need. */
export type RunLine = z.output<typeof lineSchema>;

function lineOf(run: Run): RunLine {
  const { epochs: _epochs, ...facts } = run.facts;
  return { ...run, facts };
}

/** What the file holds, by digest; a line that another process has not written whole, or of another version, is passed over. */
async function readLines(file: string): Promise<Map<Digest, RunLine>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const lines = new Map<Digest, RunLine>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      continue;
    }
    const parsed = lineSchema.safeParse(value);
    if (parsed.success) lines.set(parsed.data.digest, parsed.data);
  }
  return lines;
}

/**
 * Every run of a project (of one model, if given), newest first, without metrics by epoch. Runs never change, so what was read
 * once is kept in a file below the cache folder, a line a run, and only what is new is read from the store; which runs there
 * are is asked of the store each time. The file may be lost, or written by several processes at once.
 */
export async function listRunLines(
  zone: Zone,
  project: string,
  cacheFolder: string,
  model?: string,
  progress?: ReadProgress,
): Promise<RunLine[]> {
  // The name says the form: another version of cdl that tells more of a run has another file.
  const file = join(cacheFolder, 'runs-2', `${encodeURIComponent(project)}.jsonl`);
  const [known, digests] = await Promise.all([readLines(file), runDigests(zone, project)]);
  const missing = digests.filter((digest) => !known.has(digest));
  if (missing.length > 0) await mkdir(dirname(file), { recursive: true });
  // Kept as they come: who stops a long first look does not begin it anew.
  for await (const runs of readRuns(zone, missing, progress)) {
    const fresh = runs.map(lineOf);
    // The first line may follow one that was cut off.
    await appendFile(file, `\n${fresh.map((line) => JSON.stringify(line)).join('\n')}\n`);
    for (const line of fresh) known.set(line.digest, line);
  }
  const lines = digests.flatMap((digest) => known.get(digest) ?? []);
  return (model === undefined ? lines : lines.filter(({ facts }) => facts.model === model)).sort(byAge);
}
