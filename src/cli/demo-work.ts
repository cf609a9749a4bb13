import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { UserError } from '../core/error.ts';
import { parseProject, projectFile } from '../core/project.ts';
import { run } from '../exec/run.ts';
import type { Actor, Rig } from './rig.ts';
import { openApi, until } from './rig-client.ts';
import type { Detail } from './story.ts';

/** The model of a demo: the examples call project and model alike. */
export const modelOf = (rig: Rig): string => rig.project.path;
/** Where it is deployed. */
export const environment = 'production';

/** A clone a person works in: real git over HTTP, with their own token. */
export class Workplace {
  readonly folder: string;
  readonly rig: Rig;
  readonly path: string;

  constructor(folder: string, rig: Rig, path: string) {
    this.folder = folder;
    this.rig = rig;
    this.path = path;
  }

  async git(actor: Actor, ...args: string[]): Promise<string> {
    const basic = Buffer.from(`${actor.user.username}:${actor.token}`).toString('base64');
    const result = await run('git', args, {
      cwd: this.folder,
      env: {
        PATH: this.path,
        HOME: this.rig.folder,
        GIT_AUTHOR_NAME: actor.user.name,
        GIT_AUTHOR_EMAIL: `${actor.user.username}@example.com`,
        GIT_COMMITTER_NAME: actor.user.name,
        GIT_COMMITTER_EMAIL: `${actor.user.username}@example.com`,
        GIT_TERMINAL_PROMPT: '0',
        // In the environment, not in the remote's URL or on the command line, where others could read it.
        GIT_CONFIG_COUNT: '1',
        GIT_CONFIG_KEY_0: 'http.extraHeader',
        GIT_CONFIG_VALUE_0: `Authorization: Basic ${basic}`,
      },
    });
    if (result.code !== 0)
      throw new UserError('forge-denied', `git ${args.join(' ')}: ${result.stderr.toString().trim()}`);
    return result.stdout.toString().trim();
  }

  /** Has the first data set read an archive that lies on this machine already; its pin stays. */
  async useArchive(actor: Actor, archive: string): Promise<void> {
    const file = join(this.folder, projectFile);
    const document = parseDocument(await readFile(file, 'utf8'));
    const [name] = Object.keys(parseProject(document.toString()).datasets);
    const source = ['datasets', name!, 'sources', 0];
    document.deleteIn([...source, 'https']);
    document.setIn([...source, 'file'], [archive]);
    await writeFile(file, document.toString({ lineWidth: 0 }));
    await this.git(actor, 'commit', '--quiet', '--all', '-m', 'chore: read the archive from this machine');
  }

  /** Changes hyperparameters of the model in `cdl.yaml`, on a new branch off the newest main, and pushes it. */
  async push(
    actor: Actor,
    branch: string,
    changes: Record<string, unknown>,
    message: string,
  ): Promise<string> {
    await this.git(actor, 'fetch', '--quiet', 'origin');
    await this.git(actor, 'checkout', '--quiet', '-B', branch, 'origin/main');
    const file = join(this.folder, projectFile);
    const document = parseDocument(await readFile(file, 'utf8'));
    for (const [name, value] of Object.entries(changes)) {
      const path = ['models', modelOf(this.rig), 'hyperparameters', name];
      if (value === undefined) document.deleteIn(path);
      else document.setIn(path, value);
    }
    await writeFile(file, document.toString({ lineWidth: 0 }));
    await this.git(actor, 'commit', '--quiet', '--all', '-m', message);
    await this.git(actor, 'push', '--quiet', 'origin', branch);
    return this.git(actor, 'rev-parse', 'HEAD');
  }
}

/** The bot's report on a merge request, once it is there and holds what is looked for. */
export async function reportOf(
  rig: Rig,
  iid: number,
  holds: RegExp,
): Promise<{ id: number; body: string; match: RegExpExecArray } | null> {
  for (const note of await openApi(rig, rig.people.scientist).notes(iid)) {
    const match = note.author.username === 'cdl-bot' && !note.system ? holds.exec(note.body) : null;
    if (match) return { id: note.id, body: note.body, match };
  }
  return null;
}

/** Follows the newest pipeline of a merge request at a commit until it ends; tells which job runs. */
export async function followPipeline(rig: Rig, iid: number, sha: string, detail: Detail) {
  const api = openApi(rig, rig.people.scientist);
  let heard = '';
  return until(rig, `the pipeline of !${iid}`, async (moved) => {
    const pipeline = (await api.pipelines(iid)).find((one) => one.sha === sha);
    if (!pipeline) return null;
    const jobs = await api.jobs(pipeline.id);
    const running = jobs.filter((job) => job.status === 'running');
    const done = jobs.filter((job) => job.status === 'success').length;
    const logs = await Promise.all(running.map((job) => traceOf(rig, job.id)));
    if (running.length > 0) {
      // GitLab numbers what could be several also where it is one.
      const names = running.map((job) => job.name.replace(/ 1\/1$/, '')).join(', ');
      const share = logs.flatMap((log) => [...log.matchAll(/: (\d+ %)$/gm)]).at(-1)?.[1];
      const verb = running.length > 1 ? 'run' : 'runs';
      detail(`job${running.length > 1 ? 's' : ''} ${names} ${verb} (${done} of ${jobs.length} done)`, share);
    }
    // A training takes as long as it takes: what counts is that it says something.
    const news = `${done} ${logs.join('\n')}`;
    if (news !== heard) moved();
    heard = news;
    // By its jobs: the status of a pipeline also waits for what the bot says of it.
    const failed = jobs.filter((job) => job.status === 'failed' || job.status === 'canceled');
    if (failed.length > 0) {
      const last = await Promise.all(failed.map((job) => traceOf(rig, job.id)));
      throw new UserError(
        'training-failed',
        `pipeline ${pipeline.id}: ${failed.map((job) => `${job.name} ${job.status}`).join(', ')}\n${last.join('\n')}`,
      );
    }
    return jobs.length > 0 && done === jobs.length ? { pipeline, jobs } : null;
  });
}

/** The last lines of a job's log. */
export async function traceOf(rig: Rig, job: number, lines = 25): Promise<string> {
  const folder = rig.project.jobs.get(job)?.folder;
  const text = folder ? await readFile(join(folder, 'trace.log'), 'utf8').catch(() => '') : '';
  return text.split('\n').slice(-lines).join('\n');
}
