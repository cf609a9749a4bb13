import { z } from 'zod';
import { CiConfigError, isObject, locate, type YamlSource } from './yaml-source.ts';

const scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String);
const text = z.string();
const texts = z.union([text.transform((one) => [one]), z.array(text)]);
// Script lists may nest through !reference; GitLab flattens up to ten levels.
const script = z.union([
  text.transform((one) => [one]),
  z
    .array(z.unknown())
    .transform((list) => list.flat(10))
    .pipe(z.array(z.union([text, z.number(), z.boolean()]).transform(String))),
]);
const integer = z.number().int();

const variable = z.union([
  scalar.transform((value) => ({ value, expand: true })),
  z.null().transform(() => ({ value: '', expand: true })),
  z
    .strictObject({
      value: scalar.default(''),
      expand: z.boolean().default(true),
      description: text.optional(),
      options: z.array(text).optional(),
    })
    .transform(({ value, expand }) => ({ value, expand })),
]);
const variables = z.record(z.string().regex(/^\w+$/, 'is not a variable name'), variable);

const need = z.union([
  text.transform((job) => ({ job, artifacts: true, optional: false, matrix: null })),
  z
    .strictObject({
      job: text,
      artifacts: z.boolean().default(true),
      optional: z.boolean().default(false),
      parallel: z
        .strictObject({
          matrix: z.array(z.record(text, z.union([scalar.transform((one) => [one]), z.array(scalar)]))),
        })
        .optional(),
    })
    .transform(({ parallel, ...rest }) => ({ ...rest, matrix: parallel?.matrix ?? null })),
]);

const allowFailure = z.union([
  z.boolean(),
  z.strictObject({ exit_codes: z.union([integer.transform((one) => [one]), z.array(integer)]) }),
]);

const when = z.enum(['on_success', 'on_failure', 'always', 'manual', 'never']);
const paths = z.union([z.array(text), z.strictObject({ paths: z.array(text), compare_to: text.optional() })]);
const rule = z.strictObject({
  if: text.optional(),
  changes: paths.optional(),
  exists: z.union([z.array(text), z.strictObject({ paths: z.array(text) })]).optional(),
  when: when.optional(),
  allow_failure: allowFailure.optional(),
  variables: variables.optional(),
  needs: z.array(need).optional(),
  interruptible: z.boolean().optional(),
});
// A !reference in a list of rules leaves a list within the list.
const rules = z
  .array(z.unknown())
  .transform((list) => list.flat(10))
  .pipe(z.array(rule));

const retry = z.union([
  integer
    .min(0)
    .max(2)
    .transform((max) => ({ max, when: ['always'], exitCodes: [] as number[] })),
  z
    .strictObject({
      max: integer.min(0).max(2).default(0),
      when: texts.default(['always']),
      exit_codes: z.union([integer.transform((one) => [one]), z.array(integer)]).default([]),
    })
    .transform(({ max, when: reasons, exit_codes }) => ({ max, when: reasons, exitCodes: exit_codes })),
]);

const artifacts = z.strictObject({
  paths: z.array(text).default([]),
  exclude: z.array(text).default([]),
  when: z.enum(['on_success', 'on_failure', 'always']).default('on_success'),
  expire_in: text.optional(),
  expose_as: text.optional(),
  name: text.default('artifacts'),
  public: z.boolean().optional(),
  access: text.optional(),
  reports: z
    .strictObject({ dotenv: texts.default([]), junit: texts.default([]), metrics: texts.default([]) })
    .prefault({}),
});

const environment = z.union([
  text.transform((name) => ({ name, url: null, action: 'start' as const, tier: null, onStop: null })),
  z
    .strictObject({
      name: text,
      url: text.optional(),
      action: z.enum(['start', 'stop', 'prepare', 'verify', 'access']).default('start'),
      deployment_tier: z.enum(['production', 'staging', 'testing', 'development', 'other']).optional(),
      on_stop: text.optional(),
      auto_stop_in: text.optional(),
    })
    .transform(({ name, url, action, deployment_tier, on_stop }) => ({
      name,
      url: url ?? null,
      action,
      tier: deployment_tier ?? null,
      onStop: on_stop ?? null,
    })),
]);

const image = z.union([text, z.looseObject({ name: text }).transform(({ name }) => name)]);

const job = z.strictObject({
  script: script.optional(),
  before_script: script.default([]),
  after_script: script.default([]),
  stage: text.default('test'),
  variables: variables.default({}),
  rules: rules.optional(),
  needs: z
    .array(z.unknown())
    .transform((list) => list.flat(10))
    .pipe(z.array(need))
    .optional(),
  dependencies: z.array(text).optional(),
  when: when.default('on_success'),
  allow_failure: allowFailure.optional(),
  timeout: z.union([text, z.number()]).optional(),
  retry: retry.default({ max: 0, when: ['always'], exitCodes: [] }),
  tags: z.array(text).default([]),
  resource_group: text.optional(),
  environment: environment.optional(),
  artifacts: artifacts.optional(),
  interruptible: z.boolean().default(false),
  parallel: z
    .union([
      integer.min(1).max(200),
      z.strictObject({
        matrix: z.array(z.record(text, z.union([scalar.transform((one) => [one]), z.array(scalar)]))),
      }),
    ])
    .optional(),
  inherit: z
    .strictObject({
      default: z.union([z.boolean(), z.array(text)]).default(true),
      variables: z.union([z.boolean(), z.array(text)]).default(true),
    })
    .prefault({}),
  image: image.optional(),
  release: z
    .strictObject({
      tag_name: text,
      description: text,
      name: text.optional(),
      ref: text.optional(),
      tag_message: text.optional(),
      released_at: text.optional(),
      milestones: z.array(text).optional(),
      assets: z.unknown().optional(),
    })
    .optional(),
});

const workflow = z.strictObject({
  name: text.optional(),
  rules: z
    .array(z.unknown())
    .transform((list) => list.flat(10))
    .pipe(z.array(rule))
    .optional(),
  auto_cancel: z
    .strictObject({
      on_new_commit: z.enum(['conservative', 'interruptible', 'none']).optional(),
      on_job_failure: z.enum(['all', 'none']).optional(),
    })
    .optional(),
});

/** One rule of a job or of `workflow:`. */
export type RawRule = z.output<typeof rule>;
/** One need: `matrix` selects instances of a parallel job. */
export type RawNeed = z.output<typeof need>;
/** A job as written, checked, with defaults filled in. */
export type RawJob = z.output<typeof job>;
/** A checked configuration: nothing in it is unknown to the sandbox. */
export interface RawConfig {
  stages: string[];
  variables: z.output<typeof variables>;
  workflow: z.output<typeof workflow>;
  jobs: Map<string, RawJob>;
}

const refusals: Record<string, string> = {
  cache: 'cache: is not supported by the sandbox (keep files in artifacts: or in the store)',
  services: 'services: is not supported by the sandbox (its jobs run in a shell)',
  trigger: 'trigger: is not supported by the sandbox (no child pipelines)',
  only: 'only: is not supported by the sandbox (use rules:)',
  except: 'except: is not supported by the sandbox (use rules:)',
  start_in: 'start_in: is not supported by the sandbox',
  id_tokens: 'id_tokens: is not supported by the sandbox',
  secrets: 'secrets: is not supported by the sandbox',
};

/** Top-level keys that are no jobs. */
export const globalKeys = new Set([
  'stages',
  'variables',
  'workflow',
  'default',
  'include',
  'image',
  'services',
  'cache',
  'before_script',
  'after_script',
]);

function explain(issue: z.core.$ZodIssue, prefix: string): string[] {
  const where = [prefix, ...issue.path.map(String)].join(':');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) =>
      Object.hasOwn(refusals, key)
        ? `${where} ${refusals[key]}`
        : `${where} config contains unknown keys: ${key}`,
    );
  }
  if (issue.code === 'invalid_union') {
    // Of several shapes, the one that got furthest says what is wrong.
    const branches = issue.errors.map((issues) => issues.flatMap((one) => explain(one, where)));
    const furthest = issue.errors.findIndex((issues) =>
      issues.some((one) => one.path.length > 0 || one.code === 'unrecognized_keys'),
    );
    const found =
      branches[furthest] ??
      branches.find((one) => !one.every((line) => /expected (\w+), received/.test(line)));
    return found ?? [`${where} has the wrong type`];
  }
  return [`${where} ${issue.message.replace(/^(Invalid input: |Too big: |Too small: )/, '')}`];
}

/**
 * Checks an expanded configuration against what the sandbox implements. Everything unknown is refused by name, with file and
 * line when `sources` have it; all problems are reported at once (CiConfigError).
 */
export function checkConfig(data: Record<string, unknown>, sources: readonly YamlSource[]): RawConfig {
  const problems: string[] = [];
  const report = (issues: readonly z.core.$ZodIssue[], prefix: string, path: string[]): void => {
    for (const issue of issues) {
      const keys = issue.code === 'unrecognized_keys' ? issue.keys : [];
      const deeper = [...path, ...issue.path.map(String), ...keys.slice(0, 1)];
      const line =
        locate(sources, deeper) ?? locate(sources, deeper.slice(0, path.length + 1)) ?? locate(sources, path);
      for (const message of explain(issue, prefix))
        problems.push(line === null ? message : `${line}: ${message}`);
    }
  };
  const part = <T>(schema: z.ZodType<T>, value: unknown, prefix: string, path: string[]): T | null => {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    report(parsed.error.issues, prefix, path);
    return null;
  };
  for (const key of ['cache', 'services']) {
    const defaults = data.default;
    if (data[key] !== undefined || (isObject(defaults) && defaults[key] !== undefined)) {
      const line = locate(sources, [key]) ?? locate(sources, ['default', key]);
      problems.push(`${line === null ? '' : `${line}: `}${refusals[key]}`);
    }
  }
  const jobs = new Map<string, RawJob>();
  for (const [name, value] of Object.entries(data)) {
    if (globalKeys.has(name) || name.startsWith('.')) continue;
    if (!isObject(value)) {
      problems.push(`${locate(sources, [name]) ?? name}: ${name} is neither a known keyword nor a job`);
      continue;
    }
    const known = part(job, withDefaults(value, data.default), `jobs:${name}`, [name]);
    if (known === null) continue;
    if (known.script === undefined && known.release === undefined) {
      problems.push(`${locate(sources, [name]) ?? name}: jobs:${name} config should implement a script:`);
    }
    if (known.when === 'never') problems.push(`jobs:${name} when: never is only for rules`);
    jobs.set(name, known);
  }
  const config = {
    stages: part(z.array(text), data.stages ?? [], 'stages', ['stages']),
    variables: part(variables, data.variables ?? {}, 'variables', ['variables']),
    workflow: part(workflow, data.workflow ?? {}, 'workflow', ['workflow']),
  };
  if (
    problems.length > 0 ||
    config.stages === null ||
    config.variables === null ||
    config.workflow === null
  ) {
    throw new CiConfigError(problems);
  }
  return { stages: config.stages, variables: config.variables, workflow: config.workflow, jobs };
}

// gitlab-ci-local inherits only some of the keywords that `default:` may hold.
const inherited = ['timeout', 'retry', 'tags', 'interruptible'];

function withDefaults(value: Record<string, unknown>, defaults: unknown): Record<string, unknown> {
  const inherit = isObject(value.inherit) ? (value.inherit.default ?? true) : true;
  if (!isObject(defaults) || inherit === false) return value;
  const filled = { ...value };
  for (const key of inherited) {
    if (Array.isArray(inherit) && !inherit.includes(key)) continue;
    if (filled[key] === undefined && defaults[key] !== undefined) filled[key] = defaults[key];
  }
  return filled;
}

/** Checks the rules of one include entry (doc: ci/yaml#includerules). Throws CiConfigError. */
export function checkIncludeRules(value: unknown, label: string): RawRule[] {
  const parsed = rules.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new CiConfigError(parsed.error.issues.flatMap((issue) => explain(issue, `${label}: include:rules`)));
}
