import picomatch from 'picomatch';
import { findProject, fullPath } from '../access.ts';
import type { Project, World } from '../state.ts';
import { expandText } from './expand-variables.ts';
import { interpolateSource, readInputSpecs, resolveInputs } from './interpolate.ts';
import { serverFqdn } from './names.ts';
import type { Repository } from './repository.ts';
import { firstMatchingRule, type RuleContext } from './rules.ts';
import { checkIncludeRules } from './strict.ts';
import { CiConfigError, isObject, mergeConfig, parseSource, toData, type YamlSource } from './yaml-source.ts';

const maxIncludes = 150;

/** Where the files of a pipeline come from and what its includes may look at. */
export interface IncludeContext {
  world: World;
  open(project: Project): Repository;
  rules: RuleContext;
}

/** Everything a pipeline is made of: one merged configuration, and the files it came from, nearest first. */
export interface Flattened {
  config: Record<string, unknown>;
  sources: YamlSource[];
}

interface Place {
  project: Project;
  sha: string;
}

interface Wanted {
  place: Place;
  path: string;
  label: string;
  component: Record<string, string> | null;
  inputs: Record<string, unknown>;
}

/**
 * Reads a pipeline's root file and all it includes, interpolates inputs file by file and merges: later includes win over earlier
 * ones, the including file wins over all (doc: ci/yaml/includes). Returns null when there is no root file; throws CiConfigError.
 */
export async function flattenIncludes(
  context: IncludeContext,
  project: Project,
  sha: string,
  inputs: Record<string, unknown>,
): Promise<Flattened | null> {
  const path = project.settings.ciConfigPath ?? '.gitlab-ci.yml';
  const text = await context.open(project).readFile(sha, path);
  if (text === null) return null;
  const state = { count: 0, sources: [] as YamlSource[] };
  const root = { place: { project, sha }, path, label: path, component: null, inputs };
  const config = await load(context, state, root, text, []);
  return { config, sources: state.sources };
}

async function load(
  context: IncludeContext,
  state: { count: number; sources: YamlSource[] },
  wanted: Wanted,
  text: string,
  open: readonly string[],
): Promise<Record<string, unknown>> {
  const identity = `${wanted.place.project.id}:${wanted.place.sha}:${wanted.path}`;
  if (open.includes(identity)) throw new CiConfigError(`${wanted.label}: includes itself`);
  const source = parseSource(wanted.label, text);
  const values = resolveInputs(wanted.label, readInputSpecs(source), wanted.inputs);
  interpolateSource(source, values, { variables: context.rules.values, component: wanted.component });
  const { include, ...own } = toData(source);
  state.sources.push(source);
  let merged: Record<string, unknown> = {};
  for (const entry of include === undefined || include === null ? [] : [include].flat()) {
    for (const next of await resolveEntry(context, wanted, entry)) {
      state.count += 1;
      if (state.count > maxIncludes) throw new CiConfigError(`more than ${maxIncludes} included files`);
      const content = await context.open(next.place.project).readFile(next.place.sha, next.path);
      if (content === null) throw new CiConfigError(`${wanted.label}: include: ${next.label} does not exist`);
      merged = mergeConfig(merged, await load(context, state, next, content, [...open, identity]));
    }
  }
  return mergeConfig(merged, own);
}

async function resolveEntry(context: IncludeContext, from: Wanted, entry: unknown): Promise<Wanted[]> {
  const fail = (message: string): never => {
    throw new CiConfigError(`${from.label}: include: ${message}`);
  };
  const expand = (text: string): string => expandText(text, context.rules.values);
  if (typeof entry === 'string') {
    if (/^https?:/.test(entry)) return fail('remote files are not supported by the sandbox');
    return localFiles(context, from, expand(entry), {});
  }
  if (!isObject(entry)) return fail('an entry must be a path or a mapping');
  const { rules, inputs = {}, ...kind } = entry;
  if (!isObject(inputs)) return fail('inputs must be a mapping');
  if (rules !== undefined) {
    const rule = await firstMatchingRule(checkIncludeRules(rules, from.label), context.rules);
    if (rule === null || rule.when === 'never') return [];
  }
  const keys = Object.keys(kind).sort().join(' ');
  const { local, project, file, ref, component } = kind;
  if (keys === 'local' && typeof local === 'string') return localFiles(context, from, expand(local), inputs);
  if (keys === 'component' && typeof component === 'string') {
    return [await componentFile(context, from, expand(component), inputs)];
  }
  if ((keys === 'file project' || keys === 'file project ref') && typeof project === 'string') {
    const revision = ref === undefined || ref === null ? null : expand(String(ref));
    const target = projectAt(context, expand(project));
    if (target === null) return fail(`project ${expand(project)} does not exist`);
    const sha = await commitOf(context.open(target), revision ?? target.defaultBranch);
    if (sha === null) return fail(`${expand(project)} has no ref ${revision ?? target.defaultBranch}`);
    return [file].flat().map((one) => {
      const path = expand(String(one)).replace(/^\/+/, '');
      const label = `${fullPath(target)}:${path}@${revision ?? target.defaultBranch}`;
      return { place: { project: target, sha }, path, label, component: null, inputs };
    });
  }
  return fail(
    `${keys || 'an empty entry'} is not supported by the sandbox (use local, project with file, or component)`,
  );
}

async function localFiles(
  context: IncludeContext,
  from: Wanted,
  pattern: string,
  inputs: Record<string, unknown>,
): Promise<Wanted[]> {
  const place = from.place;
  const clean = pattern.replace(/^\/+/, '');
  const foreign = from.label.includes(':') ? `${fullPath(place.project)}:` : '';
  const wanted = (path: string): Wanted => ({
    place,
    path,
    label: `${foreign}${path}`,
    component: null,
    inputs,
  });
  if (!clean.includes('*')) return [wanted(clean)];
  const matches = picomatch(clean, { dot: true });
  const files = await context.open(place.project).listFiles(place.sha);
  return files.filter((path) => matches(path)).map(wanted);
}

async function componentFile(
  context: IncludeContext,
  from: Wanted,
  address: string,
  inputs: Record<string, unknown>,
): Promise<Wanted> {
  const fail = (message: string): never => {
    throw new CiConfigError(`${from.label}: include: component ${address}: ${message}`);
  };
  const match = /^([^/]+)\/(.+)\/([\w-]+)@(.+)$/.exec(address);
  if (match === null) return fail('expected <server>/<project>/<component>@<version>');
  const [, host, path = '', name = '', version = ''] = match;
  if (host !== serverFqdn(context.world)) return fail(`is not on this server (${serverFqdn(context.world)})`);
  const project = projectAt(context, path);
  if (project === null) return fail(`project ${path} does not exist`);
  const repository = context.open(project);
  const found = await componentVersion(repository, version);
  if (found === null) return fail(`no version ${version}`);
  for (const file of [`templates/${name}.yml`, `templates/${name}/template.yml`]) {
    if ((await repository.readFile(found.sha, file)) !== null) {
      const component = { name, sha: found.sha, version: found.name, reference: version };
      return {
        place: { project, sha: found.sha },
        path: file,
        label: `${path}:${file}@${version}`,
        component,
        inputs,
      };
    }
  }
  return fail(`content not found: templates/${name}.yml`);
}

function projectAt(context: IncludeContext, path: string): Project | null {
  return findProject(context.world, path.replace(/^\/+|\/+$/g, ''));
}

async function commitOf(repository: Repository, revision: string): Promise<string | null> {
  if (/^[0-9a-f]{40}$/.test(revision)) return repository.resolve(revision);
  for (const prefix of ['refs/tags/', 'refs/heads/', '']) {
    const sha = await repository.resolve(`${prefix}${revision}`);
    if (sha !== null) return sha;
  }
  return null;
}

/** The commit of a component version: sha, tag, branch, `~latest`, or the newest release of a partial version (doc: ci/components). */
export async function componentVersion(
  repository: Repository,
  version: string,
): Promise<{ sha: string; name: string } | null> {
  if (version !== '~latest') {
    const sha = await commitOf(repository, version);
    if (sha !== null) return { sha, name: version };
    if (!/^\d+(\.\d+)?$/.test(version)) return null;
  }
  const name = newestVersion(await repository.tags(), version);
  const sha = name === null ? null : await repository.resolve(`refs/tags/${name}`);
  return name === null || sha === null ? null : { sha, name };
}

/** The highest release tag (no pre-releases) that `1`, `1.2` or `~latest` stands for. */
export function newestVersion(tags: readonly string[], wanted: string): string | null {
  let best: { tag: string; parts: number[] } | null = null;
  for (const tag of tags) {
    const match = /^v?(\d+)\.(\d+)\.(\d+)$/.exec(tag);
    if (match === null) continue;
    const parts = match.slice(1).map(Number);
    const plain = parts.join('.');
    if (wanted !== '~latest' && !plain.startsWith(`${wanted}.`)) continue;
    const newer =
      best === null ? 1 : (parts.map((part, at) => part - best!.parts[at]!).find((d) => d !== 0) ?? 0);
    if (newer > 0) best = { tag, parts };
  }
  return best?.tag ?? null;
}
