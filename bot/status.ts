import { type Change, type Database, describeError, UpstreamError } from '../src/index.ts';
import type { Health, HookStanding, LookStanding } from './health.ts';
import { type QueueRow, readQueue } from './queue.ts';
import { type Depth, type QueueState, readDepths } from './queue-depth.ts';
import { type ChangeStanding, readStandings } from './standing.ts';
import type { BotContext } from './types.ts';

/** Whether something outside answered just now; `problem` says why not. */
export interface Reached {
  problem: string | null;
  /** How long it took, in milliseconds. */
  took: number;
}

/** An open change and how it stood when the bot looked last; null when it has not looked yet. */
export interface OpenChange {
  id: number;
  title: string;
  author: string;
  url: string;
  draft: boolean;
  standing: ChangeStanding | null;
}

/** One project as the status shows it. */
export interface ProjectStatus {
  name: string;
  forge: Reached;
  hook: HookStanding;
  /** When a bot began its last look that went well, in ISO 8601; null before the first. */
  looked: string | null;
  /** How this bot's own last look went; null before the first. */
  look: LookStanding | null;
  /** The newest first, at most {@link mostChanges}. */
  changes: OpenChange[];
  /** How many more are open. */
  more: number;
}

/** What `/status.json` says. Times in ISO 8601. */
export interface BotStatus {
  version: string;
  since: string;
  now: string;
  isStopping: boolean;
  forge: { kind: 'gitlab' | 'github'; url: string };
  projects: ProjectStatus[];
  queue: Record<QueueState, Depth> | null;
  /** Tasks that are not tried again by themselves, at most {@link mostLetters}. */
  dead: Pick<QueueRow, 'project' | 'key' | 'error'>[];
  database: Reached;
  stores: { zone: 'work' | 'trusted'; url: string; reached: Reached }[];
}

/** Changes shown of one project. */
export const mostChanges = 50;
/** Dead tasks shown. */
export const mostLetters = 20;

/** Milliseconds that something outside may take before it counts as out of reach. */
const patience = 5_000;
/** Milliseconds for which one look is good enough for everybody who asks. */
const fresh = 5_000;

/** What the status is read from. */
export interface StatusSources {
  version: string;
  health: Health;
  database: Database;
  contexts: ReadonlyMap<string, Pick<BotContext, 'forge' | 'work' | 'trusted'>>;
  forge: BotStatus['forge'];
  /** Masks secrets: what other services say may repeat what they were told. */
  mask(text: string): string;
  now(): Date;
}

async function inTime<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new UpstreamError(what, `no answer within ${patience / 1000} s`, { retryable: true })),
      patience,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function readProject(
  [project, { forge }]: [string, Pick<BotContext, 'forge'>],
  { health, reach }: { health: Health; reach: Reach },
  noted: readonly { project: string; name: string; value: string }[],
): Promise<ProjectStatus> {
  const cursors = noted.filter((one) => one.project === project);
  const standings = readStandings(cursors);
  const present = (change: Change): OpenChange => ({
    id: change.id,
    title: change.title,
    author: change.author.username,
    url: change.url,
    draft: change.draft,
    standing: standings.get(change.id) ?? null,
  });
  return reach(project, () => forge.listChanges({ state: 'open' })).then(({ value, reached }) => {
    const changes = [...(value ?? [])].sort((a, b) => b.id - a.id);
    return {
      name: project,
      forge: reached,
      hook: health.hooks.get(project) ?? {
        isSound: null,
        text: 'nobody looks after it: CDL_BOT_URL is not set',
      },
      looked: cursors.find((one) => one.name === 'looked')?.value ?? null,
      look: health.looks.get(project) ?? null,
      changes: changes.slice(0, mostChanges).map(present),
      more: Math.max(0, changes.length - mostChanges),
    };
  });
}

type Reach = <T>(what: string, work: () => Promise<T>) => Promise<{ value: T | null; reached: Reached }>;

/**
 * Reads the status: asks forge, stores and database, each for at most 5 s, and never throws. What is a few seconds old is
 * given again, so that many who look cost no more than one.
 */
export function createStatusReader(sources: StatusSources): () => Promise<BotStatus> {
  const { version, health, database, contexts, mask, now } = sources;
  const reach: Reach = async (what, work) => {
    const started = performance.now();
    const took = () => Math.round(performance.now() - started);
    try {
      const value = await inTime(what, work());
      return { value, reached: { problem: null, took: took() } };
    } catch (error) {
      const { code, message } = describeError(error);
      // What nobody expected has its trace in its message.
      const problem = code === 'bug' && error instanceof Error ? error.message : message;
      return { value: null, reached: { problem: mask(problem), took: took() } };
    }
  };

  async function look(): Promise<BotStatus> {
    const projects = [...contexts.keys()];
    const noted = await reach('database', async () => ({
      depths: await readDepths(database, projects),
      dead: (await readQueue(database)).filter(
        (row) => row.state === 'dead' && projects.includes(row.project),
      ),
      cursors: await database.query<{ project: string; name: string; value: string }>(
        `select project, name, value from bot_cursors
          where project = any($1) and (name = 'looked' or name like 'standing/%')`,
        [projects],
      ),
    }));
    const { depths, dead, cursors } = noted.value ?? { depths: null, dead: [], cursors: [] };
    const [first] = contexts.values();
    const zones = first ? [first.work, first.trusted] : [];
    const [found, stores] = await Promise.all([
      Promise.all([...contexts].map((one) => readProject(one, { health, reach }, cursors))),
      Promise.all(
        zones.map(async (zone) => ({
          zone: zone.name,
          url: mask(zone.store.url),
          // There is no such record: what counts is that the store says so.
          reached: (await reach(`${zone.name} store`, () => zone.readRecord('status'))).reached,
        })),
      ),
    ]);
    return {
      version,
      since: health.since.toISOString(),
      now: now().toISOString(),
      isStopping: health.isStopping,
      forge: { ...sources.forge, url: mask(sources.forge.url) },
      projects: found,
      queue: depths,
      dead: dead
        .slice(0, mostLetters)
        .map(({ project, key, error }) => ({ project, key, error: mask(error) })),
      database: noted.reached,
      stores,
    };
  }

  let last: { at: number; status: Promise<BotStatus> } | null = null;
  return () => {
    if (last === null || performance.now() - last.at > fresh)
      last = { at: performance.now(), status: look() };
    return last.status;
  };
}
