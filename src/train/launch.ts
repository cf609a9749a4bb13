import { join } from 'node:path';
import { type Group, startGroup } from '../exec/group.ts';

/** Where a training command finds everything. Paths are absolute. */
export interface LaunchPlace {
  /** Of the code: where it is started. */
  folder: string;
  /** For its temporary files. */
  scratch: string;
  /** What of this machine's environment it gets. */
  environment: Record<string, string>;
  /** What `CDL_JOB` and `CDL_EVENTS` say. */
  job: string;
  events: string;
  /** Seconds between SIGTERM and SIGKILL. */
  grace: number;
}

/** Starts a training command, here or elsewhere. */
export type Launch = (command: readonly string[], place: LaunchPlace) => Group;

/** Starts it as a process of this machine. */
export const launchHere: Launch = (command, place) =>
  startGroup(command, {
    cwd: place.folder,
    environment: {
      ...place.environment,
      HOME: place.scratch,
      TMPDIR: join(place.scratch, 'tmp'),
      CDL_EVENTS: place.events,
    },
    mark: { name: 'CDL_JOB', value: place.job },
  });
