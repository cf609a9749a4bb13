import { type Database, type Digest, keepNewest } from '../src/index.ts';
import type { SpentJob } from './budget.ts';
import type { Approval, BotState, ChangeMemory, EvaluationRun, Rejection } from './types.ts';

const iso = (at: Date | string): string => new Date(at).toISOString();

/** Pictures whose markdown is kept in memory. */
const mostPictures = 1000;

const approvalsOf = `select change::int, model, environment, review, user_id as "userId", username, role, override, comment, at
  from bot_approvals where project = $1 and change = $2 order by at, user_id`;
// What was lifted stays as a word about no head.
const rejectionsOf = `select change::int, user_id as "userId", username, head, candidates as about, step, reason, at
  from bot_rejections where project = $1 and change = $2 and head <> '' order by at desc`;
const pipelinesOf = 'select pipeline from bot_pipelines where project = $1 and change = $2 order by pipeline';
const jobs =
  'select job, pipeline, change::int, name, seconds, gpu, ended_at as "endedAt" from bot_jobs where project = $1';
const jobsOf = `${jobs} and change = $2`;
// As in the index of its own; dead letters are called otherwise.
const notesOf = `select name, value from bot_cursors where project = $1
  and (split_part(name, '/', 2) = $2::text and name not like 'failed/%' or name = $3)`;

const asJson = (sql: string): string => `(select coalesce(json_agg(r), '[]') from (${sql}) r)`;

type Dated<T, K extends keyof T> = Omit<T, K> & { [P in K]: Date | string };

const toApproval = (row: Dated<Approval, 'at'>): Approval => ({ ...row, at: iso(row.at) });
const toRejection = (row: Dated<Rejection, 'at'>): Rejection => ({ ...row, at: iso(row.at) });
const toJob = (row: Omit<SpentJob, 'endedAt'> & { endedAt: Date | string | null }): SpentJob => ({
  ...row,
  endedAt: row.endedAt === null ? null : iso(row.endedAt),
});

/** The bot's memory of one project in PostgreSQL (tables `bot_*` and `deliveries`). */
export function createBotState(database: Database, project: string): BotState {
  const run = (sql: string, ...params: unknown[]) => database.query(sql, [project, ...params]);
  const pictures = new Map<Digest, string>();
  /** The newest word of a person counts, in whatever order they are read, and however often. */
  const setWord = async (word: Rejection) => {
    await run(
      `insert into bot_rejections as kept (project, change, user_id, username, head, candidates, step, reason, at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       on conflict (project, change, user_id) do update set username = excluded.username, head = excluded.head,
         candidates = excluded.candidates, step = excluded.step, reason = excluded.reason, at = excluded.at
       where kept.at <= excluded.at`,
      word.change,
      word.userId,
      word.username,
      word.head,
      word.about,
      word.step,
      word.reason,
      word.at,
    );
  };
  return {
    async addApproval(a) {
      await run(
        `insert into bot_approvals
           (project, change, model, environment, review, user_id, username, role, override, comment, at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (project, change, model, environment, review, user_id)
         do update set override = coalesce(excluded.override, bot_approvals.override),
                       at = greatest(bot_approvals.at, excluded.at)`,
        a.change,
        a.model,
        a.environment,
        a.review,
        a.userId,
        a.username,
        a.role,
        a.override,
        a.comment,
        a.at,
      );
    },
    async approvals(change) {
      return (await database.query<Dated<Approval, 'at'>>(approvalsOf, [project, change])).map(toApproval);
    },
    async withdrawButton(change, userId) {
      await run(
        `delete from bot_approvals where project = $1 and change = $2 and user_id = $3 and comment = 'button'`,
        change,
        userId,
      );
    },
    setRejection: (r) => setWord(r),
    async liftRejection(change, userId, at) {
      await setWord({ change, userId, username: '', head: '', about: [], step: '', reason: '', at });
    },
    async rejections(change) {
      return (await database.query<Dated<Rejection, 'at'>>(rejectionsOf, [project, change])).map(toRejection);
    },
    async evaluationRun(question) {
      const [row] = await database.query<EvaluationRun>(
        'select question, pipeline, head from bot_evaluations where project = $1 and question = $2',
        [project, question],
      );
      return row ?? null;
    },
    async setEvaluationRun({ question, pipeline, head }) {
      await run(
        `insert into bot_evaluations (project, question, pipeline, head) values ($1, $2, $3, $4)
         on conflict (project, question) do update set pipeline = excluded.pipeline, head = excluded.head`,
        question,
        pipeline,
        head,
      );
    },
    async addPipeline(pipeline, change) {
      await run(
        'insert into bot_pipelines (project, pipeline, change) values ($1, $2, $3) on conflict do nothing',
        pipeline,
        change,
      );
    },
    async pipelinesFor(change) {
      const rows = await database.query<{ pipeline: string }>(pipelinesOf, [project, change]);
      return rows.map((row) => row.pipeline);
    },
    async isAskedFor(pipeline) {
      const sql = `select 1 from bot_evaluations where project = $1 and pipeline = $2
        union all select 1 from bot_pipelines where project = $1 and pipeline = $2
        union all select 1 from bot_cursors where project = $1 and value = $2
          and (starts_with(name, 'deploy/') or starts_with(name, 'trigger/')) limit 1`;
      return (await database.query(sql, [project, pipeline])).length === 1;
    },
    async remembered(change, letter) {
      const [row] = await database.query<{
        approvals: Dated<Approval, 'at'>[];
        rejections: Dated<Rejection, 'at'>[];
        pipelines: { pipeline: string }[];
        jobs: Parameters<typeof toJob>[0][];
        notes: { name: string; value: string }[];
      }>(
        `select ${asJson(approvalsOf)} as approvals, ${asJson(rejectionsOf)} as rejections,
                ${asJson(pipelinesOf)} as pipelines, ${asJson(jobsOf)} as jobs, ${asJson(notesOf)} as notes`,
        [project, change, letter],
      );
      const { approvals, rejections, pipelines, jobs, notes } = row!;
      return {
        approvals: approvals.map(toApproval),
        rejections: rejections.map(toRejection),
        pipelines: pipelines.map((one) => one.pipeline),
        jobs: jobs.map(toJob),
        notes: notes.map(({ name, value }) => [name, value]),
      } satisfies ChangeMemory;
    },
    async alone(name, work) {
      // The transaction writes nothing: it holds the lock, which ends with it or with its process.
      await database.transaction(async (transaction) => {
        await transaction.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [
          `bot ${project} ${name}`,
        ]);
        await work();
      });
    },
    async picture(key: Digest) {
      const known = pictures.get(key);
      if (known !== undefined) return known;
      const [row] = await database.query<{ markdown: string }>(
        'select markdown from bot_pictures where project = $1 and key = $2',
        [project, key],
      );
      return row ? keepNewest(pictures, mostPictures, key, row.markdown) : null;
    },
    async keepPicture(key, markdown) {
      // Two bots may upload one picture at once: the first address counts for both, else each would write its own again and again.
      const [row] = await database.query<{ markdown: string }>(
        `insert into bot_pictures as kept (project, key, markdown) values ($1, $2, $3)
         on conflict (project, key) do update set markdown = kept.markdown returning markdown`,
        [project, key, markdown],
      );
      return keepNewest(pictures, mostPictures, key, row!.markdown);
    },
    async jobsOf(change) {
      return (await database.query<Parameters<typeof toJob>[0]>(jobsOf, [project, change])).map(toJob);
    },
    async jobsSince(time) {
      const sql = `${jobs} and (ended_at is null or ended_at > $2)`;
      return (await database.query<Parameters<typeof toJob>[0]>(sql, [project, time])).map(toJob);
    },
    async setJobs(all) {
      for (const one of all) {
        await run(
          `insert into bot_jobs (project, job, pipeline, change, name, seconds, gpu, ended_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (project, job) do update set seconds = excluded.seconds, ended_at = excluded.ended_at`,
          one.job,
          one.pipeline,
          one.change,
          one.name,
          one.seconds,
          one.gpu,
          one.endedAt,
        );
      }
    },
    async isHandled(comment) {
      const sql = 'select 1 from bot_comments where project = $1 and comment = $2';
      return (await database.query(sql, [project, comment])).length === 1;
    },
    async unhandled(comments) {
      if (comments.length === 0) return [];
      const rows = await database.query<{ comment: string }>(
        `select comment from unnest($2::text[]) with ordinality as asked (comment, at)
         where not exists (select 1 from bot_comments as known
                           where known.project = $1 and known.comment = asked.comment) order by at`,
        [project, comments],
      );
      return rows.map((row) => row.comment);
    },
    async setHandled(comment) {
      await run(
        'insert into bot_comments (project, comment) values ($1, $2) on conflict (project, comment) do nothing',
        comment,
      );
    },
    async cursor(name) {
      const [row] = await database.query<{ value: string }>(
        'select value from bot_cursors where project = $1 and name = $2',
        [project, name],
      );
      return row?.value ?? null;
    },
    async cursors(prefix) {
      const rows = await database.query<{ name: string }>(
        `select name from bot_cursors where project = $1 and starts_with(name, $2) and value <> '' order by length(name), name`,
        [project, prefix],
      );
      return rows.map((row) => row.name);
    },
    async setCursor(name, value) {
      await run(
        `insert into bot_cursors (project, name, value) values ($1, $2, $3)
         on conflict (project, name) do update set value = excluded.value`,
        name,
        value,
      );
    },
  };
}
