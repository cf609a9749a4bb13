import type { z } from 'zod';
import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import type { Params } from './types.ts';

/** One parameter of a step, as flags and component inputs need it. */
export interface Parameter {
  /** snake_case, as in the zod object. */
  name: string;
  type: 'string' | 'number' | 'boolean' | 'array';
  required: boolean;
  default: unknown;
  options: string[] | null;
  description: string;
}

function unwrap(schema: z.core.$ZodType): { inner: z.core.$ZodType; fallback: unknown; optional: boolean } {
  let inner = schema;
  let fallback: unknown;
  let optional = false;
  for (;;) {
    const def = inner._zod.def as { type: string; innerType?: z.core.$ZodType; defaultValue?: unknown };
    if (def.type === 'default' || def.type === 'prefault') {
      fallback = def.defaultValue;
      optional = true;
    } else if (def.type === 'optional') optional = true;
    else return { inner, fallback, optional };
    inner = def.innerType!;
  }
}

/** Reads name, type, default, options and description of each parameter from a step's zod object. */
export function parametersOf(params: Params): Parameter[] {
  return Object.entries(params.shape).map(([name, schema]) => {
    const { inner, fallback, optional } = unwrap(schema as z.core.$ZodType);
    const def = inner._zod.def as { type: string; entries?: Record<string, string> };
    const type = def.type === 'enum' || def.type === 'string' ? 'string' : def.type;
    if (type !== 'string' && type !== 'number' && type !== 'boolean' && type !== 'array') {
      throw new TypeError(
        `parameter ${name} is of type ${def.type}; steps take scalars, enums and arrays of them`,
      );
    }
    return {
      name,
      type,
      required: !optional,
      default: fallback,
      options: def.entries ? Object.values(def.entries) : null,
      description: (schema as z.ZodType).description ?? '',
    };
  });
}

function coerce(parameter: Parameter, text: string): unknown {
  if (parameter.type === 'number') {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value)) return value;
    throw new UserError('usage', `${parameter.name} takes a number, not ${JSON.stringify(text)}`);
  }
  if (parameter.type === 'boolean') {
    if (text === 'true' || text === 'false') return text === 'true';
    throw new UserError('usage', `${parameter.name} takes true or false, not ${JSON.stringify(text)}`);
  }
  return parameter.type === 'array' ? text.split(',').filter(Boolean) : text;
}

/** Turns texts (flags, CI variables) into parameters. Throws UserError usage, naming parameter, value and what is allowed. */
export function parseParameters<P extends Params>(
  params: P,
  given: Readonly<Record<string, string>>,
): z.output<P> {
  const known = parametersOf(params);
  const values: Record<string, unknown> = {};
  for (const [name, text] of Object.entries(given)) {
    const parameter = known.find((one) => one.name === name);
    if (!parameter) {
      const guess = nearest(
        name,
        known.map((one) => one.name),
      );
      throw new UserError(
        'usage',
        `there is no parameter ${name}${guess ? ` — did you mean ${guess}?` : ''}`,
      );
    }
    values[name] = coerce(parameter, text);
  }
  const parsed = params.safeParse(values);
  if (parsed.success) return parsed.data;
  throw new UserError(
    'usage',
    parsed.error.issues
      .map(
        (issue) =>
          `--${issue.path.join('.').replaceAll('_', '-')}: ${issue.message.includes('received undefined') ? 'is required' : issue.message.replace(/^Invalid input: /, '')}`,
      )
      .join('\n'),
  );
}
