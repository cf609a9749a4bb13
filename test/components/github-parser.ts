import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { packageRoot } from '../../src/exec/root.ts';

type Parser = typeof import('@actions/workflow-parser');

/** GitHub's own parser of workflows. Bundled, because it imports its schema in a way that Node 20 no longer takes. */
async function openParser(): Promise<Parser> {
  const made = await build({
    stdin: { contents: "export * from '@actions/workflow-parser'", resolveDir: packageRoot() },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    write: false,
  });
  const folder = await mkdtemp(join(tmpdir(), 'cdl-parser-'));
  try {
    const file = join(folder, 'parser.cjs');
    await writeFile(file, made.outputFiles[0]!.contents);
    return createRequire(import.meta.url)(file) as Parser;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

let opened: Promise<Parser> | null = null;

/** What GitHub's parser finds wrong in a workflow: keys, types, the contexts of each expression, jobs that are needed. */
export async function workflowProblems(text: string): Promise<string[]> {
  opened ??= openParser();
  const { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } = await opened;
  const { context, value } = parseWorkflow({ name: 'cdl.yml', content: text }, new NoOperationTraceWriter());
  const found = value ? await convertWorkflowTemplate(context, value) : null;
  const messages = [
    ...context.errors.getErrors().map((error) => error.message),
    ...(found?.errors ?? []).map((error) => error.Message),
  ];
  return [...new Set(messages)];
}
