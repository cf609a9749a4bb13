import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { announce, type BotEvent, eventsOf, sinkId, sinksOf } from '../../bot/announce.ts';
import { readBotConfig } from '../../bot/config.ts';
import { convergeChange } from '../../bot/converge.ts';
import { createEffects } from '../../bot/effects.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { mailEvent, type NotifySettings, noChannels, postEvent } from '../../bot/notify.ts';
import { readQueue } from '../../bot/queue.ts';
import type { BotContext, Facts, Task } from '../../bot/types.ts';
import { deadTasks, doTask, jobOf, taskName, taskOfKey } from '../../bot/work.ts';
import { type Job, openQueue, parseProject } from '../../src/index.ts';
import { doQueued, useDatabase } from './database.ts';
import { factsWith } from './facts.ts';
import { createBotWorld, projectYaml } from './world.ts';

const key = randomBytes(32);
const secret = `whsec_${key.toString('base64')}`;
const settings: NotifySettings = { secrets: [secret], smtp: null };

interface Delivery {
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}

/** Somebody's webhook; `answer` says how it answers. */
let server: Server;
let base: string;
let got: Delivery[];
let answer: (response: ServerResponse) => void;
beforeAll(async () => {
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { url = '', headers } = request;
    got.push({ url, headers, body: Buffer.concat(chunks).toString() });
    answer(response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});
beforeEach(() => {
  got = [];
  answer = (response) => response.writeHead(204).end();
});

/** Whether a delivery is signed as Standard Webhooks says, by our own sum. */
function isSigned({ headers, body }: Delivery, by = key): boolean {
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const wanted = `v1,${createHmac('sha256', by).update(signed).digest('base64')}`;
  return String(headers['webhook-signature']).split(' ').includes(wanted);
}

const now = new Date('2026-01-02T03:04:05.678Z');
const job = (name: string, state: 'success' | 'failed' | 'running'): Job => ({
  id: name,
  name,
  state,
  optional: false,
  url: '',
  reason: null,
  seconds: 1,
  endedAt: null,
  tags: [],
});
const withJobs = (...jobs: Job[]): Partial<Facts> => ({
  pipeline: { ...factsWith().pipeline!, jobs: [...jobs] },
});
const [event] = eventsOf(factsWith({ answer: null }), now) as [BotEvent];

describe('the events of a change', () => {
  const told = (facts: Facts) => eventsOf(facts, now).map(({ type, data }) => `${type} ${data.verdict}`);

  it('are ends of jobs, the candidate and the answer, of one model, with ids that say which', () => {
    const facts = factsWith(
      withJobs(job('tune: [fashion, 1]', 'success'), job('train (fashion)', 'success')),
    );
    expect(told(facts)).toEqual([
      'tuning success',
      'training success',
      'registration registered',
      'evaluation pass',
    ]);
    const ids = eventsOf(facts, now).map(({ id }) => id);
    expect(new Set(ids).size).toBe(4);
    expect(eventsOf(facts, new Date()).map(({ id }) => id)).toEqual(ids);
    expect(eventsOf(facts, now)[3]!.data).toMatchObject({
      project: 'fashion',
      change: '!12',
      version: 7,
      candidate: expect.stringMatching(/^[0-9a-f]{12}$/),
    });
  });

  it('wait for the last job of a step, and are told again when a repeated job ends otherwise', () => {
    const one = (...jobs: Job[]) =>
      eventsOf(factsWith({ ...withJobs(...jobs), claim: { kind: 'none' } }), now);
    expect(one(job('tune: [fashion, 1]', 'failed'), job('tune: [fashion, 2]', 'running'))).toEqual([]);
    expect(one(job('training-data', 'success'))).toEqual([]);
    const [failed] = one(job('train', 'failed'));
    const [passed] = one(job('train', 'success'));
    expect([failed?.data.verdict, passed?.data.verdict]).toEqual(['failed', 'success']);
    expect(failed?.id).not.toBe(passed?.id);
  });

  it('are no second training when the commit of the lock only finds the first again', () => {
    const { pipeline } = factsWith();
    const at = (id: string, state: 'running' | 'success', claim: Facts['claim']) =>
      eventsOf(
        factsWith({
          pipeline: {
            ...pipeline!,
            pipeline: { ...pipeline!.pipeline, id },
            state,
            jobs: [job('train', 'success')],
          },
          claim,
        }),
        now,
      ).flatMap((one) => (one.type === 'training' ? [one.id] : []));
    const { claim } = factsWith();
    expect(at('5', 'running', { kind: 'none' })).toEqual([]);
    const first = at('5', 'success', claim);
    expect(first).toHaveLength(1);
    expect(at('6', 'running', { ...claim, source: 'lock' } as Facts['claim'])).toEqual(first);
    expect(at('6', 'success', claim)).toEqual(first);
    expect(at('7', 'success', { kind: 'none' })).not.toEqual(first);
  });

  it('are none of a paused or merged change, and what the lock names was registered before', () => {
    const { claim, change } = factsWith();
    expect(told(factsWith({ paused: 'ada' }))).toEqual([]);
    expect(told(factsWith({ change: { ...change, state: 'merged' } }))).toEqual([]);
    const locked = { ...claim, source: 'lock' } as Facts['claim'];
    expect(told(factsWith({ claim: locked }))).toEqual(['evaluation pass']);
  });
});

describe('notify: of cdl.yaml', () => {
  const parse = (entry: string) => parseProject(projectYaml(`notify:\n  - ${entry}\n`)).notify!;

  it.each([
    ['{ webhook: "http://example.com/x" }', /an https URL/],
    ['{ webhook: "http://127.0.0.1.example.com/x" }', /an https URL/],
    ['{ webhook: "file:///etc/passwd" }', /an https URL/],
    ['{ webhook: "https://me:secret@example.com/x" }', /credentials do not belong/],
    ['{ email: ["a@example.com, b@example.com"] }', /email/i],
    ['{ email: ["a@example.com\\r\\nBcc: b@example.com"] }', /email/i],
    ['{ webhook: "https://example.com/", email: [a@example.com] }', /one of them/],
    ['{ events: [training] }', /one of them/],
    ['{ webhook: "https://example.com/", events: [traning] }', /notify/],
  ])('refuses %s', (entry, problem) => {
    expect(() => parse(entry)).toThrow(problem);
  });

  it('names each receiver once, and its name in the queue leads back to the task', () => {
    const twice = parse(
      '{ webhook: "https://example.com/x" }\n  - { webhook: "https://example.com/x", events: [tuning] }\n  - { email: [a@example.com, b@example.com], events: [tuning] }',
    );
    expect([...sinksOf(twice, 'tuning').values()]).toEqual([
      { webhook: 'https://example.com/x' },
      { email: 'a@example.com' },
      { email: 'b@example.com' },
    ]);
    expect(sinksOf(twice, 'training').size).toBe(1);
    const task: Task = {
      kind: 'notify',
      change: 7,
      event: event.id,
      sink: sinkId({ email: 'a@example.com' }),
    };
    expect(taskOfKey('team/x', jobOf('team/x', task).key)).toEqual(task);
  });
});

describe('a delivery to a webhook', () => {
  it('is the event, signed with every secret', async () => {
    const second = randomBytes(24);
    const secrets = [secret, `whsec_${second.toString('base64')}`];
    await postEvent(`${base}/hook?x=1`, event, { secrets }, now);
    const [one] = got;
    expect(one?.url).toBe('/hook?x=1');
    expect(JSON.parse(one!.body)).toEqual(event);
    expect(one!.headers['webhook-id']).toBe(event.id);
    expect(one!.headers['webhook-timestamp']).toBe('1767323045');
    expect([isSigned(one!), isSigned(one!, second), isSigned(one!, randomBytes(32))]).toEqual([
      true,
      true,
      false,
    ]);
  });

  it.each([301, 307, 404, 410, 500])(
    'that is answered %i is tried again, and goes nowhere else',
    async (status) => {
      answer = (response) => response.writeHead(status, { location: `${base}/elsewhere` }).end();
      const failed = postEvent(`${base}/secret-path`, event, settings, now);
      await expect(failed).rejects.toMatchObject({ retryable: true, status });
      await expect(failed).rejects.not.toThrow(/secret-path/);
      expect(got.map(({ url }) => url)).toEqual(['/secret-path']);
    },
  );

  it('does not read an answer that has no end', async () => {
    const gone = new Promise<void>((resolve) => {
      answer = (response) => {
        response.on('close', resolve).writeHead(200);
        const more = () => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536)));
        };
        response.on('drain', more);
        more();
      };
    });
    await postEvent(base, event, settings, now);
    await gone;
  });

  it('that nobody takes is tried again; without a secret nothing is sent', async () => {
    const closed = createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    closed.close();
    await once(closed, 'close');
    const nobody = postEvent(`http://127.0.0.1:${port}`, event, settings, now);
    await expect(nobody).rejects.toMatchObject({
      retryable: true,
      message: expect.stringContaining('ECONNREFUSED'),
    });
    await expect(postEvent(base, event, noChannels, now)).rejects.toThrow(/CDL_NOTIFY_SECRET/);
    expect(got).toEqual([]);
  });
});

describe('a mail', () => {
  let smtp: SMTPServer;
  let port: number;
  let mails: { from: string; to: string[]; text: string }[];
  let logins: string[];
  let refuse: Error | null;
  beforeEach(async () => {
    mails = [];
    logins = [];
    refuse = null;
    smtp = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS'],
      disableReverseLookup: true,
      logger: false,
      onAuth: ({ username, password }, _session, done) => {
        logins.push(`${username}:${password}`);
        done(null, { user: username });
      },
      async onData(stream, { envelope }, done) {
        const chunks: Buffer[] = [];
        for await (const chunk of stream) chunks.push(chunk as Buffer);
        const from = envelope.mailFrom ? envelope.mailFrom.address : '';
        const to = envelope.rcptTo.map(({ address }) => address);
        mails.push({ from, to, text: Buffer.concat(chunks).toString() });
        done(refuse);
      },
    });
    smtp.on('error', () => undefined);
    smtp.listen(0, '127.0.0.1');
    await once(smtp.server, 'listening');
    port = (smtp.server.address() as AddressInfo).port;
  });
  afterEach(() => new Promise<void>((resolve) => void smtp.close(resolve)));

  const by = (login = '') => ({
    smtp: { url: `smtp://${login}127.0.0.1:${port}`, from: 'cdl@example.com' },
  });

  it('goes to one address, as plain text with one line a fact and the id of the event', async () => {
    await mailEvent('olga@example.com', event, by());
    const [mail] = mails;
    expect(mail).toMatchObject({ from: 'cdl@example.com', to: ['olga@example.com'] });
    expect(mail!.text).toMatch(/^Subject: \[fashion\] registration of fashion: registered \(!12\)\r$/m);
    expect(mail!.text).toContain(`Message-ID: <${event.id}@example.com>`);
    expect(mail!.text).toMatch(/^Content-Type: text\/plain/m);
    expect(mail!.text).toMatch(/^version: 7\r$/m);
    expect(mail!.text).not.toMatch(/environment:|text\/html/);
  });

  it('takes no header and no line from what a change names', async () => {
    const evil = 'x\r\nBcc: eve@example.com\r\n\r\n<b>hi\u0000\u202e</b>\u2028';
    const data = { ...event.data, project: evil, model: evil, change: evil, verdict: evil };
    await mailEvent('olga@example.com', { ...event, data }, by());
    const [mail] = mails;
    expect(mail!.to).toEqual(['olga@example.com']);
    // Long lines are broken (quoted-printable), which says nothing.
    const text = mail!.text.replaceAll('=\r\n', '');
    expect(text).not.toMatch(/^(Bcc|<b>)/im);
    const [head = '', ...body] = text.split('\r\n\r\n');
    expect(head.match(/^\S+:/gm)?.map((one) => one.toLowerCase())).not.toContain('bcc:');
    expect(body.join('')).not.toMatch(/\p{Cf}|\p{Zl}|(?![\r\n])\p{Cc}/u);
  });

  it('is tried again when the server refuses it, and the password stays where it cannot be read', async () => {
    refuse = Object.assign(new Error('full'), { responseCode: 452 });
    await expect(mailEvent('olga@example.com', event, by())).rejects.toMatchObject({
      retryable: true,
      message: expect.stringContaining('452'),
    });
    // Nothing is encrypted there: no password for it.
    const failed = mailEvent('olga@example.com', event, by('cdl:geheim@'));
    await expect(failed).rejects.toMatchObject({ retryable: true });
    await expect(failed).rejects.not.toThrow(/geheim/);
    expect(logins).toEqual([]);
    await expect(mailEvent('olga@example.com', event, noChannels)).rejects.toThrow(/CDL_SMTP_URL/);
  });
});

describe('an event in the queue', () => {
  const database = useDatabase();

  it('is told with one id, whenever the bot is killed, and only while the default branch names who is told', async () => {
    const world = await createBotWorld(
      database(),
      projectYaml(`notify:\n  - { webhook: "${base}/hook", events: [training, registration] }\n`),
    );
    try {
      const { project } = world.context.forge;
      let isKilled = true;
      let clock = now;
      const queued: string[] = [];
      const run = (context: BotContext, task: Task) =>
        doTask(project, context, task, {
          database: database(),
          isolated: false,
          metrics: createMetrics({ process: false }),
          log: { info: () => undefined, warn: () => undefined, error: () => undefined },
          notify: settings,
        });
      const first = await openQueue(database(), {}, { concurrency: 1 });
      const effects = createEffects(world.context, async (task) => {
        if (task.kind !== 'notify') return;
        queued.push(task.event);
        await first.add(taskName(project), { task }, jobOf(project, task));
        if (isKilled) throw new Error('killed');
      });
      const bot = { ...world.context, effects, now: () => clock };
      // A change cannot have itself told to anybody else.
      const yaml = projectYaml(`notify:\n  - { webhook: "${base}/elsewhere" }\n`);
      await world.push('ada', 'exp/a', { 'model.ts': 'good\n', 'cdl.yaml': yaml });
      const change = await world.openChange('exp/a');
      await expect(convergeChange(bot, change, false)).rejects.toThrow('killed');
      isKilled = false;
      clock = new Date(now.getTime() + 60_000);
      await convergeChange(bot, change, false);
      await world.sandbox.settled();
      await convergeChange(bot, change, false);
      // The first twice, for it is not known to be queued; then nothing any more.
      expect(queued).toEqual([queued[0], queued[0], queued[2]]);
      await first.stop();
      const rows = await readQueue(database());
      expect(rows.map(({ state }) => state)).toEqual(['waiting', 'waiting']);
      expect(JSON.stringify(rows)).not.toContain('hook');

      const did = await doQueued<{ task: Task }>(database(), project, 2, ({ task }) => run(bot, task));
      const done = did.map(({ task }) => task);
      const types = got.map(({ body }) => (JSON.parse(body) as BotEvent).type);
      expect(types).toEqual(['training', 'registration']);
      expect((JSON.parse(got[0]!.body) as BotEvent).timestamp).toBe(now.toISOString());
      expect(got.every((one) => one.url === '/hook' && isSigned(one))).toBe(true);

      // Killed after it was told: told again, the same.
      await run(bot, done[0]!);
      expect(got[2]!.headers['webhook-id']).toBe(got[0]!.headers['webhook-id']);
      expect(got[2]!.body).toBe(got[0]!.body);

      // An answer that is no yes is the queue's to repeat; who is not named any more hears nothing.
      answer = (response) => response.writeHead(503).end();
      await expect(run(bot, done[0]!)).rejects.toMatchObject({ retryable: true });
      expect(await deadTasks(bot)).toEqual([]);
      got = [];
      await run(bot, { kind: 'notify', change, event: event.id, sink: (done[0] as { sink: string }).sink });
      await run(bot, { ...done[0]!, sink: sinkId({ webhook: `${base}/elsewhere` }) } as Task);
      expect(got).toEqual([]);
    } finally {
      await world.close();
    }
  });

  it('is none where nobody is to be told of it', async () => {
    const written: unknown[] = [];
    const note = async (...args: unknown[]) => void written.push(args);
    const context = {
      now: () => now,
      state: { cursor: async () => null },
      effects: { enqueue: note, setCursor: note },
    } as unknown as BotContext;
    await announce(context, factsWith(), []);
    await announce(context, factsWith(), [{ webhook: `${base}/`, events: ['tuning'] }]);
    expect(written).toEqual([]);
  });
});

describe('the settings', () => {
  const needed = {
    CDL_PROJECT: 'team/x',
    CDL_GITLAB_URL: 'https://gitlab.example.com',
    CDL_BOT_TOKEN: 'a-token-of-the-bot',
    CDL_SIGNING_TOKEN: secret,
    CDL_SIGNING_KEY: '-----BEGIN PRIVATE KEY-----',
    CDL_WORK_STORE: 'file:///w',
    CDL_TRUSTED_STORE: 'file:///t',
    CDL_BOT_FOLDER: '/b',
  };

  it.each([
    [{ CDL_NOTIFY_SECRET: 'whsec_short' }, /CDL_NOTIFY_SECRET is not/],
    [{ CDL_NOTIFY_SECRET: `${secret} and-a-word` }, /CDL_NOTIFY_SECRET is not/],
    [{ CDL_SMTP_URL: 'https://mail.example.com', CDL_SMTP_FROM: 'a@example.com' }, /CDL_SMTP_URL is not/],
    [{ CDL_SMTP_URL: 'smtps://a:100%@mail.example.com', CDL_SMTP_FROM: 'a@example.com' }, /percent-encoded/],
    [{ CDL_SMTP_URL: 'smtps://mail.example.com' }, /CDL_SMTP_FROM/],
    [{ CDL_SMTP_URL: 'smtps://mail.example.com', CDL_SMTP_FROM: 'A <a@example.com>' }, /CDL_SMTP_FROM/],
  ])('refuse %j', async (more, problem) => {
    await expect(readBotConfig({ ...needed, ...more })).rejects.toThrow(problem);
  });

  it('are read with two secrets, and are nothing where nothing is set', async () => {
    expect((await readBotConfig(needed)).notify).toEqual({ ...noChannels, proxy: null });
    const { notify } = await readBotConfig({ ...needed, CDL_NOTIFY_SECRET: `${secret} ${secret}` });
    expect(notify?.secrets).toEqual([secret, secret]);
  });
});
