import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { candidateDigest } from '../core/candidate.ts';
import { claimPath, claimSchema } from '../core/claim.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { evaluationKey } from '../core/evaluation.ts';
import { projectFile } from '../core/project.ts';
import { run } from '../exec/run.ts';
import { cacheFolder, npmRegistry, openZone } from '../steps/context.ts';
import { readLive } from '../steps/trusted.ts';
import { testItems } from './demo-predict.ts';
import { type Actor, type Rig, startRig } from './rig.ts';
import { type ApiMergeRequest, openApi, until } from './rig-client.ts';
import { portOf } from './sandbox.ts';
import { createStory, type Story } from './story.ts';
import type { CommandInput } from './types.ts';

const model = 'fashion';
const environment = 'production';

/** A clone a person works in: real git over HTTP, with their own token. */
class Workplace {
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
      document.setIn(['models', model, 'hyperparameters', name], value);
    }
    await writeFile(file, document.toString({ lineWidth: 0 }));
    await this.git(actor, 'commit', '--quiet', '--all', '-m', message);
    await this.git(actor, 'push', '--quiet', 'origin', branch);
    return this.git(actor, 'rev-parse', 'HEAD');
  }
}

/** The bot's report on a merge request, once it is there and holds what is looked for. */
async function reportOf(
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
async function followPipeline(rig: Rig, iid: number, sha: string, detail: (text: string) => void) {
  const api = openApi(rig, rig.people.scientist);
  return until(rig, `the pipeline of !${iid}`, async () => {
    const pipeline = (await api.pipelines(iid)).find((one) => one.sha === sha);
    if (!pipeline) return null;
    const jobs = await api.jobs(pipeline.id);
    const running = jobs.filter((job) => job.status === 'running').map((job) => job.name);
    const done = jobs.filter((job) => job.status === 'success').length;
    if (running.length > 0) detail(`job ${running.join(', ')} runs (${done} of ${jobs.length} done)`);
    // By its jobs: the status of a pipeline also waits for what the bot says of it.
    const failed = jobs.filter((job) => job.status === 'failed' || job.status === 'canceled');
    if (failed.length > 0) {
      const logs = await Promise.all(failed.map((job) => traceOf(rig, job.id)));
      throw new UserError(
        'training-failed',
        `pipeline ${pipeline.id}: ${failed.map((job) => `${job.name} ${job.status}`).join(', ')}\n${logs.join('\n')}`,
      );
    }
    return jobs.length > 0 && done === jobs.length ? { pipeline, jobs } : null;
  });
}

async function traceOf(rig: Rig, job: number): Promise<string> {
  const folder = rig.project.jobs.get(job)?.folder;
  const text = folder ? await readFile(join(folder, 'trace.log'), 'utf8').catch(() => '') : '';
  return text.split('\n').slice(-25).join('\n');
}

/** From the push of a branch to the bot's report on it. */
async function proposeChange(
  story: Story,
  rig: Rig,
  place: Workplace,
  change: { branch: string; title: string; told: string; parameters: Record<string, unknown> },
): Promise<{ mr: ApiMergeRequest; report: { id: number; body: string } }> {
  const { scientist } = rig.people;
  const api = openApi(rig, scientist);
  const opened = await story.chapter(change.told, async () => {
    const sha = await place.push(scientist, change.branch, change.parameters, change.title);
    const mr = await api.openMergeRequest(change.branch, change.title);
    story.milestone('pushed', { branch: change.branch, sha, merge_request: mr.iid, url: mr.web_url });
    return { text: `branch ${change.branch}, merge request !${mr.iid}  ${mr.web_url}`, value: { mr, sha } };
  });
  const version = await story.chapter(
    'The pipeline collects the data, trains and registers',
    async (detail) => {
      const { pipeline, jobs } = await followPipeline(rig, opened.mr.iid, opened.sha, detail);
      story.milestone('pipeline', {
        pipeline: pipeline.id,
        status: pipeline.status,
        jobs: jobs.map((job) => job.id),
        url: pipeline.web_url,
      });
      const register = jobs.find((job) => job.name === 'register')!;
      const response = await fetch(
        `${rig.sandbox.url}/api/v4/projects/${rig.project.id}/jobs/${register.id}/artifacts/${claimPath(model)}`,
        { headers: { 'private-token': scientist.token } },
      );
      const claim = claimSchema.parse(await response.json());
      const candidate = candidateDigest(claim.candidate);
      story.milestone('registered', { model, version: claim.version, candidate, job: register.id });
      const logs = await traceOf(rig, jobs.find((job) => job.name === 'train')!.id);
      const best = /Epoch \d+ of \d+ was best[^\n]*/.exec(logs)?.[0] ?? '';
      return {
        text: `${jobs.length} jobs, each in a clean clone  ${pipeline.web_url}\nversion ${claim.version}, candidate ${shortDigest(candidate)}${best ? `\n${best}` : ''}`,
        value: claim.version,
      };
    },
  );
  const report = await story.chapter(
    'The bot has it evaluated on the default branch and reports',
    async (detail) => {
      detail('the evaluation runs on the withheld test set');
      const evaluation = await until(rig, 'the evaluation', () => {
        const runs = [...rig.project.pipelines.values()].filter(
          (one) => one.source === 'api' && one.mergeRequestIid === null,
        );
        const last = runs.at(-1);
        if (!last || last.inputs.cdl_change !== String(opened.mr.iid)) return null;
        if (last.status === 'failed')
          throw new UserError('not-available', `the evaluation pipeline ${last.id} failed`);
        return last.status === 'success' ? last : null;
      });
      const question = String(evaluation.inputs.cdl_question);
      const trusted = await openZone(rig.botEnvironment, 'trusted', null);
      const answer = (await trusted.readRecord(evaluationKey(question as Digest)))?.value as {
        evaluation: Digest;
      };
      story.milestone('evaluated', { pipeline: evaluation.id, ref: evaluation.ref, question, ...answer });
      detail('the report is being written');
      const short = shortDigest(answer.evaluation, 8);
      const found = await until(rig, 'the report', () => reportOf(rig, opened.mr.iid, new RegExp(short)));
      const url = `${opened.mr.web_url}#note_${found.id}`;
      story.milestone('reported', { note: found.id, version, url });
      const head = found.body
        .replace(/<!--[\s\S]*?-->/g, '')
        .split('\n')
        .map((line) => line.replace(/[#*`\\]/g, '').trim())
        .filter(Boolean)
        .slice(0, 2);
      return { text: [...head, url].join('\n'), value: found };
    },
  );
  return { mr: opened.mr, report };
}

async function approveAndMerge(
  story: Story,
  rig: Rig,
  iid: number,
  version: { mr: ApiMergeRequest },
): Promise<void> {
  const validator = openApi(rig, rig.people.validator);
  const maintainer = openApi(rig, rig.people.maintainer);
  await story.chapter('Vera, the validator, reads it and answers with the line of the report', async () => {
    const asked = await until(rig, 'the approval line', () =>
      reportOf(rig, iid, /\/approve ([0-9a-f]{6,64})/),
    );
    const line = asked.match[0];
    const note = await validator.comment(iid, line);
    await until(rig, 'the approval', async () => {
      const mr = await maintainer.mergeRequest(iid);
      const statuses = await maintainer.statuses(mr.sha);
      return statuses.some((one) => one.name === `cdl/${model}` && one.status === 'success') ? true : null;
    });
    story.milestone('approved', {
      note: note.id,
      review: asked.match[1],
      by: rig.people.validator.user.username,
    });
    return { text: `“${line}” — signed by the bot`, value: null };
  });
  await story.chapter('Max merges; the lock entry comes along', async (detail) => {
    const mr = await until(rig, 'the merge request being mergeable', async () => {
      const now = await maintainer.mergeRequest(iid);
      detail(`merge status ${now.detailed_merge_status}`);
      return now.detailed_merge_status === 'mergeable' ? now : null;
    });
    const merged = await maintainer.merge(iid, mr.sha);
    story.milestone('merged', { merge_request: iid, sha: merged.merge_commit_sha, url: version.mr.web_url });
    return { text: `merge commit ${merged.merge_commit_sha?.slice(0, 12)}`, value: null };
  });
}

async function deployed(story: Story, rig: Rig): Promise<string> {
  return story.chapter('The deploy job checks the decision and brings it to production', async (detail) => {
    const trusted = await openZone(rig.botEnvironment, 'trusted', null);
    const live = await until(rig, 'the deployment', async () => {
      const jobs = [...rig.project.jobs.values()].filter((job) => job.spec.name === 'deploy');
      const last = jobs.at(-1);
      if (last) detail(`job deploy is ${last.status}`);
      if (last?.status === 'failed') throw new UserError('deploy-failed', await traceOf(rig, last.id));
      const { state } = await readLive(trusted, model, model, environment);
      return last?.status === 'success' && state.current && state.endpoint ? { state, job: last.id } : null;
    });
    const { state, job } = live;
    story.milestone('deployed', {
      environment,
      version: state.current!.version,
      candidate: state.current!.candidate,
      job,
      endpoint: state.endpoint,
    });
    return { text: `version ${state.current!.version} at ${state.endpoint}`, value: state.endpoint! };
  });
}

async function predict(story: Story, rig: Rig, endpoint: string): Promise<void> {
  await story.chapter('The served model answers through both protocols', async () => {
    const { x, y, classes } = await testItems(rig, 200);
    const v2 = await fetch(`${endpoint}/v2/models/${model}/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        inputs: [{ name: 'input', datatype: 'UINT8', shape: [y.length, 28, 28], data: x.flat() }],
      }),
    });
    if (!v2.ok) throw new UserError('deploy-failed', `v2 inference: ${v2.status} ${await v2.text()}`);
    const answer = (await v2.json()) as { outputs: { name: string; data: string[] }[] };
    const labels = answer.outputs.find((output) => output.name === 'label')!.data;
    const right = labels.filter((label, i) => label === classes[y[i]!]).length;
    const seldon = await fetch(`${endpoint}/api/v1.0/predictions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ data: { tensor: { shape: [1, 28, 28], values: x[0] } } }),
    });
    if (!seldon.ok)
      throw new UserError('deploy-failed', `Seldon v1: ${seldon.status} ${await seldon.text()}`);
    const version = v2.headers.get('x-cdl-version');
    story.milestone('predicted', {
      endpoint,
      items: y.length,
      right,
      served_version: version,
      v2: v2.status,
      seldon: seldon.status,
    });
    return {
      text: `${right} of ${y.length} withheld pictures told right by version ${version}`,
      value: null,
    };
  });
}

/** `cdl demo`: the main job from start to end, nothing acted. Anybody's own good or bad change would get the same treatment. */
export async function demo(input: CommandInput): Promise<number> {
  const started = performance.now();
  const story = createStory(input.console, started);
  const folder = await mkdtemp(join(tmpdir(), 'cdl-demo-'));
  let rig: Rig | null = null;
  const path = input.env.PATH ?? '/usr/local/bin:/usr/bin:/bin';
  try {
    story.say('A model goes from a push to production. Everything below really happens, on this machine.\n');
    const logs: string[] = [];
    rig = await story.chapter('A forge, two runners, a database and the bot start', async () => {
      const made = await startRig({
        folder,
        cacheFolder: cacheFolder(input.env),
        port: portOf(input.options.port),
        npmRegistry: await npmRegistry(input.env),
        caFile: input.env.NODE_EXTRA_CA_CERTS ?? null,
        systemPath: path,
        version: input.version,
        project: `acme/${model}`,
        log: (line) => logs.push(line),
      });
      return { text: `sandbox ${made.sandbox.url} (GitLab-compatible), bot ${made.bot.url}`, value: made };
    });
    const live = rig;
    const place = await story.chapter('cdl init fashion makes the project; Max pushes it', async () => {
      const target = join(folder, 'work', model);
      const made = await run(
        process.execPath,
        [process.argv[1]!, 'init', 'fashion', target, '--validator', 'vera', '--json'],
        {
          env: { PATH: path, HOME: folder },
          cwd: folder,
        },
      );
      if (made.code !== 0) throw new UserError('not-available', made.stderr.toString());
      const place = new Workplace(target, live, path);
      await place.git(live.people.maintainer, 'remote', 'add', 'origin', live.repository);
      await place.git(live.people.maintainer, 'push', '--quiet', 'origin', 'main');
      return { text: `${live.sandbox.url}/acme/${model}`, value: place };
    });
    const first = await proposeChange(story, rig, place, {
      branch: 'wider-network',
      title: 'Widen the network to 96 units',
      told: 'Dana, the data scientist, pushes a wider network',
      parameters: { hidden: 96 },
    });
    await approveAndMerge(story, rig, first.mr.iid, first);
    const endpoint = await deployed(story, rig);
    await predict(story, rig, endpoint);

    const second = await proposeChange(story, rig, place, {
      branch: 'quick-training',
      title: 'Train for one epoch, with big steps, to save time',
      told: 'Dana pushes another change, to save training time',
      parameters: { epochs: 1, learning_rate: 0.00002 },
    });
    await refuse(story, rig, second.mr, endpoint);
    await finish(input, story, rig, endpoint, started);
    return 0;
  } finally {
    await rig?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function refuse(story: Story, rig: Rig, mr: ApiMergeRequest, endpoint: string): Promise<void> {
  await story.chapter('The gate refuses it: it cannot be approved, merged or deployed', async () => {
    const maintainer = openApi(rig, rig.people.maintainer);
    const status = await until(rig, 'the verdict', async () => {
      const statuses = await maintainer.statuses(mr.sha);
      const ours = statuses.find((one) => one.name === `cdl/${model}`);
      if (ours?.status === 'success') throw new UserError('gate-refused', 'the gate let it through');
      return ours?.status === 'failed' ? ours : null;
    });
    const now = await maintainer.mergeRequest(mr.iid);
    const trial = await maintainer.merge(mr.iid, now.sha).then(
      () => 'merged',
      (error: Error) => /: (\d{3}) /.exec(error.message)?.[1] ?? error.message,
    );
    if (trial === 'merged') throw new UserError('gate-refused', 'a refused change could be merged');
    const answers = await fetch(`${endpoint}/v2/models/${model}`);
    story.milestone('refused', {
      merge_request: mr.iid,
      sha: mr.sha,
      status: status.status,
      why: status.description,
      merge_answer: Number(trial),
      still_served: answers.headers.get('x-cdl-version'),
    });
    return {
      text: `${status.description}\nmerging it: HTTP ${trial}; production still serves the approved version`,
      value: null,
    };
  });
}

async function finish(
  input: CommandInput,
  story: Story,
  rig: Rig,
  endpoint: string,
  started: number,
): Promise<void> {
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const { violations } = rig.sandbox;
  story.milestone('done', {
    seconds: Number(seconds),
    url: rig.sandbox.url,
    endpoint,
    undocumented_requests: violations.length,
  });
  if (violations.length > 0) {
    const list = violations.map((one) => `${one.method} ${one.path}: ${one.reason}`).join('\n');
    throw new UserError('forge-denied', `requests outside GitLab's documented API:\n${list}`);
  }
  story.say(
    `\nDone in ${seconds} s. ${rig.sandbox.requests.length} API requests, each within GitLab's documented API.\n`,
  );
  const base = `${rig.sandbox.url}/acme/${model}`;
  if (!input.options.keep) {
    story.say(
      'Run again with --keep to look around: merge requests with reports, pipelines, the served model.',
    );
    return;
  }
  story.say(
    [
      `  merge requests  ${base}/-/merge_requests/1 (approved)  ${base}/-/merge_requests/2 (refused)`,
      `  served model    ${endpoint}/v2/models/${model}   ${endpoint}/metrics`,
      `  try your own    git clone ${rig.repository.replace('://', `://dana:${rig.people.scientist.token}@`)}`,
      '',
      'Stop with Ctrl-C.',
    ].join('\n'),
  );
  await new Promise<void>((done) => {
    if (input.console.signal.aborted) done();
    input.console.signal.addEventListener('abort', () => done(), { once: true });
  });
}
