import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { run } from '../exec/run.ts';
import { cacheFolder, npmRegistry } from '../steps/context.ts';
import { approveAndMerge, deployed, predict, proposeChange, refuse } from './demo-chapters.ts';
import { newsArchive, tellNews } from './demo-news.ts';
import { tellSearch } from './demo-tune.ts';
import { modelOf, Workplace } from './demo-work.ts';
import { portOf } from './port.ts';
import { type Rig, startRig } from './rig.ts';
import { createStory, type Story } from './story.ts';
import type { CommandInput } from './types.ts';

/** What each demo begins with (`cdl init`), and the project and model of it. */
const demos = {
  fashion: { example: 'fashion', project: 'fashion' },
  news: { example: 'news', project: 'news' },
  'news-torch': { example: 'news-torch', project: 'news' },
  tune: { example: 'fashion', project: 'fashion' },
} as const;

const isDemo = (name: string): name is keyof typeof demos => Object.hasOwn(demos, name);

/** Throws UserError not-available where the jobs' `python3` has not what the example trains with. */
async function requireTorch(path: string): Promise<void> {
  const program = ['-c', 'import torch, onnx, numpy'];
  const tried = await run('python3', program, { env: { PATH: path } }).catch((error: Error) => error);
  if (!(tried instanceof Error) && tried.code === 0) return;
  const said = tried instanceof Error ? tried.message : tried.stderr.toString().trim().split('\n').at(-1);
  throw new UserError(
    'not-available',
    `python3 cannot train the example: ${said}`,
    'python3 -m venv venv && . venv/bin/activate && pip install -r templates/news-torch/requirements.txt',
  );
}

/** `cdl demo`: the main job from start to end, nothing acted. Anybody's own good or bad change would get the same treatment. */
export async function demo(input: CommandInput): Promise<number> {
  const told = input.args[0] ?? 'fashion';
  if (!isDemo(told)) {
    throw new UserError('usage', `there is no demo of "${told}"; there is ${Object.keys(demos).join(', ')}`);
  }
  const { example, project } = demos[told];
  const path = input.env.PATH ?? '/usr/local/bin:/usr/bin:/bin';
  if (told === 'news-torch') await requireTorch(path);
  const archive = project === 'news' ? await newsArchive(input) : null;
  const started = performance.now();
  const story = createStory(input.console, started);
  const folder = await mkdtemp(join(tmpdir(), 'cdl-demo-'));
  let rig: Rig | null = null;
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
        signal: input.console.signal,
        temporary: true,
        systemPath: path,
        version: input.version,
        project: `acme/${project}`,
        // The two jobs of the search.
        ...(told === 'tune' && { jobs: 2 }),
        log: (line) => logs.push(line),
      });
      return { text: `sandbox ${made.sandbox.url} (GitLab-compatible), bot ${made.bot.url}`, value: made };
    });
    const live = rig;
    const place = await story.chapter(`cdl init ${example} makes the project; Max pushes it`, async () => {
      const target = join(folder, 'work', example);
      const made = await run(
        process.execPath,
        [
          process.argv[1]!,
          'init',
          example,
          target,
          '--validator',
          'vera',
          '--json',
          ...(told === 'tune' ? ['--tune'] : []),
        ],
        {
          env: { PATH: path, HOME: folder },
          cwd: folder,
        },
      );
      if (made.code !== 0) throw new UserError('not-available', made.stderr.toString());
      const place = new Workplace(target, live, path);
      if (archive) await place.useArchive(live.people.maintainer, archive);
      await place.git(live.people.maintainer, 'remote', 'add', 'origin', live.repository);
      await place.git(live.people.maintainer, 'push', '--quiet', 'origin', 'main');
      return { text: `${live.sandbox.url}/acme/${project}`, value: place };
    });
    if (told === 'tune') {
      const endpoint = await tellSearch(story, rig, place);
      await finish(input, story, rig, endpoint, started, told);
      return 0;
    }
    if (project === 'news') {
      const endpoint = await tellNews(story, rig, place, example === 'news');
      await finish(input, story, rig, endpoint, started, told);
      return 0;
    }
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
    await finish(input, story, rig, endpoint, started, told);
    return 0;
  } finally {
    await rig?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function finish(
  input: CommandInput,
  story: Story,
  rig: Rig,
  endpoint: string,
  started: number,
  told: string,
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
  const model = modelOf(rig);
  const base = `${rig.sandbox.url}/acme/${model}`;
  if (!input.options.keep) {
    // npm keeps what is not behind its own -- to itself.
    const again = input.env.npm_lifecycle_event ? 'npm run demo --' : 'cdl demo';
    story.say(
      `Look around (merge requests with reports, pipelines, the served model):\n  ${again} ${told} --keep`,
    );
    return;
  }
  story.say(
    [
      `  merge requests  ${base}/-/merge_requests`,
      `  releases        ${base}/-/releases`,
      `  the bot         ${rig.statusPage}`,
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
