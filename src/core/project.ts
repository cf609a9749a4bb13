import { z } from 'zod';
import { type Digest, digestJson } from './digest.ts';
import { UserError } from './error.ts';
import { approvalsSchema, repeatedRoles } from './project-approvals.ts';
import { budgetsSchema } from './project-budgets.ts';
import { datasetSchema } from './project-data.ts';
import { modelSchema } from './project-model.ts';
import { nameSchema } from './project-names.ts';
import { notifiesSchema } from './project-notify.ts';
import { retentionSchema } from './project-retention.ts';
import { gateProblems, modelProblems } from './project-rules.ts';
import { triggersSchema } from './project-triggers.ts';
import { parseStrictYaml, type RuleProblem } from './strict-yaml.ts';
import { nearest } from './suggest.ts';

/** Access levels as GitLab numbers them (doc: api/access_requests, valid access levels). */
export const accessLevels = { reporter: 20, developer: 30, maintainer: 40, owner: 50 } as const;

const member = z
  .string()
  .min(1)
  .describe('a user name, @group/path, access:maintainer (or another level), or codeowners');
const members = z.array(member).default([]);

/** The schema of `cdl.yaml`. */
export const projectSchema = z.strictObject({
  version: z.literal(1),
  project: nameSchema,
  requirements: z
    .strictObject({
      problem: z.string().min(1),
      owner: z.string().min(1),
      metrics: z.array(z.string()).default([]),
      constraints: z.array(z.string()).default([]),
    })
    .describe('why this exists; shown in every report'),
  datasets: z.record(nameSchema, datasetSchema),
  models: z.record(nameSchema, modelSchema),
  roles: z
    .strictObject({ validator: members, data: members, devops: members, maintainer: members })
    .prefault({})
    .describe(
      'members of the project by role (user name, @group/path, access:maintainer, codeowners); read from the default branch only',
    ),
  approvals: approvalsSchema.prefault({}),
  budgets: budgetsSchema.optional().describe('what CI jobs may cost; read from the default branch only'),
  retention: retentionSchema.optional().describe('which versions cdl models prune leaves alone'),
  triggers: triggersSchema
    .optional()
    .describe('what a push to a branch starts by itself; read from the default branch only'),
  notify: notifiesSchema
    .optional()
    .describe('who is told of events besides the change; read from the default branch only'),
});

/** `cdl.yaml`, normalized: every default filled in. */
export type Project = z.output<typeof projectSchema>;
/** One of `models:`. */
export type ModelConfig = Project['models'][string];
/** One of `datasets:`. */
export type DatasetConfig = Project['datasets'][string];
/** One of a dataset's `sources:`. */
export type SourceConfig = DatasetConfig['sources'][number];
/** One of a model's `environments:`. */
export type EnvironmentConfig = ModelConfig['environments'][string];

/** The file's name at the project root. */
export const projectFile = 'cdl.yaml';

/** Reads `cdl.yaml`. Throws one UserError config-invalid that lists every problem, see {@link parseStrictYaml}. */
export function parseProject(text: string, where: string = projectFile): Project {
  return parseStrictYaml(text, where, projectSchema, ruleProblems, gateProblems);
}

/** What no schema can say: references between parts of the file. */
function ruleProblems(project: Project): RuleProblem[] {
  const problems: RuleProblem[] = [];
  if (Object.keys(project.models).length === 0)
    problems.push({ path: ['models'], text: 'models: at least one is needed' });
  for (const [role, members] of Object.entries(project.roles)) {
    for (const [index, member] of members.entries()) {
      const level = /^access:(.*)$/s.exec(member)?.[1];
      if (level === undefined || Object.hasOwn(accessLevels, level)) continue;
      const known = Object.keys(accessLevels);
      const guess = nearest(level, known);
      problems.push({
        path: ['roles', role, index],
        text: `roles.${role}[${index}] access level "${level}" is not one of ${known.join(', ')}${guess ? ` — did you mean ${guess}?` : ''}`,
      });
    }
  }
  for (const index of repeatedRoles(project.approvals)) {
    problems.push({
      path: ['approvals', 'required', index],
      text: `approvals.required[${index}] names a role that stands above already: give it one count`,
    });
  }
  for (const [model, config] of Object.entries(project.models)) {
    if (Object.hasOwn(project.datasets, config.data)) {
      problems.push(...modelProblems(['models', model], config, project.datasets[config.data]!));
      continue;
    }
    const guess = nearest(config.data, Object.keys(project.datasets));
    problems.push({
      path: ['models', model, 'data'],
      text: `models.${model}.data "${config.data}" is not one of ${Object.keys(project.datasets).join(', ')}${guess ? ` — did you mean ${guess}?` : ''}`,
    });
  }
  return problems;
}

/** The configuration of one model. Throws UserError model-unknown, naming the nearest. */
export function modelConfig(project: Project, model: string): ModelConfig {
  const config = Object.hasOwn(project.models, model) ? project.models[model] : undefined;
  if (config) return config;
  const known = Object.keys(project.models);
  const guess = nearest(model, known);
  throw new UserError(
    'model-unknown',
    `${projectFile} has no model "${model}"; it has ${known.join(', ')}${guess ? ` — did you mean ${guess}?` : ''}`,
  );
}

/**
 * H(JCS(normalized model without gates, slices, environments, resources and where it is trained)): what of the configuration
 * shapes the model. What a server may use is part of the deployment plan.
 */
export function configDigest(config: ModelConfig): Digest {
  const {
    gates: _gates,
    evaluate: _evaluate,
    environments: _environments,
    resources: _resources,
    train,
    ...shaping
  } = config;
  const { address: _address, ...trained } = train ?? {};
  return digestJson({ ...shaping, ...(train && { train: trained }) });
}

/** One of `roles:`. */
export type Role = keyof Project['roles'];

/** Digest of who may decide and under which rules; part of every decision. */
export function policyDigest(project: Project): Digest {
  return digestJson({ roles: project.roles, approvals: project.approvals });
}

/** JSON Schema of `cdl.yaml` for editors. */
export function projectJsonSchema(): object {
  return z.toJSONSchema(projectSchema, { io: 'input', unrepresentable: 'any' });
}
