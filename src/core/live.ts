import { z } from 'zod';
import { digestSchema } from './artifact.ts';

const liveSchema = z.strictObject({
  candidate: digestSchema,
  evaluation: digestSchema,
  package: digestSchema,
  plan: digestSchema,
  version: z.int().positive(),
  /** ISO 8601. */
  since: z.string(),
  /** Commit that was deployed; informative. */
  commit: z.string(),
});

/** What serves one environment. */
export type Live = z.infer<typeof liveSchema>;

/**
 * The record of an environment in the trusted zone. `transition` names a deployment under way (a killed job finds it and
 * goes on), `failed` the last one that was taken back.
 */
export const liveStateSchema = z.strictObject({
  v: z.literal(1),
  current: liveSchema.nullable(),
  transition: liveSchema.nullable(),
  failed: liveSchema.extend({ reason: z.string() }).nullable(),
  /** Where it answers, e.g. `http://127.0.0.1:8080`. */
  endpoint: z.string().nullable(),
});

/** See {@link liveStateSchema}. */
export type LiveState = z.infer<typeof liveStateSchema>;

/** Key of an environment's record in the trusted zone. */
export function liveKey(project: string, model: string, environment: string): string {
  return `live/${encodeURIComponent(project)}/${model}/${environment}.json`;
}

/** How a deployment goes, for people: written by its job as traffic moves. `state` says what became of it. */
export const rolloutSchema = z.strictObject({
  v: z.literal(1),
  candidate: digestSchema,
  version: z.int().positive(),
  state: z.enum(['running', 'done', 'failed']),
  /** Why it was taken back. */
  reason: z.string().nullable(),
  /** `at` in ISO 8601, `traffic` in percent of the requests. */
  steps: z.array(z.strictObject({ at: z.string(), traffic: z.number(), text: z.string() })),
});

/** See {@link rolloutSchema}. */
export type Rollout = z.infer<typeof rolloutSchema>;

/** Key in the trusted zone of how an environment's last deployment went. */
export function rolloutKey(project: string, model: string, environment: string): string {
  return `rollouts/${encodeURIComponent(project)}/${model}/${environment}.json`;
}
