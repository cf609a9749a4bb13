import { cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { UserError } from '../core/error.ts';
import { parseProject, projectFile } from '../core/project.ts';
import { nearest } from '../core/suggest.ts';
import { packageRoot } from '../exec/root.ts';
import { run } from '../exec/run.ts';
import { lockDriver } from './lock.ts';
import { isCleaned, pipelineOf } from './pipeline.ts';
import type { CommandInput } from './types.ts';

async function git(cwd: string, args: string[], env: NodeJS.ProcessEnv): Promise<string> {
  const result = await run('git', args, { cwd, env });
  if (result.code === 0) return result.stdout.toString().trim();
  throw new UserError('file-missing', `git ${args.join(' ')}: ${result.stderr.toString().trim()}`);
}

/** The examples that ship with this version: folders of `templates/`. */
export async function examples(): Promise<string[]> {
  const entries = await readdir(join(packageRoot(), 'templates'), { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

/** Whether a folder is there. Throws UserError usage when something else is, or the folder holds more than `.git`. */
async function checkVacant(folder: string): Promise<boolean> {
  const hint = 'name another folder: cdl init EXAMPLE FOLDER';
  const found = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw new UserError('usage', `${folder} cannot be used: ${error.code}`, hint, { cause: error });
  });
  if (found === null) return false;
  if (!found.isDirectory()) throw new UserError('usage', `${folder} is not a folder`, hint);
  if ((await readdir(folder)).every((name) => name === '.git')) return true;
  throw new UserError('usage', `${folder} is not empty`, hint);
}

/** What `cdl init` makes: everything but the git commands, so that others can make a project too. */
export async function writeExample(
  example: string,
  folder: string,
  options: {
    version: string;
    components: string;
    validators: readonly string[];
    forge?: string;
    tune?: boolean;
  },
): Promise<void> {
  const known = await examples();
  if (!known.includes(example)) {
    const guess = nearest(example, known);
    throw new UserError(
      'usage',
      `there is no example "${example}"; there is ${known.join(', ')}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  await checkVacant(folder);
  await mkdir(folder, { recursive: true });
  const templates = join(packageRoot(), 'templates');
  await cp(join(templates, example), folder, { recursive: true });
  for (const name of ['gitignore', 'gitattributes']) {
    // Without the dot in the package, because npm would take them for its own.
    await rename(join(folder, name), join(folder, `.${name}`));
  }
  const file = join(folder, projectFile);
  await addSearch(folder, file, example, options.tune ?? false);
  const text = await readFile(file, 'utf8');
  const pipeline = await pipelineOf(parseProject(text), { forge: options.forge ?? 'gitlab', ...options });
  if (options.validators.length > 0) {
    const document = parseDocument(text);
    document.setIn(['roles', 'validator'], [...options.validators]);
    await writeFile(file, document.toString({ lineWidth: 0, flowCollectionPadding: true }));
  }
  await mkdir(dirname(join(folder, pipeline.path)), { recursive: true });
  await writeFile(join(folder, pipeline.path), pipeline.text);
}

/** Adds the example's own search to its first model, and takes its file away. Throws UserError usage where it has none. */
async function addSearch(folder: string, file: string, example: string, wanted: boolean): Promise<void> {
  const path = join(folder, 'tune.yaml');
  const search = await readFile(path, 'utf8').catch(() => null);
  if (search !== null) await rm(path);
  if (!wanted) return;
  if (search === null) {
    throw new UserError(
      'usage',
      `the example ${example} comes without a search`,
      'write tune: into its cdl.yaml',
    );
  }
  const text = await readFile(file, 'utf8');
  const model = Object.keys(parseProject(text).models)[0]!;
  const document = parseDocument(text);
  document.setIn(['models', model, 'tune'], parseDocument(search).contents);
  await writeFile(file, document.toString({ lineWidth: 0, flowCollectionPadding: true }));
}

async function commitProject(folder: string, example: string, env: NodeJS.ProcessEnv): Promise<void> {
  await git(folder, ['init', '--quiet', '--initial-branch=main'], env);
  await git(folder, ['config', 'merge.cdl-lock.name', 'whole entries of cdl.lock'], env);
  await git(folder, ['config', lockDriver.key, lockDriver.command], env);
  await git(folder, ['add', '--all'], env);
  const named = await run('git', ['config', 'user.email'], { cwd: folder, env });
  const identity = named.code === 0 ? [] : ['-c', 'user.name=cdl init', '-c', 'user.email=cdl@localhost'];
  await git(folder, [...identity, 'commit', '--quiet', '-m', `feat: start from the ${example} example`], env);
}

/** `cdl init EXAMPLE [FOLDER]`. */
export async function init(input: CommandInput): Promise<number> {
  const example = input.args[0]!;
  const folder = resolve(input.cwd, input.args[1] ?? example);
  const validators = (input.options.validator as string[] | undefined) ?? [];
  const components = input.options.components as string;
  const forge = input.options.forge as string;
  const existed = await checkVacant(folder);
  const hadGit = existed && (await readdir(folder)).length > 0;
  try {
    const tune = input.options.tune === true;
    await writeExample(example, folder, { version: input.version, components, validators, forge, tune });
    await commitProject(folder, example, input.env);
  } catch (error) {
    // Nothing was there but .git, so that all else is ours to take back.
    const made = existed ? (await readdir(folder)).filter((name) => name !== '.git' || !hadGit) : [''];
    for (const name of made) await rm(join(folder, name), { recursive: true, force: true });
    throw error;
  }
  const files = (await git(folder, ['ls-files'], input.env)).split('\n');
  const project = parseProject(await readFile(join(folder, projectFile), 'utf8'));
  const isRaw = Object.values(project.datasets).some((data) => data.item !== 'tensor');
  const cleans = Object.values(project.datasets).some(isCleaned) ? 'cdl clean && ' : '';
  input.console.print(
    [
      `Made ${folder} with ${files.length} files: ${files.join(', ')}`,
      '',
      'Next:',
      ...(folder === resolve(input.cwd) ? [] : [`  cd ${input.args[1] ?? example}`]),
      `  cdl ingest && ${cleans}cdl validate && ${isRaw ? 'cdl transform && ' : ''}${input.options.tune ? 'cdl tune && ' : ''}cdl train        # try it on this machine`,
      '  git remote add origin URL && git push -u origin main',
      ...(validators.length === 0
        ? ['  name your validators under roles: in cdl.yaml before you push']
        : [`  ${validators.join(', ')} may approve`]),
    ].join('\n'),
    { folder, files, validators },
  );
  return 0;
}
