import type { JobSpec } from '../state.ts';
import { type CiVariable, expandText, resolveVariables } from './expand-variables.ts';
import { firstMatchingRule, type RuleContext } from './rules.ts';
import type { RawConfig, RawJob, RawNeed, RawRule } from './strict.ts';
import { CiConfigError } from './yaml-source.ts';

/** Variables by where they come from, weakest first; the project's and the pipeline's own win over the file's. */
export interface VariableLayers {
  predefined: Record<string, string>;
  /** Of the project, already chosen for this ref. */
  project: { key: string; value: string }[];
  /** Given with the pipeline. */
  pipeline: { key: string; value: string }[];
}

/** What rules look at, without the variables. */
export type RepositoryFacts = Omit<RuleContext, 'values'>;

const hour = 3600;

/** Seconds of `1h 30m`, `90 minutes`, `2 days` or a bare number of seconds; null when it cannot be read. */
export function parseDuration(text: string | number): number | null {
  if (typeof text === 'number') return text > 0 ? Math.round(text) : null;
  const units: Record<string, number> = { s: 1, m: 60, h: hour, d: 24 * hour, w: 7 * 24 * hour };
  let seconds = 0;
  const rest = text
    .replace(/\band\b|,/g, ' ')
    .replace(
      /(\d+(?:\.\d+)?)\s*(seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|[smhdw])?(?:\s+|(?=\d)|$)/g,
      (_, amount: string, unit: string | undefined) => {
        seconds += Number(amount) * (units[unit?.[0] ?? 's'] ?? 1);
        return '';
      },
    );
  return rest.trim() === '' && seconds > 0 ? Math.round(seconds) : null;
}

/** One job per value of `parallel:` (doc: ci/yaml#parallelmatrix); names as GitLab gives them: `job: [a, b]`, `job 1/3`. */
export function parallelInstances(
  name: string,
  parallel: RawJob['parallel'],
): { name: string; variables: CiVariable[] }[] {
  if (parallel === undefined) return [{ name, variables: [] }];
  const literal = (key: string, value: string): CiVariable => ({ key, value, expand: true });
  const number = (variables: CiVariable[], index: number, total: number): CiVariable[] => [
    ...variables,
    literal('CI_NODE_INDEX', String(index + 1)),
    literal('CI_NODE_TOTAL', String(total)),
  ];
  if (typeof parallel === 'number') {
    return Array.from({ length: parallel }, (_, index) => ({
      name: `${name} ${index + 1}/${parallel}`,
      variables: number([], index, parallel),
    }));
  }
  const rows = parallel.matrix.flatMap((axes) =>
    Object.entries(axes).reduce<[string, string][][]>(
      (rows, [key, values]) =>
        rows.flatMap((row) => values.map((value) => [...row, [key, value] as [string, string]])),
      [[]],
    ),
  );
  if (rows.length > 200)
    throw new CiConfigError(`jobs:${name}:parallel:matrix makes ${rows.length} jobs, more than 200`);
  return rows.map((row, index) => ({
    name: `${name}: [${row.map(([, value]) => value).join(', ')}]`,
    variables: number(
      row.map(([key, value]) => literal(key, value)),
      index,
      rows.length,
    ),
  }));
}

interface Instance {
  base: string;
  raw: RawJob;
  rule: RawRule | null;
  included: boolean;
  name: string;
  variables: CiVariable[];
}

function entries(variables: RawConfig['variables']): CiVariable[] {
  return Object.entries(variables).map(([key, { value, expand }]) => ({ key, value, expand }));
}

function literals(list: readonly { key: string; value: string }[]): CiVariable[] {
  return list.map(({ key, value }) => ({ key, value, expand: true }));
}

function fromRecord(record: Record<string, string>): CiVariable[] {
  // Commit messages and titles hold `$` that means nothing.
  return Object.entries(record).map(([key, value]) => ({ key, value, expand: false }));
}

/** What `workflow:rules` decided: null when the pipeline is not wanted, else the variables of the rule that held. */
export async function evaluateWorkflow(
  config: RawConfig,
  layers: VariableLayers,
  facts: RepositoryFacts,
): Promise<CiVariable[] | null> {
  const rules = config.workflow.rules;
  if (rules === undefined) return [];
  const values = resolveVariables([
    ...fromRecord(layers.predefined),
    ...entries(config.variables),
    ...literals(layers.project),
    ...literals(layers.pipeline),
  ]);
  const rule = await firstMatchingRule(rules, { ...facts, values });
  if (rule === null || rule.when === 'never') return null;
  return entries(rule.variables ?? {});
}

/** Evaluates rules, expands `parallel` and names needs. All problems at once as CiConfigError; an empty list when rules leave nothing. */
export async function buildJobs(
  config: RawConfig,
  workflow: readonly CiVariable[],
  layers: VariableLayers,
  facts: RepositoryFacts,
): Promise<JobSpec[]> {
  const globals = [...entries(config.variables), ...workflow];
  const instances: Instance[] = [];
  const problems: string[] = [];
  for (const [base, raw] of config.jobs) {
    const inherit = raw.inherit.variables;
    const inherited = globals.filter(({ key }) => (Array.isArray(inherit) ? inherit.includes(key) : inherit));
    for (const instance of parallelInstances(base, raw.parallel)) {
      const own = [...inherited, ...entries(raw.variables), ...instance.variables];
      let rule: RawRule | null = null;
      if (raw.rules !== undefined) {
        const values = resolveVariables([
          ...fromRecord({ ...layers.predefined, CI_JOB_NAME: instance.name, CI_JOB_STAGE: raw.stage }),
          ...own,
          ...literals(layers.project),
          ...literals(layers.pipeline),
        ]);
        try {
          rule = await firstMatchingRule(raw.rules, { ...facts, values });
        } catch (error) {
          if (!(error instanceof CiConfigError)) throw error;
          problems.push(...error.messages.map((message) => `jobs:${base}:${message}`));
        }
      }
      instances.push({
        base,
        raw,
        rule,
        included: raw.rules === undefined || (rule !== null && (rule.when ?? raw.when) !== 'never'),
        name: instance.name,
        variables: dedupe([...own, ...entries(rule?.variables ?? {})]),
      });
    }
  }
  const stages = new Map(config.stages.map((stage, index) => [stage, index]));
  const specs: JobSpec[] = [];
  for (const instance of instances) {
    if (!stages.has(instance.raw.stage)) {
      const known = config.stages.join(', ');
      problems.push(
        `${instance.base} job: chosen stage ${instance.raw.stage} does not exist; available stages are ${known}`,
      );
      continue;
    }
    if (!instance.included) continue;
    const values = resolveVariables([
      ...fromRecord(layers.predefined),
      ...instance.variables,
      ...literals(layers.project),
      ...literals(layers.pipeline),
    ]);
    specs.push(toSpec(instance, values, resolveNeeds(instance, instances, stages, problems), problems));
  }
  if (problems.length > 0) throw new CiConfigError([...new Set(problems)]);
  const order = (spec: JobSpec): number => stages.get(spec.stage) ?? 0;
  return specs.sort((one, other) => order(one) - order(other));
}

function dedupe(list: readonly CiVariable[]): CiVariable[] {
  return [...new Map(list.map((variable) => [variable.key, variable])).values()];
}

function resolveNeeds(
  instance: Instance,
  instances: readonly Instance[],
  stages: ReadonlyMap<string, number>,
  problems: string[],
): JobSpec['needs'] {
  const wanted: RawNeed[] | undefined = instance.rule?.needs ?? instance.raw.needs;
  if (wanted === undefined) return null;
  const needs: { job: string; artifacts: boolean; optional: boolean }[] = [];
  for (const { job, artifacts, optional, matrix } of wanted) {
    const chosen = matrix === null ? null : parallelInstances(job, { matrix }).map(({ name }) => name);
    const known = instances.filter((one) =>
      chosen === null ? one.base === job || one.name === job : chosen.includes(one.name),
    );
    const found = known.filter((one) => one.included);
    if (found.length === 0 && !optional) {
      const reason =
        known.length > 0 ? ' (its rules leave it out of this pipeline; optional: true allows that)' : '';
      problems.push(
        `'${instance.base}' job needs '${job}' job, but '${job}' does not exist in the pipeline${reason}`,
      );
    }
    for (const { name, raw } of found) {
      if ((stages.get(raw.stage) ?? 0) > (stages.get(instance.raw.stage) ?? 0)) {
        problems.push(`${instance.base} job: need ${job} is not defined in current or prior stages`);
      } else if (name === instance.name) {
        problems.push(`${instance.base} job: needs itself`);
      }
      needs.push({ job: name, artifacts, optional });
    }
  }
  return needs;
}

function toSpec(
  instance: Instance,
  values: ReadonlyMap<string, string>,
  needs: JobSpec['needs'],
  problems: string[],
): JobSpec {
  const { raw, rule, base } = instance;
  const when = rule?.when ?? raw.when;
  const allowed = rule?.allow_failure ?? raw.allow_failure;
  const timeout = raw.timeout === undefined ? hour : parseDuration(raw.timeout);
  if (timeout === null) problems.push(`jobs:${base}:timeout ${raw.timeout} is not a duration`);
  const exposed = raw.artifacts?.expose_as;
  if (
    exposed !== undefined &&
    (raw.artifacts?.paths.length === 0 || raw.artifacts?.paths.some((p) => p.includes('*')))
  ) {
    problems.push(`jobs:${base}:artifacts:expose_as needs paths without *`);
  }
  const expand = (text: string): string => expandText(text, values);
  return {
    name: instance.name,
    stage: raw.stage,
    variables: instance.variables,
    beforeScript: raw.before_script,
    script: raw.script ?? ['true'],
    afterScript: raw.after_script,
    needs,
    when: when === 'never' ? 'on_success' : when,
    // A manual job blocks only when rules made it manual or allow_failure: false was written (doc: ci/jobs/job_control).
    allowFailure:
      typeof allowed === 'boolean'
        ? allowed
        : allowed === undefined && when === 'manual' && rule?.when === undefined,
    allowFailureExitCodes: typeof allowed === 'object' ? allowed.exit_codes : [],
    timeout: timeout ?? hour,
    retry: raw.retry.max,
    retryWhen: raw.retry.when,
    retryExitCodes: raw.retry.exitCodes,
    tags: raw.tags.map(expand),
    resourceGroup: raw.resource_group === undefined ? null : expand(raw.resource_group),
    environment:
      raw.environment === undefined ? null : { ...raw.environment, name: expand(raw.environment.name) },
    artifacts:
      raw.artifacts === undefined
        ? null
        : {
            paths: raw.artifacts.paths,
            exclude: raw.artifacts.exclude,
            when: raw.artifacts.when,
            reports: raw.artifacts.reports,
            exposeAs: exposed ?? null,
            name: raw.artifacts.name,
          },
    dependencies: raw.dependencies ?? null,
    image: raw.image === undefined ? null : expand(raw.image),
    release:
      raw.release === undefined
        ? null
        : {
            tagName: expand(raw.release.tag_name),
            ref: raw.release.ref === undefined ? null : expand(raw.release.ref),
            name: raw.release.name === undefined ? null : expand(raw.release.name),
            description: expand(raw.release.description),
          },
    interruptible: rule?.interruptible ?? raw.interruptible,
  };
}
