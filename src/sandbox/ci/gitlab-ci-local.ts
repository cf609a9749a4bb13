import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { parse } from 'yaml';
import { UpstreamError } from '../../core/error.ts';
import { run } from '../../exec/run.ts';
import { CiConfigError, isObject, isReference } from './yaml-source.ts';

/** Resolves `extends`, `!reference` and `default` of one flattened configuration. */
export type Expand = (config: Record<string, unknown>) => Promise<Record<string, unknown>>;

const workflowJob = 'cdl:workflow';
const never = 'null == "cdl:none:"';

/**
 * Opens gitlab-ci-local as the expander, working below `folder`. Equal configurations are expanded once.
 *
 * It gets one file without includes in an otherwise empty repository, so it needs neither network nor rsync. It would evaluate
 * `rules:if` as JavaScript, rewrite `$` in variables and apply the needs of rules; the sandbox does these itself as GitLab
 * does, so they travel as opaque marks and come back as they were.
 */
export function openExpander(folder: string, path: string): Expand {
  const program = createRequire(import.meta.url).resolve('gitlab-ci-local');
  const kept = new Map<string, Promise<Record<string, unknown>>>();
  let repository: Promise<void> | null = null;
  const env = { PATH: path, HOME: folder, GIT_CONFIG_NOSYSTEM: '1', NO_COLOR: '1', FORCE_COLOR: '0' };

  const prepare = async (): Promise<void> => {
    // A commit and a remote with a default branch, or it complains about them in the middle of its messages.
    await mkdir(folder, { recursive: true });
    const git = (...args: string[]): Promise<unknown> => run('git', ['-C', folder, ...args], { env });
    await git('init', '-q', '-b', 'main');
    await git('remote', 'add', 'origin', 'http://sandbox.invalid/sandbox/pipeline.git');
    await git('config', 'user.name', 'sandbox');
    await git('config', 'user.email', 'sandbox@sandbox.invalid');
    await git('commit', '-q', '--allow-empty', '-m', 'start');
    await git('update-ref', 'refs/remotes/origin/main', 'HEAD');
    await git('symbolic-ref', 'refs/remotes/origin/HEAD', 'refs/remotes/origin/main');
  };

  const expand = async (flat: string, digest: string): Promise<Record<string, unknown>> => {
    repository ??= prepare();
    await repository;
    const [file, state] = [`${digest}.yml`, `${digest}.state`];
    await writeFile(join(folder, file), flat);
    try {
      const flags = ['--preview', '--no-json-schema-validation', '--no-evaluate-rule-changes'];
      const place = ['--file', file, '--state-dir', state, '--home', folder];
      const result = await run(process.execPath, [program, ...flags, ...place], { cwd: folder, env });
      if (result.code !== 0) {
        throw readableError(result.stderr.toString('utf8') || result.stdout.toString('utf8'));
      }
      const expanded: unknown = parse(await readFile(join(folder, state, 'expanded-gitlab-ci.yml'), 'utf8'), {
        maxAliasCount: -1,
      });
      if (!isObject(expanded)) {
        throw new UpstreamError('gitlab-ci-local', 'gave no configuration', { retryable: false });
      }
      return expanded;
    } finally {
      await rm(join(folder, file), { force: true });
      await rm(join(folder, state), { recursive: true, force: true });
    }
  };

  return async (config) => {
    const { workflow, ...rest } = config;
    const marks = new Marks();
    const flat = serialize({ ...marks.hide(rest), ...workflowAsJob(workflow, marks) });
    const digest = createHash('sha256').update(flat).digest('hex');
    const pending = kept.get(digest) ?? expand(flat, digest);
    kept.set(digest, pending);
    const shown = marks.show(await pending);
    if (!isObject(shown))
      throw new UpstreamError('gitlab-ci-local', 'gave no configuration', { retryable: false });
    const { [workflowJob]: carried, ...expanded } = shown;
    if (isObject(workflow)) {
      const found = isObject(carried) ? carried.rules : undefined;
      expanded.workflow = found === undefined ? workflow : { ...workflow, rules: found };
    }
    return expanded;
  };
}

// As a job, its rules may use !reference and are not applied to the whole file.
function workflowAsJob(workflow: unknown, marks: Marks): Record<string, unknown> {
  if (!isObject(workflow) || workflow.rules === undefined) return {};
  return {
    [workflowJob]: {
      stage: '.pre',
      script: ['true'],
      rules: marks.hide({ rules: workflow.rules }).rules,
    },
  };
}

/** Values that pass through the expander unseen. */
class Marks {
  readonly #values: unknown[] = [];

  mark(value: unknown): string {
    this.#values.push(value);
    return `cdl:${this.#values.length - 1}:`;
  }

  hide(node: Record<string, unknown>): Record<string, unknown> {
    const hidden: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(node)) hidden[key] = this.#hideEntry(key, value);
    return hidden;
  }

  #hideEntry(key: string, value: unknown): unknown {
    if (key === 'if' && typeof value === 'string') return `null == "${this.mark(value)}"`;
    if (key === 'variables' && isObject(value) && !isReference(value)) {
      return Object.fromEntries(
        Object.entries(value).map(([name, one]) => [name, isReference(one) ? one : this.mark(one)]),
      );
    }
    if (key === 'rules' && Array.isArray(value)) {
      return value.map((one) =>
        isObject(one) && !isReference(one) ? { if: never, ...this.hide(one) } : this.#hideEntry('', one),
      );
    }
    if (Array.isArray(value)) return value.map((one) => this.#hideEntry('', one));
    if (isObject(value) && !isReference(value)) return this.hide(value);
    return value;
  }

  show(node: unknown): unknown {
    if (typeof node === 'string') {
      const mark = /^(?:null == ")?cdl:(\d+):"?$/.exec(node);
      return mark === null ? node : this.#values[Number(mark[1])];
    }
    if (Array.isArray(node)) return node.map((one) => this.show(one));
    if (!isObject(node)) return node;
    return Object.fromEntries(
      Object.entries(node)
        .filter(([key, value]) => !(key === 'if' && value === never))
        .map(([key, value]) => [key, this.show(value)]),
    );
  }
}

/** JSON, which is YAML, with the one tag that JSON lacks. */
function serialize(value: unknown): string {
  if (isReference(value)) return `!reference ${serialize(value['!reference'])}`;
  if (Array.isArray(value)) return `[${value.map(serialize).join(', ')}]`;
  if (isObject(value)) {
    const entries = Object.entries(value).filter(([, one]) => one !== undefined);
    return `{${entries.map(([key, one]) => `${JSON.stringify(key)}: ${serialize(one)}`).join(', ')}}`;
  }
  return JSON.stringify(value ?? null);
}

/** A refusal of the expander; `path` is the key it speaks of. */
export class ExpandError extends CiConfigError {
  readonly path: string[];

  constructor(message: string, path: string[]) {
    super(message);
    this.path = path;
  }
}

function readableError(output: string): ExpandError {
  const text = stripVTControlCharacters(output)
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^\s*at |^Unable to retrieve|^Using fallback/.test(line))
    .map((line) => line.trim())
    .join('; ');
  const stage = /^stage:(.*) not found for (.*)$/.exec(text);
  if (stage !== null) {
    const job = (stage[2] ?? '').replace(/: \[.*\]$/, '');
    return new ExpandError(`${job} job: chosen stage ${stage[1]} does not exist; see stages:`, [
      job,
      'stage',
    ]);
  }
  const need = /^(?:needs|dependencies): \[(.*)\] for (.*) (?:could not|cannot) be found$/.exec(text);
  if (need !== null) {
    const job = (need[2] ?? '').replace(/: \[.*\]$/, '');
    return new ExpandError(`${job} job: needs ${need[1]}, but no such job exists`, [job, 'needs']);
  }
  const parent = /^(.*) is unspecified, used by (.*) extends$/.exec(text);
  if (parent !== null) {
    return new ExpandError(`${parent[2]}: unknown key in extends (${parent[1]})`, [
      parent[2] ?? '',
      'extends',
    ]);
  }
  const scriptless = /^(.*) must have script specified$/.exec(text);
  if (scriptless !== null) {
    const job = scriptless[1] ?? '';
    return new ExpandError(`jobs:${job} config should implement a script:`, [job]);
  }
  return new ExpandError(text || 'the configuration cannot be expanded', []);
}
