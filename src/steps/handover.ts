import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../core/error.ts';
import type { Report } from '../core/report.ts';
import { isOwnerGone, ownerName } from '../exec/owner.ts';
import type { Handover } from './types.ts';

const outputsSchema = z.record(z.string(), z.string());

/** As much of a report as summing up needs; blocks are rendered by kind. */
const reportSchema = z.looseObject({
  key: z.string(),
  title: z.string(),
  verdict: z.enum(['pass', 'warn', 'fail']),
  summary: z.string(),
  blocks: z.array(z.looseObject({ kind: z.string() })),
});

async function readJson(path: string, schema: z.ZodType): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (text === null) return null;
  const hint = 'run the step that writes it again';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError('input-missing', `${path} is not JSON`, hint, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return value;
  throw new UserError('input-missing', `${path}: ${z.prettifyError(parsed.error)}`, hint);
}

async function save(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  // Two commands in one folder must not rename each other's half-written file.
  const before = `${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(before) || !name.endsWith('.new')) continue;
    const left = join(dirname(path), name);
    const found = await stat(left).catch(() => null);
    // What a command that was killed has left would otherwise travel with every job's artifacts.
    if (found && isOwnerGone(name.slice(before.length, -4), found.mtimeMs)) await rm(left, { force: true });
  }
  const own = `${path}.${ownerName()}.new`;
  await writeFile(own, content);
  await rename(own, path);
}

/** The folder (`.cdl/`) through which the jobs of a pipeline hand on what they made, as CI artifacts. */
export function openHandover(folder: string): Handover {
  const file = (kind: string, step: string, subject: string) =>
    join(folder, `${subject}.${step}.${kind}.json`);
  return {
    async read(step, subject) {
      return (await readJson(file('outputs', step, subject), outputsSchema)) as Record<string, string> | null;
    },
    write: (step, subject, outputs) =>
      save(file('outputs', step, subject), `${JSON.stringify(outputs, null, 2)}\n`),
    writeFile: (path, content) => save(join(folder, path), content),
    hasFile: async (path) => ((await stat(join(folder, path)).catch(() => null))?.size ?? 0) > 0,
    async list() {
      const names = await readdir(folder).catch(() => []);
      return names.flatMap((name) => {
        const match = /^(.+)\.([a-z-]+)\.outputs\.json$/.exec(name);
        return match ? [{ subject: match[1]!, step: match[2]! }] : [];
      });
    },
    async readReport(step, subject) {
      return (await readJson(file('report', step, subject), reportSchema)) as Report | null;
    },
    writeReport: (step, subject, report) =>
      save(file('report', step, subject), `${JSON.stringify(report, null, 2)}\n`),
  };
}
