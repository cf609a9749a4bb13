import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { cleanLine } from '../report/text.ts';
import type { CommandJob } from './command-protocol.ts';

/** Name of the executed notebook, in the folder for what a training writes beside its model. */
export const executedNotebook = 'notebook.ipynb';

/** Largest executed notebook that is looked into for what failed, in bytes. */
const mostRead = 64 * 2 ** 20;

/** The notebook that a training command names in place of a program; null for a program. */
export function notebookOf(command: readonly string[]): string | null {
  return command[0]!.endsWith('.ipynb') ? command[0]! : null;
}

/** A value as papermill's command line takes it: `-p` reads numbers and Python's True and False, `-r` leaves text alone. */
function parameter([name, value]: [string, number | string | boolean]): string[] {
  if (typeof value === 'string') return ['-r', name, value];
  return ['-p', name, typeof value === 'boolean' ? (value ? 'True' : 'False') : String(value)];
}

/**
 * The command that executes a notebook: papermill with the hyperparameters as its parameters (papermill.readthedocs.io,
 * usage-cli). Words after the notebook's name are papermill's own options. `output` is where the executed one is written.
 */
export function notebookCommand(
  command: readonly string[],
  hyperparameters: CommandJob['hyperparameters'],
  output: string,
): string[] {
  const [notebook, ...options] = command;
  const parameters = Object.entries(hyperparameters).flatMap(parameter);
  return ['papermill', '--log-output', '--no-progress-bar', ...options, ...parameters, notebook!, output];
}

const notebookSchema = z.object({
  cells: z.array(
    z.looseObject({
      cell_type: z.string(),
      execution_count: z.int().nullish(),
      metadata: z
        .looseObject({
          tags: z.array(z.string()).default([]),
          papermill: z.looseObject({ status: z.string().nullish() }).nullish(),
        })
        .prefault({}),
      outputs: z
        .array(
          z.looseObject({
            output_type: z.string(),
            ename: z.string().optional(),
            evalue: z.string().optional(),
          }),
        )
        .default([]),
    }),
  ),
});

/** Cells that papermill puts in; people count the others. */
const inserted = ['injected-parameters', 'papermill-error-cell-tag'];

/**
 * Which cell of an executed notebook failed, and how, counted from 1 as in the notebook that was given; null when it does not
 * say, or is not there.
 */
export async function failedCell(path: string, name: string): Promise<string | null> {
  const size = (await stat(path).catch(() => null))?.size ?? 0;
  if (size === 0 || size > mostRead) return null;
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return null;
  }
  const parsed = notebookSchema.safeParse(value);
  if (!parsed.success) return null;
  let number = 0;
  for (const cell of parsed.data.cells) {
    const isInserted = cell.metadata.tags.some((tag) => inserted.includes(tag));
    if (!isInserted) number++;
    if (cell.cell_type !== 'code') continue;
    const which = `${isInserted ? 'the cell of parameters' : `cell ${number}`}${cell.execution_count ? ` (In [${cell.execution_count}])` : ''} of ${name}`;
    const error = cell.outputs.find(({ output_type }) => output_type === 'error');
    if (error) {
      return `${which} failed: ${cleanLine(`${error.ename ?? 'error'}: ${error.evalue ?? ''}`).slice(0, 500)}`;
    }
    if (cell.metadata.papermill?.status === 'running') return `${which} did not end`;
  }
  return null;
}
