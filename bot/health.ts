/** How a project's webhook was found at the last look; `isSound` null while nobody looks after it. */
export interface HookStanding {
  isSound: boolean | null;
  text: string;
}

/** How the last look for what no webhook told went. Times in ISO 8601, of this process. */
export interface LookStanding {
  ended: string;
  /** Null when it went well. */
  problem: string | null;
}

/** What a running bot knows of itself; what several bots share stands in the database. */
export interface Health {
  /** When it started. */
  readonly since: Date;
  /** By project. */
  readonly hooks: Map<string, HookStanding>;
  readonly looks: Map<string, LookStanding>;
  /** It was told to stop: what runs ends, nothing more is begun. */
  isStopping: boolean;
}

/** Of a bot that starts now. */
export function createHealth(now: Date): Health {
  return { since: now, hooks: new Map(), looks: new Map(), isStopping: false };
}
