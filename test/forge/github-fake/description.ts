import { Ajv, type ValidateFunction } from 'ajv';

type Schema = Readonly<Record<string, unknown>>;
type Json = Record<string, unknown>;

interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  schema?: Schema;
}

/** One operation of the description. */
export interface Operation {
  id: string;
  method: string;
  template: string;
  parameters: Parameter[];
  body: Schema | null;
  bodyRequired: boolean;
  /** Schema by status; null where there is no body. */
  responses: ReadonlyMap<number, Schema | null>;
}

/** GitHub's published description, as far as the fake needs it. */
export interface Description {
  match(method: string, path: string): { operation: Operation; values: Record<string, string> } | null;
  /** What a request says that the description does not know; empty when all is well. */
  checkRequest(
    operation: Operation,
    values: Readonly<Record<string, string>>,
    query: URLSearchParams,
    body: unknown,
  ): string[];
  /** What is wrong with an answer. */
  checkResponse(operation: Operation, status: number, body: unknown): string[];
  /** Adds what the description requires of an answer and `body` leaves out, so that it is as complete as GitHub's. */
  complete(operation: Operation, status: number, body: unknown): unknown;
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Opens an OpenAPI 3.0 description (spec.openapis.org/oas/v3.0.3). */
export function openDescription(root: unknown): Description {
  const document = root as { paths: Record<string, Record<string, Json>> };
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: false });
  const compiled = new Map<Schema, ValidateFunction>();
  const samples = new Map<Schema, unknown>();

  function resolve<T>(value: T): T {
    let now: unknown = value;
    while (isObject(now) && typeof now.$ref === 'string') {
      now = now.$ref
        .slice(2)
        .split('/')
        .reduce<unknown>((at, key) => (at as Json)[key], document);
    }
    return now as T;
  }

  /** As JSON Schema draft-07: nullable becomes a type; discriminators are not followed, so that oneOf is anyOf. */
  function translate(schema: unknown, definitions: Json): unknown {
    if (Array.isArray(schema)) return schema.map((one) => translate(one, definitions));
    if (!isObject(schema)) return schema;
    if (typeof schema.$ref === 'string') {
      const name = schema.$ref.replaceAll(/[^A-Za-z0-9]/g, '_');
      if (!(name in definitions)) {
        definitions[name] = true;
        definitions[name] = translate(resolve(schema), definitions);
      }
      return { $ref: `#/definitions/${name}` };
    }
    const made: Json = {};
    for (const [key, value] of Object.entries(schema)) {
      if (
        ['nullable', 'example', 'examples', 'discriminator', 'description', 'title', 'format'].includes(key)
      )
        continue;
      if (key === 'properties') {
        made.properties = Object.fromEntries(
          Object.entries(value as Json).map(([name, one]) => [name, translate(one, definitions)]),
        );
      } else if (key === 'enum' || key === 'default' || key === 'required') made[key] = value;
      else made[key === 'oneOf' ? 'anyOf' : key] = translate(value, definitions);
    }
    return schema.nullable === true ? { anyOf: [{ type: 'null' }, made] } : made;
  }

  function validator(schema: Schema): ValidateFunction {
    const known = compiled.get(schema);
    if (known) return known;
    const definitions: Json = {};
    const translated = translate(schema, definitions) as Json;
    const made = ajv.compile({ ...translated, definitions });
    compiled.set(schema, made);
    return made;
  }

  const problemsOf = (schema: Schema, value: unknown, what: string): string[] => {
    const validate = validator(schema);
    if (validate(value)) return [];
    return (validate.errors ?? []).slice(0, 3).map((one) => `${what}${one.instancePath}: ${one.message}`);
  };

  function alternative(options: readonly Schema[], value: unknown): Schema {
    const fits = options.map(resolve).find((one) => {
      if (value === undefined) return true;
      if (one.type === 'array') return Array.isArray(value);
      if (one.type === 'string' || one.type === 'integer') return typeof value !== 'object';
      const kinds = (
        resolve((one.properties as Json | undefined)?.type as Schema | undefined) as Json | undefined
      )?.enum;
      return (
        isObject(value) && (!Array.isArray(kinds) || value.type === undefined || kinds.includes(value.type))
      );
    });
    return fits ?? resolve(options[0]!);
  }

  function sample(given: Schema): unknown {
    const schema = resolve(given);
    const known = samples.get(schema);
    if (known !== undefined) return known;
    const made = makeSample(schema);
    samples.set(schema, made);
    return made;
  }

  function makeSample(schema: Schema): unknown {
    if (schema.nullable === true) return null;
    const options = (schema.oneOf ?? schema.anyOf) as Schema[] | undefined;
    if (options && !schema.properties) return sample(alternative(options, undefined));
    if (Array.isArray(schema.enum)) return schema.enum[0];
    if (schema.allOf) return fill(schema, {});
    switch (schema.type) {
      case 'object':
        return fill(schema, {});
      case 'array':
        return [];
      case 'integer':
      case 'number':
        return typeof schema.minimum === 'number' ? schema.minimum : 1;
      case 'boolean':
        return false;
      case 'string':
        if (schema.format === 'date-time') return '2026-01-02T03:04:05Z';
        return schema.format === 'uri' ? 'https://github.invalid/' : 'x';
      default:
        return schema.properties ? fill(schema, {}) : null;
    }
  }

  function fill(given: Schema, value: unknown): unknown {
    const schema = resolve(given);
    if (value === undefined) return sample(schema);
    if (value === null) return null;
    const options = (schema.oneOf ?? schema.anyOf) as Schema[] | undefined;
    if (options && !schema.properties) return fill(alternative(options, value), value);
    if (Array.isArray(value)) {
      const items = schema.items as Schema | undefined;
      return items ? value.map((one) => fill(items, one)) : value;
    }
    if (!isObject(value)) return value;
    let made: Json = { ...value };
    for (const part of (schema.allOf ?? []) as Schema[]) made = fill(part, made) as Json;
    const properties = (schema.properties ?? {}) as Record<string, Schema>;
    for (const [name, one] of Object.entries(properties)) {
      const isDue = name in made || ((schema.required ?? []) as string[]).includes(name);
      if (isDue) made[name] = fill(one, made[name]);
    }
    return made;
  }

  const operations: Operation[] = [];
  const index = new Map<string, Operation[]>();
  function operationOf(method: string, template: string, raw: Json, shared: Parameter[]): Operation {
    const request = resolve(raw.requestBody) as
      | { required?: boolean; content?: Record<string, { schema: Schema }> }
      | undefined;
    const responses = new Map<number, Schema | null>();
    for (const [status, one] of Object.entries(raw.responses as Json)) {
      const content = (resolve(one) as { content?: Record<string, { schema: Schema }> }).content;
      responses.set(Number(status), content?.['application/json']?.schema ?? null);
    }
    return {
      id: String(raw.operationId),
      method,
      template,
      parameters: [...shared, ...((raw.parameters ?? []) as Parameter[])].map(resolve),
      body: request?.content?.['application/json']?.schema ?? null,
      bodyRequired: request?.required === true,
      responses,
    };
  }
  for (const [template, methods] of Object.entries(document.paths)) {
    const shared = (methods.parameters ?? []) as unknown as Parameter[];
    for (const [method, raw] of Object.entries(methods)) {
      if (!['get', 'post', 'put', 'patch', 'delete'].includes(method)) continue;
      const operation = operationOf(method.toUpperCase(), template, raw, shared);
      operations.push(operation);
      const key = `${operation.method} ${template.split('/').length}`;
      index.set(key, [...(index.get(key) ?? []), operation]);
    }
  }

  function coerced(schema: Schema | undefined, text: string): unknown {
    const type = schema ? resolve(schema).type : 'string';
    if (type === 'integer' || type === 'number') return /^-?\d+$/.test(text) ? Number(text) : text;
    if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text;
    return text;
  }

  return {
    match(method, path) {
      const parts = path.split('/');
      let best: { operation: Operation; values: Record<string, string>; literal: number } | null = null;
      for (const operation of index.get(`${method} ${parts.length}`) ?? []) {
        const values: Record<string, string> = {};
        let literal = 0;
        const fits = operation.template.split('/').every((part, at) => {
          const name = /^\{(.+)\}$/.exec(part)?.[1];
          if (name) values[name] = decodeURIComponent(parts[at]!);
          else literal++;
          return name !== undefined || part === parts[at];
        });
        if (fits && (!best || literal > best.literal)) best = { operation, values, literal };
      }
      return best;
    },
    checkRequest(operation, values, query, body) {
      const problems: string[] = [];
      const known = new Map(operation.parameters.map((one) => [`${one.in} ${one.name}`, one]));
      for (const [name, text] of Object.entries(values)) {
        const schema = known.get(`path ${name}`)?.schema;
        if (schema) problems.push(...problemsOf(schema, coerced(schema, text), `path ${name}`));
      }
      for (const [name, text] of query) {
        const parameter = known.get(`query ${name}`);
        if (!parameter) problems.push(`there is no query parameter ${name}`);
        else if (parameter.schema)
          problems.push(...problemsOf(parameter.schema, coerced(parameter.schema, text), `query ${name}`));
      }
      for (const one of operation.parameters) {
        if (one.in === 'query' && one.required && !query.has(one.name))
          problems.push(`query ${one.name} is missing`);
      }
      if (body === undefined) {
        if (operation.bodyRequired) problems.push('the body is missing');
      } else if (operation.body === null) problems.push('there should be no body');
      else {
        problems.push(...problemsOf(operation.body, body, 'body'));
        const { properties, additionalProperties } = resolve(operation.body) as {
          properties?: Json;
          additionalProperties?: unknown;
        };
        if (properties && additionalProperties !== true && isObject(body)) {
          for (const name of Object.keys(body)) {
            if (!(name in properties)) problems.push(`there is no ${name} in the body`);
          }
        }
      }
      return problems.map((problem) => `${operation.method} ${operation.template}: ${problem}`);
    },
    checkResponse(operation, status, body) {
      const where = `${operation.method} ${operation.template} → ${status}`;
      if (!operation.responses.has(status)) return [`${where} is not in the description`];
      const schema = operation.responses.get(status);
      if (!schema) return body === null ? [] : [`${where} has no body`];
      return problemsOf(schema, body, '').map((problem) => `${where} ${problem}`);
    },
    complete(operation, status, body) {
      const schema = operation.responses.get(status);
      return schema ? fill(schema, body ?? {}) : body;
    },
  };
}
