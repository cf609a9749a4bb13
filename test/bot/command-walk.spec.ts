import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTools } from '../../bot/tools.ts';
import type { Task } from '../../bot/types.ts';
import { digestJson } from '../../src/index.ts';
import { useDatabase } from './database.ts';
import { type Death, drain, mortal, stride } from './mortal.ts';
import { tell } from './story.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

/** Far more than it takes, on machines that do other things. */
const timeout = 3_600_000;

describe('a bot that is killed between any two calls of a command', () => {
  const database = useDatabase();
  let world: BotWorld;
  let story: ReturnType<typeof tell>;
  let change: number;
  beforeAll(async () => {
    world = await createBotWorld(
      database(),
      projectYaml().replace('  validator:', '  devops: [vera]\n  validator:'),
    );
    story = tell(world);
    change = await story.propose('good\n');
    await story.say('walt', change, await story.approveLine(change));
    await story.settle(change);
    await story.merge(change);
  });
  afterAll(async () => {
    const { violations, problems } = world.sandbox;
    await world.close();
    expect(violations).toEqual([]);
    expect(problems).toEqual([]);
  });

  /** Has a comment heard; `meanwhile` is what happens while the bot is down. What it answered. */
  async function hear(
    body: string,
    death: Death | null,
    calls: string[],
    meanwhile: () => Promise<unknown> = async () => undefined,
  ): Promise<string> {
    const tasks: Task[] = [];
    const { effects: _own, ...ports } = world.context;
    const comment = await world.say('vera', change, body);
    tasks.push({ kind: 'comment', change, comment });
    let isDown = false;
    let restarts = 0;
    const bot = {
      current: mortal(ports, tasks, calls, death),
      restart() {
        restarts++;
        isDown = true;
        bot.current = mortal(ports, tasks, [], null);
      },
    };
    const answers = world.comments(change).length;
    await drain(tasks, bot, database(), async () => {
      await world.sandbox.settled();
      if (isDown) await meanwhile();
      isDown = false;
    });
    expect(restarts).toBe(death ? 1 : 0);
    const said = world.comments(change).slice(answers);
    expect(said).toHaveLength(1);
    return said[0]!;
  }

  /** Hears it undisturbed once, then with every death worth walking to. */
  async function walk(
    body: string,
    once: (death: Death | null, calls: string[]) => Promise<unknown>,
  ): Promise<void> {
    // The first one looks up what the others know already.
    await once(null, []);
    const calls: string[] = [];
    await once(null, calls);
    const what = /\.(ensure|set|add|react|runPipeline|fastForward)/;
    const writes = calls.flatMap((name, at) => (what.test(name) ? [at] : []));
    expect(writes.length, `${body}: ${calls.join(' ')}`).toBeGreaterThan(4);
    const deaths: Death[] =
      stride > 0
        ? calls.flatMap((_, at) => (['before', 'after'] as const).map((when) => ({ at, when })))
        : writes.map((at) => ({ at, when: 'after' }));
    for (const death of deaths) await once(death, []);
  }

  const deployments = () =>
    [...world.project.pipelines.values()].filter(
      ({ inputs }) => inputs.cdl_task === 'deploy' && inputs.cdl_model === 'fashion',
    );

  let pushes = 0;
  /** Somebody pushes to the default branch. */
  async function pushToMain(): Promise<void> {
    const answer = await fetch(
      `${world.sandbox.url}/api/v4/projects/${world.project.id}/repository/commits`,
      {
        method: 'POST',
        headers: { 'private-token': world.people.evaluator.token, 'content-type': 'application/json' },
        body: JSON.stringify({
          branch: 'main',
          commit_message: 'docs: a word',
          actions: [{ action: 'create', file_path: `notes-${++pushes}.md`, content: 'a word\n' }],
        }),
      },
    );
    expect(answer.status).toBe(201);
    await world.sandbox.settled();
  }

  it('starts a deployment once, whatever else was asked for meanwhile', { timeout }, async () => {
    const { forge, state } = world.context;
    await walk('/deploy', async (death, calls) => {
      const before = deployments().length;
      const said = await hear('/deploy production', death, calls, async () => {
        const other = await forge.runPipeline('main', { cdl_task: 'deploy', cdl_model: 'other' });
        await state.setEvaluationRun({ question: digestJson(other.id), pipeline: other.id, head: '' });
      });
      const made = deployments().slice(before);
      const what = death ? `killed ${death.when} call ${death.at}` : 'undisturbed';
      expect(made, what).toHaveLength(1);
      expect(said, what).toContain(`/pipelines/${made[0]!.id} brings version 1`);
    });
  });

  it('starts two deployments that one comment asks for, each once', async () => {
    const { startDeployment } = createTools(world.context);
    const urls: string[] = [];
    for (const environment of ['staging', 'production', 'staging', 'production']) {
      urls.push((await startDeployment('4711', 'fashion', environment)).url);
    }
    expect(urls.slice(2)).toEqual(urls.slice(0, 2));
    expect(new Set(urls).size).toBe(2);
    expect(
      deployments()
        .slice(-2)
        .map(({ inputs }) => inputs.cdl_environment),
    ).toEqual(['staging', 'production']);
  });

  it('opens one change to train anew, also where somebody pushed meanwhile', { timeout }, async () => {
    const changes = world.project.mergeRequests;
    await walk('/retrain', async (death, calls) => {
      await pushToMain();
      const before = changes.size;
      const said = await hear('/retrain', death, calls, pushToMain);
      const what = death ? `killed ${death.when} call ${death.at}` : 'undisturbed';
      expect([...changes.keys()].slice(before), what).toHaveLength(1);
      const [made] = [...changes.values()].slice(before);
      expect(said, what).toContain(`merge_requests/${made!.iid}: it trains **fashion** with seed 2`);
      expect(await world.context.forge.commitAuthors(made!.iid), what).toHaveLength(1);
    });
  });
});
