import type { z } from 'zod';
import type { Digest } from '../core/digest.ts';
import type { Project } from '../core/project.ts';
import type { Report } from '../core/report.ts';
import type { SourceAccess } from '../data/source/options.ts';
import type { SelectedFile } from '../exec/code.ts';
import type { CiInfo } from '../forge/ci.ts';
import type { MlflowAccess } from '../model/mlflow.ts';
import type { Zone } from '../store/types.ts';
import type { RayAccess } from '../train/ray.ts';

/** A flat zod object: scalars, enums and arrays of them, so that it can become flags and component inputs. */
export type Params = z.ZodObject<z.ZodRawShape>;

/** What a step may use. Only `context.ts` makes one; it alone reads the environment and opens ports. */
export interface Ctx {
  /** The user's repository. */
  root: string;
  /** Commit whose files count; null means the worktree (work on a person's machine). */
  ref: string | null;
  project: Project;
  ci: CiInfo | null;
  /** Opens a zone of the store. Throws UserError store-denied when this job has no credentials for it. */
  zone(name: Zone['name']): Promise<Zone>;
  /** Public keys whose decisions count, by key id. */
  trustedKeys(): ReadonlyMap<string, import('node:crypto').KeyObject>;
  /** Folder of downloads and other things that may be lost. */
  cacheFolder: string;
  /** Folder of the `local` target on this machine. */
  targetFolder: string;
  /** Base URL of the npm registry this machine is configured for. */
  npmRegistry(): Promise<string | null>;
  /** Base URL of the hub that `hf:` models come from. */
  modelHub(): string;
  /** Proxies, certificates and credentials for the sources of data sets; those of `side: test` may have their own. */
  sourceAccess(side: 'train' | 'test'): Promise<SourceAccess>;
  /** The label server this job may use; null when it is not told of one. */
  labelServer(): { url: string; token: string } | null;
  /** The MLflow server (or GitLab project) that runs and versions are mirrored to; null where that is not switched on. */
  mlflow(): MlflowAccess | null;
  /** The Ray cluster that the environment names, and the way there. */
  ray(): RayAccess;
  /** Which of how many like jobs this one is (`index` from 0); one of one where the work is not shared. */
  node: { index: number; total: number };
  /** Secret of cleaning steps that pseudonymise; null when it is not set. */
  pseudonymKey(): string | null;
  /** All that processes running model code get to see of the environment. */
  childEnvironment: Record<string, string>;
  /** Where steps of one pipeline leave what they made for those after them: `.cdl/` of the repository. */
  handover: Handover;
  log(line: string): void;
  /** Shows how far something is (0 to 1), where somebody looks. */
  progress(label: string, share: number): void;
  signal: AbortSignal;
}

/** What a step hands on, by step and subject (a model or a data set). */
export interface Handover {
  read(step: string, subject: string): Promise<Record<string, string> | null>;
  write(step: string, subject: string, outputs: Record<string, string>): Promise<void>;
  writeFile(path: string, content: string | Uint8Array): Promise<void>;
  /** Whether a file that is not empty is there. */
  hasFile(path: string): Promise<boolean>;
  list(): Promise<{ step: string; subject: string }[]>;
  readReport(step: string, subject: string): Promise<Report | null>;
  writeReport(step: string, subject: string, report: Report): Promise<void>;
}

/** All that a step reads: the cache key is made of it, and its `run` sees nothing else of the repository. */
export interface Inputs {
  /** The model or data set it is about. */
  subject: string;
  zone: Zone['name'];
  /** Resolved parameters, upstream digests, declared environment: anything with a JSON form. */
  key: Record<string, unknown>;
  files: SelectedFile[];
  /** Artifacts that must still exist for a cached outcome to count; names among the outputs. */
  artifacts: string[];
  /** Steps whose effect is elsewhere (a deployment, a report) always run. */
  cache: boolean;
}

/** What a step did. `outputs` are small strings, digests mostly; the report is for people. */
export interface Outcome {
  outputs: Record<string, string>;
  report: Report;
  /** It is the share of one of several jobs: neither kept nor handed on. The job that completes the whole does that. */
  partial?: true;
}

/** The only unit of work: CLI command and CI component of the same name derive from it. */
export interface Step<P extends Params = Params> {
  name: string;
  summary: string;
  /** Increase when the same inputs give another result; a snapshot test of the step's code reminds you. */
  epoch: number;
  params: P;
  /** Stage of the generated component. */
  stage: string;
  /** It changes an environment: its component names one, and runs one at a time. */
  deploys?: true;
  /** It judges: its component shows gates and metrics in the forge's own widgets. */
  judges?: true;
  /** Several jobs can share its work: its component takes `parallel`, of which it says this. */
  shards?: string;
  /** It sums the pipeline up: its component exposes what it wrote. */
  reports?: true;
  inputs(ctx: Ctx, params: z.output<P>): Promise<Inputs>;
  /** `folder` is temporary and holds exactly the declared files; `inputs` are those the key was made of, not read again. */
  run(ctx: Ctx, params: z.output<P>, folder: string, inputs: Inputs): Promise<Outcome>;
}

/** A digest among outputs. Throws nothing: outputs were checked when they were read. */
export function outputDigest(outputs: Record<string, string>, name: string): Digest | null {
  const value = outputs[name];
  return value?.startsWith('sha256:') ? (value as Digest) : null;
}
