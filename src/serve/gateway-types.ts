import type { Digest } from '../core/digest.ts';
import type { RouteVersion } from './gateway-state.ts';

/** Where a server process stands. `starting` has not answered yet, `draining` gets no new requests. */
export type InstanceStatus = 'starting' | 'ready' | 'draining';

/** Counted by the gateway for one version since the gateway started. A failure is a 5xx or no answer at all. */
export interface VersionCounts {
  requests: number;
  failures: number;
  /** Sum over the requests, milliseconds. */
  latency: number;
}

/** One version of a route as it is. */
export interface VersionState extends RouteVersion {
  counts: VersionCounts;
  instances: { id: string; pid: number | null; port: number | null; status: InstanceStatus }[];
  /** Processes of this version that ended without being asked to, and what the last one said. */
  crashes: { count: number; last: string | null };
}

/** One route as it is. */
export interface RouteState {
  model: string;
  environment: string;
  stable: Digest | null;
  versions: VersionState[];
  /** Processes of versions no longer wanted that still finish requests. */
  leaving: number;
}

/** A gateway as it is; `revision` rises with every change, so that one can wait for the next. */
export interface GatewayState {
  revision: number;
  pid: number;
  host: string;
  port: number;
  routes: RouteState[];
}
