import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UserError } from '../core/error.ts';
import { type DatasetConfig, modelConfig, type Project } from '../core/project.ts';
import { packageRoot } from '../exec/root.ts';
import { findRoot, readProject } from '../steps/context.ts';
import { withCleaning, withResources, withSearch, withStep } from './pipeline-steps.ts';
import type { CommandInput } from './types.ts';

/** The starter pipeline of each forge in `templates/`, and where a project has it. */
const pipelineFiles: ReadonlyMap<string, { template: string; path: string }> = new Map([
  ['gitlab', { template: '.gitlab-ci.yml', path: '.gitlab-ci.yml' }],
  ['github', { template: 'github-workflow.yml', path: '.github/workflows/cdl.yml' }],
]);

/** Jobs that work on a search. */
const searchWorkers = 2;

/** Whether a data set needs the step `clean`. */
export const isCleaned = ({ clean, rules }: DatasetConfig) =>
  clean !== undefined || rules.check !== undefined;

/** What a pipeline is made for. */
export interface PipelineRequest {
  /** Default: the first of `cdl.yaml`. */
  model?: string | undefined;
  forge: string;
  /** Project of the CI components on the forge. */
  components: string;
  version: string;
}

/**
 * The pipeline that a project needs for one of its models: with the steps that its data asks for, a search where `tune:` is
 * there, and what its jobs ask of runners. Throws UserError usage for an unknown forge, model-unknown.
 */
export async function pipelineOf(
  project: Project,
  request: PipelineRequest,
): Promise<{ path: string; text: string }> {
  const file = pipelineFiles.get(request.forge);
  if (!file) {
    const known = [...pipelineFiles.keys()].join(', ');
    throw new UserError('usage', `--forge "${request.forge}" is not one of ${known}`);
  }
  const model = request.model ?? Object.keys(project.models)[0]!;
  const config = modelConfig(project, model);
  const data = project.datasets[config.data]!;
  const template = await readFile(join(packageRoot(), 'templates', file.template), 'utf8');
  let text = template
    .replaceAll('$CI_SERVER_FQDN/cdl/ci-components', () => request.components)
    .replaceAll('__VERSION__', request.version)
    .replaceAll('__MODEL__', model)
    .replaceAll('__DATASET__', config.data);
  if (isCleaned(data)) text = withCleaning(text);
  const isRaw = data.item !== 'tensor';
  if (isRaw) text = withStep(text, 'transform', 'validate');
  if (config.tune) text = withSearch(text, isRaw ? 'transform' : 'validate', searchWorkers);
  return { path: file.path, text: withResources(text, config.resources) };
}

/** `cdl pipeline [model]`: prints the pipeline for the project's `cdl.yaml`, or writes it where the forge looks for it. */
export async function pipeline(input: CommandInput): Promise<number> {
  const root = await findRoot(input.cwd);
  const project = await readProject(root);
  const { path, text } = await pipelineOf(project, {
    model: input.args[0],
    forge: input.options.forge as string,
    components: input.options.components as string,
    version: input.version,
  });
  if (!input.options.write) {
    input.console.print(text.trimEnd(), { path, text });
    return 0;
  }
  const target = join(root, path);
  const before = await readFile(target, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  await mkdir(dirname(target), { recursive: true });
  if (before !== text) await writeFile(target, text);
  const what =
    before === null
      ? 'made'
      : before === text
        ? 'is as it should be'
        : 'written anew; git diff shows what changed';
  input.console.print(`${path} ${what}`, { path, changed: before !== text });
  return 0;
}
