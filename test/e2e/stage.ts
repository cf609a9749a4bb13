import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { type Actor, type Rig, startRig } from '../../src/cli/rig.ts';
import { type ApiMergeRequest, openApi, until } from '../../src/cli/rig-client.ts';
import { type Decision, decisionPrefix, openDecision } from '../../src/core/decision.ts';
import { type LiveState, liveKey, liveStateSchema } from '../../src/core/live.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import type { Job } from '../../src/sandbox/state.ts';
import { openZone, readTrustedKeys } from '../../src/steps/context.ts';
import type { Zone } from '../../src/store/types.ts';
import { model, writeTinyProject } from './tiny-project.ts';

/** Where jobs and people find programs. */
export const systemPath = process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin';

type Person = keyof Rig['people'];
type Api = ReturnType<typeof openApi>;

/** A comment on a merge request. */
export type Note = Awaited<ReturnType<Api['notes']>>[number];

/** A rig with the tiny project on its default branch, and what people do with it. */
export interface Stage {
  rig: Rig;
  /** What bot and runners said; for the message of a test that fails. */
  log: string[];
  api: Record<Person, Api>;
  trusted: Zone;
  git(who: Person, ...args: string[]): Promise<string>;
  /** Changes files on a branch off the newest default branch (or off the branch itself), commits and pushes. */
  push(
    who: Person,
    branch: string,
    edit: Edit,
    options?: { onTop?: boolean; message?: string },
  ): Promise<string>;
  /** Opens a merge request for a branch. */
  propose(who: Person, branch: string, title: string): Promise<ApiMergeRequest>;
  /** Comments of the bot on a merge request, oldest first. */
  botNotes(iid: number): Promise<Note[]>;
  /** Waits for a comment of the bot that matches. */
  said(iid: number, holds: RegExp, what?: string): Promise<{ note: Note; match: RegExpExecArray }>;
  /** Waits for the report's line to copy, and gives the digest in it. */
  approveLine(iid: number): Promise<string>;
  /** Says something and waits for the bot's answer in the thread. */
  ask(who: Person, iid: number, text: string): Promise<string>;
  status(sha: string): Promise<{ status: string; description: string | null } | null>;
  /** Waits until the bot's status of the merge request's head is this. */
  reaches(iid: number, status: string, description?: RegExp): Promise<ApiMergeRequest>;
  /** Approves what the report shows, by the line in it, and waits until it counts. */
  approve(iid: number): Promise<string>;
  /** Merges when the forge allows it; returns the merge commit. */
  merge(iid: number): Promise<string>;
  /** The deploy job of a commit, once it has ended. */
  deployJob(sha: string): Promise<Job>;
  trace(job: Job): Promise<string>;
  live(): Promise<LiveState | null>;
  /** Verified decisions, oldest first. */
  decisions(): Promise<Decision[]>;
  until<T>(what: string, look: () => Promise<T | null> | T | null, seconds?: number): Promise<T>;
  close(): Promise<void>;
}

/** New hyperparameters, or any change to files given as a function of path → text. */
export type Edit = Record<string, unknown> | ((files: EditFiles) => Promise<void> | void);

/** Files of the clone. */
export interface EditFiles {
  folder: string;
  read(path: string): Promise<string>;
  write(path: string, text: string): Promise<void>;
}

/** Where the source of the test side lies, below the folder of a rig. */
export const withheldFolder = (folder: string): string => join(folder, 'protected');

const ended: readonly string[] = ['success', 'failed', 'canceled', 'skipped'];

/**
 * Starts a rig with the tiny project; `validators` as `cdl.yaml` of the default branch names them. `withheld`: the test side is
 * a source of its own, on protected runners only ({@link withheldFolder}).
 */
export async function openStage(options: { validators?: string[]; withheld?: boolean } = {}): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-e2e-'));
  const log: string[] = [];
  let rig: Rig | null = null;
  const { version } = JSON.parse(await readFile(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  try {
    rig = await startRig({
      folder,
      cacheFolder: join(folder, 'cache'),
      npmRegistry: null,
      caFile: null,
      systemPath,
      version,
      project: `acme/${model}`,
      hide: [withheldFolder(folder)],
      log: (line) => log.push(line),
    });
    const clone = join(folder, 'work');
    await writeTinyProject(clone, {
      data: join(folder, 'data'),
      ...(options.withheld && { withheld: withheldFolder(folder) }),
      validators: options.validators ?? ['vera'],
      version,
    });
    const stage = await createStage(rig, clone, folder, log);
    await run('git', ['init', '--quiet', '--initial-branch=main'], { cwd: clone });
    await stage.git('maintainer', 'add', '--all');
    await stage.git('maintainer', 'commit', '--quiet', '-m', 'feat: start');
    await stage.git('maintainer', 'remote', 'add', 'origin', rig.repository);
    await stage.git('maintainer', 'push', '--quiet', 'origin', 'main');
    return stage;
  } catch (error) {
    await rig?.close();
    await rm(folder, { recursive: true, force: true });
    throw new Error(`${String(error)}\n${log.slice(-30).join('\n')}`, { cause: error });
  }
}

async function gitAs(rig: Rig, folder: string, actor: Actor, args: string[]): Promise<string> {
  const { username, name } = actor.user;
  const basic = Buffer.from(`${username}:${actor.token}`).toString('base64');
  const result = await run('git', args, {
    cwd: folder,
    env: {
      PATH: systemPath,
      HOME: rig.folder,
      GIT_AUTHOR_NAME: name,
      GIT_AUTHOR_EMAIL: `${username}@example.com`,
      GIT_COMMITTER_NAME: name,
      GIT_COMMITTER_EMAIL: `${username}@example.com`,
      GIT_TERMINAL_PROMPT: '0',
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'http.extraHeader',
      GIT_CONFIG_VALUE_0: `Authorization: Basic ${basic}`,
    },
  });
  if (result.code !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr.toString()}`);
  return result.stdout.toString().trim();
}

async function createStage(rig: Rig, clone: string, folder: string, log: string[]): Promise<Stage> {
  const { people, project } = rig;
  const api: Stage['api'] = {
    scientist: openApi(rig, people.scientist),
    validator: openApi(rig, people.validator),
    maintainer: openApi(rig, people.maintainer),
  };
  const trusted = await openZone(rig.botEnvironment, 'trusted', null);
  const keyVariable = project.variables.find((one) => one.key === 'CDL_TRUSTED_KEYS')!.value;
  const keys = await readTrustedKeys({ CDL_TRUSTED_KEYS: keyVariable });
  const files: EditFiles = {
    folder: clone,
    read: (path) => readFile(join(clone, path), 'utf8'),
    write: (path, text) => writeFile(join(clone, path), text),
  };
  const stage: Stage = {
    rig,
    log,
    api,
    trusted,
    git: (who, ...args) => gitAs(rig, clone, people[who], args),

    async push(who, branch, edit, given = {}) {
      await stage.git(who, 'fetch', '--quiet', 'origin');
      const from = given.onTop ? `origin/${branch}` : 'origin/main';
      await stage.git(who, 'checkout', '--quiet', '--force', '-B', branch, from);
      if (typeof edit === 'function') await edit(files);
      else await files.write('cdl.yaml', withHyperparameters(await files.read('cdl.yaml'), edit));
      await stage.git(who, 'add', '--all');
      await stage.git(who, 'commit', '--quiet', '--allow-empty', '-m', given.message ?? `feat: ${branch}`);
      await stage.git(who, 'push', '--quiet', 'origin', `HEAD:refs/heads/${branch}`);
      return stage.git(who, 'rev-parse', 'HEAD');
    },

    propose: (who, branch, title) => api[who].openMergeRequest(branch, title),

    async botNotes(iid) {
      const notes = await api.maintainer.notes(iid);
      return notes.filter((note) => note.author.username === 'cdl-bot' && !note.system);
    },

    said: (iid, holds, what = `the bot saying ${holds}`) =>
      stage.until(what, async () => {
        for (const note of await stage.botNotes(iid)) {
          const match = holds.exec(note.body);
          if (match) return { note, match };
        }
        return null;
      }),

    async approveLine(iid) {
      const line = /\/approve ([0-9a-f]{6,64})/;
      return (await stage.said(iid, line, `the report of !${iid}`)).match[1]!;
    },

    async ask(who, iid, text) {
      const { id } = await api[who].comment(iid, text);
      const answer = await stage.said(iid, new RegExp(`cdl:reply:${id} `), `the answer to ${text}`);
      return answer.note.body;
    },

    async status(sha) {
      const all = await api.maintainer.statuses(sha);
      return all.find((one) => one.name === `cdl/${model}`) ?? null;
    },

    reaches: (iid, status, description = /./) =>
      stage.until(`!${iid} being ${status} (${description})`, async () => {
        const mr = await api.maintainer.mergeRequest(iid);
        const now = await stage.status(mr.sha);
        return now?.status === status && description.test(now.description ?? '') ? mr : null;
      }),

    async approve(iid) {
      const review = await stage.approveLine(iid);
      await api.validator.comment(iid, `/approve ${review}`);
      await stage.reaches(iid, 'success', /^approved$/);
      return review;
    },

    async merge(iid) {
      const ready = await stage.until(`!${iid} being mergeable`, async () => {
        const mr = await api.maintainer.mergeRequest(iid);
        return mr.detailed_merge_status === 'mergeable' ? mr : null;
      });
      const merged = await api.maintainer.merge(iid, ready.sha);
      return merged.merge_commit_sha!;
    },

    deployJob: (sha) =>
      stage.until(`the deploy job of ${sha.slice(0, 8)}`, () => {
        const jobs = [...project.jobs.values()].filter(
          (job) =>
            job.spec.name === 'deploy' &&
            project.pipelines.get(job.pipelineId)?.sha === sha &&
            ended.includes(job.status),
        );
        return jobs.at(-1) ?? null;
      }),

    trace: (job) => readFile(join(job.folder, 'trace.log'), 'utf8').catch(() => ''),

    async live() {
      const record = await trusted.readRecord(liveKey(model, model, 'production'));
      return record ? liveStateSchema.parse(record.value) : null;
    },

    async decisions() {
      const found: Decision[] = [];
      for await (const entry of trusted.listRecords(decisionPrefix(model, model, 'production'))) {
        found.push(openDecision((await trusted.readRecord(entry.key))?.value, keys));
      }
      return found;
    },

    async until(what, look, seconds = 150) {
      try {
        return await until(rig, what, look, seconds);
      } catch (error) {
        const failed = [...project.jobs.values()].filter((job) => job.status === 'failed').at(-1);
        const trace = failed ? (await stage.trace(failed)).split('\n').slice(-20) : [];
        throw new Error([String(error), ...log.slice(-15), ...trace].join('\n'), { cause: error });
      }
    },

    async close() {
      await rig.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return stage;
}

/** The text of a `cdl.yaml` with other hyperparameters. */
export function withHyperparameters(text: string, changes: Record<string, unknown>): string {
  const document = parseDocument(text);
  for (const [name, value] of Object.entries(changes)) {
    document.setIn(['models', model, 'hyperparameters', name], value);
  }
  return document.toString({ lineWidth: 0 });
}
