import { z } from 'zod';
import {
  candidateDigest,
  candidateSchema,
  type Database,
  type Digest,
  decisionDigest,
  derivedTables,
  digestSchema,
  type Envelope,
  evaluationSchema,
  isDigest,
  keptFor,
  openDecision,
  readSteps,
  runFactsSchema,
  type Zone,
} from '../src/index.ts';
import type { Sources } from './types.ts';

const versionSchema = z.object({
  version: z.int().positive(),
  model: z.string(),
  candidate: candidateSchema,
  run: digestSchema,
});

/** How many rows were new, by table. */
export type Imported = Record<'runs' | 'versions' | 'evaluations' | 'decisions', number>;

async function entriesOf(zone: Zone, prefix: string): Promise<{ key: string; etag: string }[]> {
  const entries: { key: string; etag: string }[] = [];
  for await (const { key, etag } of zone.listRecords(prefix)) entries.push({ key, etag });
  return entries;
}

async function keysOf(zone: Zone, prefix: string): Promise<string[]> {
  return (await entriesOf(zone, prefix)).map(({ key }) => key);
}

/** A record as it was when it was looked at last; what it names, where its key does not say. */
interface Looked {
  etag: string;
  evaluation?: { digest: Digest; project: string };
}

/**
 * What this process has looked at, by zone and key, so that a record is read again only when it is another one: a minute's
 * look costs a listing, not a request for every record there ever was. It holds a line for each record.
 */
const looked = new WeakMap<Zone, Map<string, Looked>>();

/** The digests of a column that the index has already. */
async function digestsOf(database: Database, sql: string, project: string): Promise<Set<string>> {
  const rows = await database.query<{ id: string }>(sql, [project]);
  return new Set(rows.map((row) => row.id));
}

/** Whether PostgreSQL has a place for every string of it: it takes no NUL (datatype-character) and, in jsonb, no half a surrogate pair. */
function isStorable(value: unknown): boolean {
  return !/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(JSON.stringify(value));
}

async function importRuns(database: Database, work: Zone, project: string): Promise<number> {
  const have = await digestsOf(database, 'select digest as id from runs where project = $1', project);
  let count = 0;
  for (const key of await keysOf(work, `runs/${project}/`)) {
    const digest = `sha256:${key.split('/').at(-1)?.replace('.json', '')}`;
    if (!isDigest(digest) || have.has(digest)) continue;
    // Written by change pipelines: whatever is no run is no row.
    const artifact = await work.getArtifact(digest).catch(() => null);
    const meta = runFactsSchema.safeParse(artifact?.meta);
    if (artifact?.kind !== 'run' || !meta.success) continue;
    const { epochs, ...facts } = meta.data;
    const { model, started_at, hyperparameters, metrics } = facts;
    const steps = await readSteps(work, digest);
    if (!isStorable([artifact.name, facts, epochs, steps])) continue;
    await database.transaction(async (transaction) => {
      await transaction.query(
        `insert into runs (digest, project, model, name, created_at, config, metrics, parents, facts)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (digest) do nothing`,
        [
          digest,
          project,
          model,
          artifact.name,
          started_at,
          hyperparameters,
          metrics,
          artifact.parents,
          facts,
        ],
      );
      // What was said at the end of an epoch counts before what was said within it, at the same step.
      const points = [...epochs, ...steps].flatMap(({ step, metrics: at }) =>
        Object.entries(at).map(([name, value]) => ({ step, name, value })),
      );
      await transaction.query(
        `insert into run_metrics (run, step, name, value)
         select $1, * from unnest($2::bigint[], $3::text[], $4::float8[]) on conflict do nothing`,
        [digest, points.map((p) => p.step), points.map((p) => p.name), points.map((p) => p.value)],
      );
    });
    count++;
  }
  return count;
}

async function importVersions(database: Database, work: Zone, project: string): Promise<number> {
  const have = await digestsOf(
    database,
    `select model || '/' || version as id from versions where project = $1`,
    project,
  );
  let count = 0;
  for (const key of await keysOf(work, `versions/${encodeURIComponent(project)}/`)) {
    const [, , model, number = ''] = key.replace(/\.json$/, '').split('/');
    if (have.has(`${model}/${Number(number)}`)) continue;
    const parsed = versionSchema.safeParse((await work.readRecord(key))?.value);
    if (!parsed.success || parsed.data.version !== Number(number) || parsed.data.model !== model) continue;
    const { version, candidate, run } = parsed.data;
    await database.query(
      `insert into versions (project, model, version, candidate, checkpoint, run, info)
       values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`,
      [project, model, version, candidateDigest(candidate), candidate.checkpoint, run, candidate],
    );
    count++;
  }
  return count;
}

async function importEvaluations(database: Database, trusted: Zone, project: string): Promise<number> {
  const have = await digestsOf(database, 'select digest as id from evaluations where project = $1', project);
  const known = keptFor(looked, trusted);
  let count = 0;
  for (const { key, etag } of await entriesOf(trusted, 'evaluations/')) {
    const before = known.get(key);
    if (before?.etag === etag && before.evaluation) {
      // The key is the question's: whose it is, only the answer says.
      const { digest, project: whose } = before.evaluation;
      if (whose !== project || have.has(digest)) continue;
    }
    const digest = ((await trusted.readRecord(key))?.value as { evaluation?: unknown } | undefined)
      ?.evaluation;
    if (!isDigest(digest)) continue;
    if (have.has(digest)) {
      known.set(key, { etag, evaluation: { digest, project } });
      continue;
    }
    const evaluation = evaluationSchema.parse((await trusted.getArtifact(digest)).meta);
    known.set(key, { etag, evaluation: { digest, project: evaluation.project } });
    if (evaluation.project !== project) continue;
    const { model, environment, candidate, baseline, verdict, scores } = evaluation;
    await database.query(
      `insert into evaluations (digest, project, model, environment, candidate, baseline, verdict, metrics)
       values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (digest) do nothing`,
      [digest, project, model, environment, candidate, baseline, verdict, scores.metrics],
    );
    count++;
  }
  return count;
}

async function importDecisions(
  database: Database,
  trusted: Zone,
  keys: Sources['keys'],
  project: string,
): Promise<number> {
  const rows = await database.query<{ id: string; digest: string }>(
    `select model || '/' || environment || '/' || seq as id, digest from decisions where project = $1`,
    [project],
  );
  const have = new Set(rows.map(({ digest }) => digest));
  const numbered = new Set(rows.map(({ id }) => id));
  const known = keptFor(looked, trusted);
  let count = 0;
  for (const { key, etag } of await entriesOf(trusted, `decisions/${encodeURIComponent(project)}/`)) {
    const [, , model = '', environment = '', number = ''] = key.replace(/\.json$/, '').split('/');
    const isIn = numbered.has(`${model}/${environment}/${Number(number)}`);
    // Decisions are written once: one that is another than it was is read, and its signature checked, again.
    if (isIn && (known.get(key)?.etag ?? etag) === etag) {
      known.set(key, { etag });
      continue;
    }
    const envelope = (await trusted.readRecord(key))?.value as Envelope;
    const decision = openDecision(envelope, keys, key);
    const digest = decisionDigest(envelope);
    known.set(key, { etag });
    if (have.has(digest)) continue;
    const { seq, prev, candidate, evaluation, change, time } = decision;
    await database.query(
      `insert into decisions (digest, project, model, environment, seq, prev, decision, candidate, evaluation, change,
                              decided_at, envelope)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing`,
      [
        digest,
        project,
        decision.model,
        decision.environment,
        seq,
        prev,
        decision.decision,
        candidate,
        evaluation,
        change,
        time,
        envelope,
      ],
    );
    count++;
  }
  return count;
}

/**
 * Brings the index up to date with the store: runs and versions of `work/`, evaluations and decisions of `trusted/`. The
 * store is the truth: emptied tables fill again, rows are written once. `project` is the name in cdl.yaml.
 */
export async function importIndex(
  sources: Pick<Sources, 'work' | 'trusted' | 'keys'> & { database: Database },
  project: string,
): Promise<Imported> {
  const { database, work, trusted, keys } = sources;
  return {
    runs: await importRuns(database, work, project),
    versions: await importVersions(database, work, project),
    evaluations: await importEvaluations(database, trusted, project),
    decisions: await importDecisions(database, trusted, keys, project),
  };
}

/** The projects that the store has something of, by their names in cdl.yaml. */
async function projectsIn({ work, trusted }: Pick<Sources, 'work' | 'trusted'>): Promise<string[]> {
  const names = new Set<string>();
  for (const [zone, prefix] of [
    [work, 'runs/'],
    [work, 'versions/'],
    [trusted, 'decisions/'],
  ] as const) {
    for await (const key of zone.listRecordKeys(prefix)) {
      const name = key.slice(prefix.length).split('/', 1)[0] ?? '';
      names.add(decodeURIComponent(name));
    }
  }
  return [...names].filter(Boolean).sort();
}

/**
 * `cdl db rebuild`: empties the tables that are derived from the store and fills them again, project by project. Whatever
 * stops it, running it again (or the bot, at its next look) completes them. Throws as {@link importIndex} does.
 */
export async function rebuildIndex(
  sources: Pick<Sources, 'work' | 'trusted' | 'keys'> & { database: Database },
  onProject: (project: string, share: number) => void,
): Promise<Record<string, Imported>> {
  const names = await projectsIn(sources);
  await sources.database.query(`truncate ${derivedTables.join(', ')}`);
  const all: Record<string, Imported> = {};
  for (const [index, name] of names.entries()) {
    onProject(name, index / names.length);
    all[name] = await importIndex(sources, name);
  }
  return all;
}
