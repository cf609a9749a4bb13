import type { Digest } from '../core/digest.ts';
import type { EnvironmentConfig } from '../core/project.ts';

/** What one server may use: GPUs, CPU cores, memory as Kubernetes writes it (`512Mi`, `4Gi`). */
export interface Resources {
  gpu: number;
  cpu: number;
  memory: string;
}

/** One deployment, as planned: pure data, shown in the report and recomputed at merge. */
export interface Plan {
  project: string;
  model: string;
  environment: string;
  /** Candidate that is live now (null: nothing) and the one to come. */
  from: Digest | null;
  to: Digest;
  package: Digest;
  version: number;
  target: EnvironmentConfig['target'];
  replicas: number;
  /** Share of requests for the new version, step by step, ending with 100. */
  traffic: number[];
  /** Largest share of failed requests the canary may show. */
  maxErrorRate: number;
  /** The rendered manifest (Kubernetes YAML for seldon, the process table for local). */
  manifest: string;
  /** Bytes of the package. */
  bytes: number;
  /** H(JCS{from, to, manifest, traffic}). */
  digest: Digest;
}

/** What a target reports while it applies a plan. `ready` ends a success, `restored` a roll-back to what was live before. */
export type Progress =
  | { kind: 'step'; text: string; traffic: number }
  | { kind: 'ready'; endpoint: string }
  | { kind: 'restored'; reason: string; endpoint: string | null };

/** Where packages run. `apply` resumes when called again after a kill with the same plan; no request fails meanwhile. */
export interface Target {
  /** The candidate that answers now, and where; null when nothing does. */
  live(model: string, environment: string): Promise<{ candidate: Digest; endpoint: string } | null>;
  /** `folder` holds the package's files, verified. */
  apply(plan: Plan, folder: string, signal: AbortSignal): AsyncIterable<Progress>;
}
