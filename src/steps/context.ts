import type { KeyObject } from 'node:crypto';
import { readFile, realpath, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parsePublicKeys } from '../core/decision.ts';
import { UserError } from '../core/error.ts';
import { type Project, parseProject, projectFile } from '../core/project.ts';
import { createRedactor, environmentSecrets } from '../core/redact.ts';
import { publicHub } from '../data/source/hub.ts';
import { run } from '../exec/run.ts';
import { readCi, readNode } from '../forge/ci.ts';
import { readProxies } from '../forge/network.ts';
import type { Zone } from '../store/types.ts';
import { openHandover } from './handover.ts';
import { sourceAccess } from './source-access.ts';
import type { Ctx } from './types.ts';
import { cacheFolder, type Environment, openZone } from './zones.ts';

export { cacheFolder, type Environment, openZone, sourceAccess };

/** What processes that run model code keep of the environment: where programs and the GPU driver are. */
const childVariables = ['PATH', 'LD_LIBRARY_PATH', 'CUDA_VISIBLE_DEVICES', 'NVIDIA_VISIBLE_DEVICES', 'TZ'];

/** How the caller shows what happens, and when it wants everything to stop. */
export interface Console {
  log(line: string): void;
  progress(label: string, share: number): void;
  signal: AbortSignal;
}

/** Whether a folder is the top of a work tree: `.git` is a repository, or a file that names one (gitrepository-layout(5)). */
async function isTop(folder: string): Promise<boolean> {
  const git = join(folder, '.git');
  const found = await stat(join(git, 'HEAD')).catch(() => null);
  if (found) return true;
  return readFile(git, 'utf8').then(
    (text) => text.startsWith('gitdir: '),
    () => false,
  );
}

/** The repository root at or above a folder. Throws UserError file-missing outside a repository. */
export async function findRoot(cwd: string): Promise<string> {
  for (let folder = await realpath(cwd); ; folder = dirname(folder)) {
    if (await isTop(folder)) return folder;
    if (folder === dirname(folder)) break;
  }
  // Git may know better (GIT_DIR), and says what is wrong.
  const result = await run('git', ['rev-parse', '--show-toplevel'], { cwd }).catch(() => null);
  if (!result) throw new UserError('file-missing', 'git is not installed', 'install git (2.38 or newer)');
  if (result.code !== 0) {
    throw new UserError(
      'file-missing',
      `${cwd} is not in a git repository`,
      'run cdl in your project, or make one: cdl init fashion',
    );
  }
  return result.stdout.toString().trim();
}

/** Reads and checks `cdl.yaml` below a folder. */
export async function readProject(root: string): Promise<Project> {
  const text = await readFile(join(root, projectFile), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') {
      throw new UserError(
        'file-missing',
        `there is no ${projectFile} in ${root}`,
        'make a project: cdl init fashion',
      );
    }
    throw error;
  });
  return parseProject(text);
}

/** Folder of the `local` deployment target on this machine. */
export function targetFolder(env: Environment): string {
  const state = env.XDG_STATE_HOME ?? join(env.HOME ?? homedir(), '.local', 'state');
  return env.CDL_LOCAL_TARGET ?? join(state, 'cdl', 'target');
}

/** The npm registry of this machine: `CDL_NPM_REGISTRY`, npm's own variable, or what npm's configuration says. */
export async function npmRegistry(env: Environment): Promise<string | null> {
  const given = env.CDL_NPM_REGISTRY ?? env.npm_config_registry ?? env.NPM_CONFIG_REGISTRY;
  if (given) return given;
  const asked = await run('npm', ['config', 'get', 'registry'], {}).catch(() => null);
  const url = asked?.code === 0 ? asked.stdout.toString().trim() : '';
  return url.startsWith('http') ? url : null;
}

/** What a process that runs model code gets to see of an environment. */
export function childEnvironment(env: Environment): Record<string, string> {
  return Object.fromEntries(
    childVariables.flatMap((name): [string, string][] =>
      env[name] === undefined ? [] : [[name, env[name]]],
    ),
  );
}

/** A function that masks every secret of the environment in a text. */
export function environmentRedactor(env: Environment): (text: string) => string {
  return createRedactor(environmentSecrets(env));
}

/**
 * Reads the public keys of `CDL_TRUSTED_KEYS`: PEM blocks one after the other, or a path to such a file. Throws UserError
 * config-invalid when it is set and holds none.
 */
export async function readTrustedKeys(env: Environment): Promise<ReadonlyMap<string, KeyObject>> {
  const value = env.CDL_TRUSTED_KEYS;
  if (!value) return new Map();
  if (value.includes('-----BEGIN')) return parsePublicKeys(value, 'CDL_TRUSTED_KEYS');
  const text = await readFile(value, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const what = `CDL_TRUSTED_KEYS names a file that cannot be read: ${cause.code}`;
    throw new UserError(
      'config-invalid',
      what,
      'give public keys as PEM, or the path of a file that holds them',
      { cause },
    );
  });
  return parsePublicKeys(text, 'CDL_TRUSTED_KEYS');
}

/** The composition root: everything a step may use, from the environment and the folder it is started in. */
export async function createContext(cwd: string, env: Environment, console: Console): Promise<Ctx> {
  const root = await findRoot(cwd);
  const [project, trusted] = await Promise.all([readProject(root), readTrustedKeys(env)]);
  const ci = readCi(env);
  const redact = environmentRedactor(env);
  const zones = new Map<Zone['name'], Promise<Zone>>();
  return {
    root,
    ref: ci ? 'HEAD' : null,
    project,
    ci,
    zone(name) {
      let zone = zones.get(name);
      if (!zone) {
        zone = openZone(env, name, root);
        zones.set(name, zone);
      }
      return zone;
    },
    trustedKeys: () => trusted,
    cacheFolder: cacheFolder(env),
    targetFolder: resolve(targetFolder(env)),
    npmRegistry: () => npmRegistry(env),
    modelHub: () => env.CDL_HF_ENDPOINT || env.HF_ENDPOINT || publicHub,
    sourceAccess: (side) => sourceAccess(env, side),
    labelServer: () =>
      env.CDL_LABEL_STUDIO_URL && env.CDL_LABEL_STUDIO_TOKEN
        ? { url: env.CDL_LABEL_STUDIO_URL, token: env.CDL_LABEL_STUDIO_TOKEN }
        : null,
    mlflow: () =>
      env.CDL_MLFLOW_URL
        ? {
            url: env.CDL_MLFLOW_URL,
            token: env.CDL_MLFLOW_TOKEN || null,
            network: { proxy: readProxies(env) },
          }
        : null,
    ray: () => ({
      address: env.RAY_ADDRESS || null,
      token: env.RAY_AUTH_TOKEN || null,
      network: { proxy: readProxies(env) },
    }),
    node: readNode(env),
    pseudonymKey: () => env.CDL_PSEUDONYM_KEY || null,
    childEnvironment: childEnvironment(env),
    handover: openHandover(join(root, '.cdl')),
    log: (line) => console.log(redact(line)),
    progress: console.progress,
    signal: console.signal,
  };
}

/** Parameters given as `CDL_PARAM_<NAME>` by a CI component. */
export function parameterVariables(env: Environment, names: readonly string[]): Record<string, string> {
  const given: Record<string, string> = {};
  for (const name of names) {
    const value = env[`CDL_PARAM_${name.toUpperCase().replaceAll('-', '_')}`];
    if (value !== undefined && value !== '') given[name] = value;
  }
  return given;
}
