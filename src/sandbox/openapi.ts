import { parse } from 'yaml';
import { z } from 'zod';
import type { Route } from './route.ts';

/** What the condensed file keeps of one operation: where it is and the parameters it takes in query and body. */
export interface Operation {
  method: string;
  path: string;
  /** Name (the part before any `[`) and type. */
  parameters: Record<string, string>;
}

/** Operations by operationId. */
export type GitlabApi = Record<string, Operation>;

/** Operations of the runner's side, whose routes come with the engine. */
export const coordinatorOperations: readonly string[] = [
  'postApiV4Runners',
  'deleteApiV4Runners',
  'postApiV4RunnersVerify',
  'postApiV4JobsRequest',
  'putApiV4JobsId',
  'patchApiV4JobsIdTrace',
  'postApiV4JobsIdArtifactsAuthorize',
  'postApiV4JobsIdArtifacts',
  'getApiV4JobsIdArtifacts',
  'getApiV4Job',
];

const schema = z.object({
  type: z.string().optional(),
  properties: z.record(z.string(), z.object({ type: z.string().optional() })).optional(),
});
const parameterSchema = z.object({
  in: z.string(),
  name: z.string(),
  type: z.string().optional(),
  schema: z.object({ $ref: z.string().optional() }).optional(),
});
const operationSchema = z.object({
  operationId: z.string(),
  parameters: z.array(parameterSchema).optional(),
});
const documentSchema = z.object({
  paths: z.record(z.string(), z.record(z.string(), operationSchema)),
  definitions: z.record(z.string(), schema),
});

function root(name: string): string {
  return name.split('[')[0] ?? name;
}

function parametersOf(
  operation: z.infer<typeof operationSchema>,
  definitions: z.infer<typeof documentSchema>['definitions'],
): Record<string, string> {
  const found: Record<string, string> = {};
  for (const parameter of operation.parameters ?? []) {
    if (parameter.in === 'path' || parameter.in === 'header') continue;
    const reference = parameter.schema?.$ref?.split('/').at(-1);
    if (parameter.in === 'body' && reference !== undefined) {
      for (const [name, property] of Object.entries(definitions[reference]?.properties ?? {})) {
        found[root(name)] ??= property.type ?? 'object';
      }
    } else {
      found[root(parameter.name)] ??= parameter.type ?? 'object';
    }
  }
  return found;
}

/**
 * Condenses GitLab's OpenAPI file (Swagger 2.0, in YAML) to the operations of the route table and of the runner's side: the text of
 * `gitlab-api.generated.json`. Operations the file does not have are left out; {@link missingOperations} names them.
 */
export function generateGitlabApi(openapiYaml: string, routes: readonly Route[]): string {
  const document = documentSchema.parse(parse(openapiYaml, { maxAliasCount: -1 }));
  const wanted = new Set([
    ...coordinatorOperations,
    ...routes.flatMap((route) => ('operationId' in route.spec ? [route.spec.operationId] : [])),
  ]);
  const api: GitlabApi = {};
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (!wanted.has(operation.operationId)) continue;
      api[operation.operationId] = {
        method: method.toUpperCase(),
        path,
        parameters: parametersOf(operation, document.definitions),
      };
    }
  }
  const sorted = Object.fromEntries(Object.entries(api).sort(([a], [b]) => (a < b ? -1 : 1)));
  return `${JSON.stringify(sorted, null, 1)}\n`;
}

/** Entries of the route table whose operation the condensed file lacks, or has with another method. */
export function missingOperations(api: GitlabApi, routes: readonly Route[]): string[] {
  return routes.flatMap((route) => {
    if (!('operationId' in route.spec)) return [];
    const operation = api[route.spec.operationId];
    return operation?.method === route.method
      ? []
      : [`${route.method} ${route.path} (${route.spec.operationId})`];
  });
}

/** Paging works on every list, whether or not its operation says so (doc: api/rest, "Pagination"). */
const paging = ['page', 'per_page', 'pagination', 'cursor'];

/** Parameters of a request that the documentation of its route does not know. */
export function unknownParameters(
  api: GitlabApi,
  route: Route,
  names: { query: readonly string[]; body: readonly string[] },
): string[] {
  const known = new Set(
    'operationId' in route.spec
      ? [...Object.keys(api[route.spec.operationId]?.parameters ?? {}), ...(route.spec.extra ?? [])]
      : route.spec.parameters,
  );
  const paged = route.method === 'GET' ? paging : [];
  return [
    ...names.query.filter((name) => !known.has(name) && !paged.includes(name)),
    ...names.body.filter((name) => !known.has(name)),
  ];
}
