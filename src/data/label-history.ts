import type { Digest } from '../core/digest.ts';
import type { Database, Queryable } from '../db/types.ts';
import type { LabelSet, Vote } from './label-set.ts';

/** Which labels: one side of a data set of a project. */
export type LabelScope = Pick<LabelSet, 'project' | 'dataset' | 'side'>;

/** An annotation as the server has it now, with the data version that its item was pushed from. */
export interface Annotation extends Omit<Vote, 'version'> {
  version: Digest | null;
}

/** One line of the history. Times are ISO 8601. */
export interface LabelEvent {
  seq: number;
  item: Digest;
  version: Digest | null;
  source: string;
  annotation: string;
  kind: 'created' | 'updated' | 'deleted';
  choices: string[];
  previous: string[] | null;
  labeler: string | null;
  at: string;
  recorded: string;
}

interface Row {
  seq: number;
  item: Digest;
  version: Digest | null;
  source: string;
  annotation: string;
  kind: LabelEvent['kind'];
  choices: string[];
  previous: string[] | null;
  labeler: string | null;
  made_at: Date;
  recorded_at: Date;
}

/** Any number no other program locks with; two of them with the hash of a scope. */
const lockKey = 726_561;

const columns =
  'seq, item, version, source, annotation, kind, choices, previous, labeler, made_at, recorded_at';

function eventOf(row: Row): LabelEvent {
  const { made_at, recorded_at, ...rest } = row;
  return { ...rest, at: made_at.toISOString(), recorded: recorded_at.toISOString() };
}

async function standing(
  database: Queryable,
  scope: LabelScope,
  until: { seq?: number; time?: Date },
  source: string | null = null,
): Promise<LabelEvent[]> {
  const rows = await database.query<Row>(
    `select * from (
       select distinct on (source, annotation) ${columns} from label_events
       where project = $1 and dataset = $2 and side = $3
         and ($4::bigint is null or seq <= $4) and ($5::timestamptz is null or recorded_at <= $5)
         and ($6::text is null or source = $6)
       order by source, annotation, seq desc) newest
     order by item, annotation`,
    [scope.project, scope.dataset, scope.side, until.seq ?? null, until.time ?? null, source],
  );
  return rows.map(eventOf);
}

/**
 * Writes down what changed since the last look at a server's project: new and changed annotations, and those that are
 * gone. The same look twice writes nothing; a stale one (an annotation older than what is known of it) is passed over.
 */
export async function recordAnnotations(
  database: Database,
  scope: LabelScope,
  source: string,
  annotations: readonly Annotation[],
  now: Date,
): Promise<{ created: number; updated: number; deleted: number }> {
  return database.transaction(async (inside) => {
    await inside.query('select pg_advisory_xact_lock($1, hashtext($2))', [
      lockKey,
      JSON.stringify([scope.project, scope.dataset, scope.side]),
    ]);
    const known = new Map((await standing(inside, scope, {}, source)).map((one) => [one.annotation, one]));
    const done = { created: 0, updated: 0, deleted: 0 };
    const write = async (kind: LabelEvent['kind'], vote: Annotation, previous: string[] | null) => {
      const rows = await inside.query(
        `insert into label_events
           (project, dataset, side, item, version, source, annotation, kind, choices, previous, labeler, made_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing returning seq`,
        [
          ...[scope.project, scope.dataset, scope.side, vote.item, vote.version, source, vote.annotation],
          ...[kind, vote.choices, previous, vote.labeler, vote.at],
        ],
      );
      done[kind] += rows.length;
    };
    for (const vote of annotations) {
      const before = known.get(vote.annotation);
      known.delete(vote.annotation);
      if (!before) await write('created', vote, null);
      else if (before.kind === 'deleted' || new Date(vote.at) > new Date(before.at)) {
        await write('updated', vote, before.kind === 'deleted' ? null : before.choices);
      }
    }
    for (const gone of known.values()) {
      if (gone.kind === 'deleted') continue;
      // Not before the annotation itself, whatever the two clocks say.
      const at = new Date(Math.max(now.getTime(), new Date(gone.at).getTime() + 1)).toISOString();
      await write('deleted', { ...gone, choices: [], at }, gone.choices);
    }
    return done;
  });
}

/** The votes that stood at a time or after an event (both included), now when neither is given. */
export async function votesAsOf(
  database: Queryable,
  scope: LabelScope,
  until: { seq?: number; time?: Date } = {},
): Promise<Vote[]> {
  return (await standing(database, scope, until))
    .filter(({ kind }) => kind !== 'deleted')
    .map(({ item, annotation, labeler, choices, at, source, version }) => ({
      item,
      // Two servers may count alike.
      annotation: `${source}#${annotation}`,
      labeler: labeler === null ? null : `${source}@${labeler}`,
      choices: [...choices].sort(),
      at,
      ...(version && { version }),
    }));
}

/** Everything that was ever said of an item (or of those whose id starts like this), oldest first. */
export async function historyOf(database: Queryable, scope: LabelScope, item: string): Promise<LabelEvent[]> {
  const rows = await database.query<Row>(
    `select ${columns} from label_events
     where project = $1 and dataset = $2 and side = $3 and starts_with(item, $4) order by seq`,
    [scope.project, scope.dataset, scope.side, item.startsWith('sha256:') ? item : `sha256:${item}`],
  );
  return rows.map(eventOf);
}
