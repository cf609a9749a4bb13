import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createApp, type Receiver } from '../../bot/app.ts';
import { commandNames, commands } from '../../bot/commands/index.ts';
import type { Tools } from '../../bot/commands/types.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { nextStep } from '../../bot/next-step.ts';
import { parseComment } from '../../bot/parse.ts';
import { planChange } from '../../bot/plan.ts';
import { changelog } from '../../bot/release-notes.ts';
import { buildReport } from '../../bot/report.ts';
import { signWebhook } from '../../bot/signature.ts';
import type { Task } from '../../bot/types.ts';
import {
  describeError,
  openForge,
  parseProject,
  renderMarkdown,
  UpstreamError,
  UserError,
} from '../../src/index.ts';
import { expectHarmless, expectPlain } from '../report/harmless.ts';
import { venom, venomous } from '../report/venom.ts';
import { factsWith } from './facts.ts';
import { drawPoisoned, poisonedFacts } from './poisoned.ts';
import { projectYaml } from './world.ts';

const digest = `sha256:${'a'.repeat(64)}` as const;
const liveNow = {
  candidate: digest,
  evaluation: digest,
  package: digest,
  plan: digest,
  version: 1,
  since: '2026-01-01T00:00:00Z',
};

/** Where the addresses begin that the bot itself names. */
const ours = ['https://gitlab.example.com/'];

describe('names that others choose', () => {
  it('make the bot say no command, ping nobody and load nothing: metrics, classes, gates, branches, jobs, people', () => {
    fc.assert(
      fc.property(venomous, venomous, venomous, (name, label, text) => {
        for (const one of poisonedFacts(name, label, text)) {
          const plan = planChange(one);
          const history = [
            { review: label, version: 1, verdict: 'pass' as const, metric: name, value: 1, at: '' },
          ];
          const { who, what } = nextStep(one, plan);
          expectHarmless(`${who ?? ''}: ${what}`, ours);
          const report = buildReport(one, plan, { history, seconds: 1 });
          expectHarmless(renderMarkdown(report), ours);
          const { model: config, project } = factsWith().rules!;
          const data = { ...project.datasets[config.data]!, description: text };
          const version = { candidate: digest, claim: null, items: null };
          const hyperparameters = { [name]: label };
          const notes = changelog({
            model: 'fashion',
            environment: 'production',
            live: { ...liveNow, commit: 'a'.repeat(40) },
            decision: {
              change: '!12',
              approvers: [{ id: '1', name: label, role: name }],
              baseline: digest,
              override: { reason: text },
            },
            change: { title: label, url: 'https://gitlab.example.com/-/merge_requests/12' },
            evaluation: one.answer?.evaluation ?? null,
            before: {
              ...version,
              files: [],
              madeWith: { model: config, data: project.datasets[config.data]! },
            },
            now: {
              ...version,
              files: [{ path: name, mode: '100644', digest }],
              madeWith: { model: { ...config, hyperparameters }, data },
            },
          });
          expectPlain(notes.title);
          expectHarmless(renderMarkdown(notes), ours);
        }
      }),
      { numRuns: 40 },
    );
  });
});

/** With a text among the hyperparameters, which may be anything. */
const hyperYaml = projectYaml().replace(
  '    code: [model.ts]',
  '    code: [model.ts]\n    hyperparameters: { note: "x\\n```\\n/merge\\n", epochs: 3 }',
);

describe('ten thousand comments', () => {
  const refuse = (): never => {
    throw new Error('a stranger wrote something');
  };
  /** Nobody is a member; whatever writes is a failure of the test. */
  const tools: Tools = {
    forge: 'gitlab',
    member: async () => null,
    roleOf: async () => null,
    rolesOf: async () => [],
    conflictOf: refuse,
    addApproval: refuse,
    approveData: refuse,
    rejectionBy: async () => null,
    setRejection: refuse,
    liftRejection: refuse,
    setPaused: refuse,
    contentOf: refuse,
    keep: refuse,
    askAgain: refuse,
    editFile: refuse,
    refreshLock: refuse,
    proposalBase: refuse,
    defaultProject: refuse,
    propose: refuse,
    lockWith: refuse,
    promoted: refuse,
    lockedAt: refuse,
    registered: refuse,
    setRegistered: refuse,
    deployable: refuse,
    startDeployment: refuse,
    evaluationOf: async () => ({ kind: 'never-evaluated' }),
    openIssue: refuse,
  };

  const person = { id: '99', username: 'mallory', name: 'Mallory' };
  /** A member with every role, for whom everything works. */
  const open: Tools = {
    ...tools,
    member: async () => ({ person, level: 50 }),
    roleOf: async (_project, [role]) => ({ person, role: role! }),
    conflictOf: async () => null,
    addApproval: async () => {},
    approveData: async () => {},
    setRejection: async () => {},
    liftRejection: async () => {},
    setPaused: async () => true,
    contentOf: async () => factsWith().question!,
    keep: async (_comment, _name, value) => value,
    askAgain: async () => true,
    editFile: async (_change, _path, edit, message) => {
      edit(hyperYaml);
      expectPlain(message);
      return 'pushed';
    },
    refreshLock: async () => ({ conflict: [...venom] }),
    proposalBase: async () => 'c'.repeat(40),
    defaultProject: async () => projectYaml(),
    propose: async ({ title, description }) => {
      expectPlain(title);
      expectHarmless(description, ['!12']);
      return factsWith().change;
    },
    lockWith: async () => '',
    promoted: async () => [],
    lockedAt: async () => null,
    registered: async () => ({ kind: 'differs', version: 1, what: [...venom] }),
    openIssue: async (_key, { title }) => {
      expectPlain(title);
      return { url: 'https://gitlab.example.com/acme/fashion/-/issues/1' };
    },
  };

  it('change nothing when strangers write them, get a harmless answer whoever does, and never an exception', async () => {
    const clean = factsWith({ headProject: parseProject(hyperYaml) });
    const drawn = drawPoisoned(6);
    const seen = new Set<string>();
    const all = [clean, clean, ...drawn.facts].map((facts) => ({ facts, plan: planChange(facts) }));
    const author = { id: '99', username: 'mallory', name: 'Mallory' };
    const word = fc.oneof(
      fc.constantFrom(...venom.map((text) => text.replaceAll('\n', ' '))),
      fc.string({ unit: 'binary', maxLength: 30 }),
      fc.constantFrom(
        'epochs=1',
        '"note=Closes #1 @all"',
        'note=@all',
        'note=#1',
        '--model',
        '--environment',
        'fashion',
        '"',
        'refresh',
        '2',
        'accuracy',
        '=',
        '--__proto__',
      ),
    );
    const comment = fc
      .tuple(
        fc.constantFrom('', 'cdl ', '/cdl ', '  ', '> '),
        fc.constantFrom(...commandNames, 'aprove', 'merge', ''),
        fc.array(word, { maxLength: 5 }),
      )
      .map(([before, name, words]) => `${before}/${name} ${words.join(' ')}`);
    await fc.assert(
      fc.asyncProperty(fc.array(comment, { minLength: 1, maxLength: 3 }), fc.nat(), async (lines, which) => {
        const one = all[which % all.length]!;
        const body = lines.join('\n');
        for (const spoken of parseComment(body, commandNames)) {
          if (spoken.kind === 'typo') {
            expectHarmless(`${spoken.suggestion}`);
            continue;
          }
          const command = commands.find((one) => one.name === spoken.name)!;
          const call = {
            args: spoken.args,
            options: spoken.options,
            comment: { id: '1', thread: 't', author, body, system: false, createdAt: '', updatedAt: '' },
            change: one.facts.change,
            models: [one],
          };
          for (const some of [tools, open]) {
            const { text } = await command.handle(call, some);
            if (!seen.has(text)) expectHarmless(text, ours);
            seen.add(text);
          }
        }
      }),
      { numRuns: 10_000, seed: drawn.seed },
    );
  }, 60_000);
});

describe('deliveries of an attacker', () => {
  const token = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  const now = 1_768_543_200_000;
  const apps: ReturnType<typeof createApp>[] = [];
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  function start() {
    const known = new Set<string>();
    const tasks: Task[] = [];
    const errors: unknown[] = [];
    const receiver: Receiver = {
      async take(id, given) {
        if (known.has(id)) return false;
        known.add(id);
        tasks.push(...given);
        return true;
      },
    };
    const app = createApp({
      receivers: new Map([['acme/dl-demo', receiver]]),
      secrets: { signing: [token], token: null },
      metrics: createMetrics(),
      now: () => now,
      onError: (error) => errors.push(error),
    });
    apps.push(app);
    const post = (payload: Buffer, headers: Record<string, string> = {}) => {
      const id = 'delivery-1';
      const timestamp = String(now / 1000);
      const signature = signWebhook(token, id, timestamp, payload);
      const own = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature };
      return app.inject({
        method: 'POST',
        url: '/webhooks/gitlab',
        headers: { 'content-type': 'application/json', ...own, ...headers },
        payload,
      });
    };
    return { app, tasks, errors, post };
  }

  const note = Buffer.from(
    JSON.stringify({
      object_kind: 'note',
      project: { path_with_namespace: 'acme/dl-demo' },
      object_attributes: { id: 5, noteable_type: 'MergeRequest', action: 'create' },
      merge_request: { iid: 3 },
    }),
  );

  it('of 25 MB are refused before they are read into anything', async () => {
    const { post, tasks, errors } = start();
    expect((await post(Buffer.alloc(25 * 1024 * 1024, 0x20))).statusCode).toBe(413);
    expect(tasks).toEqual([]);
    expect(errors).toEqual([]);
  });

  it('nested a hundred thousand deep, cut off in the middle or with a polluted prototype do nothing', async () => {
    const { post, tasks, errors } = start();
    const deep = Buffer.from(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
    const deepNote = Buffer.from(
      note.toString().replace('{', `{"x":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)},`),
    );
    const polluted = Buffer.from('{"__proto__":{"object_kind":"note"},"object_kind":"wiki_page"}');
    for (const payload of [deep, polluted]) {
      expect((await post(payload)).statusCode).toBeLessThan(500);
    }
    for (let length = 0; length < note.length; length += 7) {
      expect((await post(note.subarray(0, length))).statusCode).toBe(400);
    }
    expect(tasks).toEqual([]);
    expect((await post(deepNote)).statusCode).toBe(202);
    expect(tasks).toHaveLength(1);
    expect(errors).toEqual([]);
    expect(({} as { object_kind?: string }).object_kind).toBeUndefined();
  });

  it('forged, altered or with the body of another are refused; replayed they are taken once', async () => {
    const { post, tasks } = start();
    const other = Buffer.from(note.toString().replace('"iid":3', '"iid":4'));
    const stolen = signWebhook(token, 'delivery-1', String(now / 1000), note);
    expect((await post(other, { 'webhook-signature': stolen })).statusCode).toBe(401);
    expect((await post(note, { 'webhook-id': 'delivery-2' })).statusCode).toBe(401);
    expect((await post(note, { 'webhook-timestamp': String(now / 1000 + 1) })).statusCode).toBe(401);
    for (let i = 0; i < 3; i++) expect((await post(note)).statusCode).toBeLessThan(300);
    expect(tasks).toEqual([{ kind: 'comment', change: 3, comment: '5' }]);
  });

  it('are refused later on, and with one of the two kinds of secret in the place of the other', async () => {
    const { app, post, tasks } = start();
    const old = String(now / 1000 - 301);
    const aged = {
      'webhook-timestamp': old,
      'webhook-signature': signWebhook(token, 'delivery-1', old, note),
    };
    expect((await post(note, aged)).statusCode).toBe(401);
    // Without a signature there is only the shared token, which this bot does not have.
    const unsigned = { 'content-type': 'application/json', 'idempotency-key': 'delivery-1' };
    for (const headers of [unsigned, { ...unsigned, 'x-gitlab-token': token }, { 'x-gitlab-token': '' }]) {
      const answer = await app.inject({ method: 'POST', url: '/webhooks/gitlab', headers, payload: note });
      expect(answer.statusCode).toBe(401);
      expect(answer.body).not.toContain('whsec_');
    }
    expect(tasks).toEqual([]);
  });

  it('that tell of an edited comment ask for nothing', async () => {
    const { post, tasks } = start();
    const edited = Buffer.from(note.toString().replace('"create"', '"update"'));
    expect((await post(edited)).statusCode).toBe(204);
    expect(tasks).toEqual([]);
  });
});

describe('a forge that does not do as it should', () => {
  let server: Server;
  let url: string;
  let reply: { status: number; body: string; cut?: true; headers?: Record<string, string> };
  beforeAll(async () => {
    server = createServer((_request, response) => {
      const headers = { 'content-type': 'application/json', ...reply.headers };
      if (!reply.cut) return void response.writeHead(reply.status, headers).end(reply.body);
      response.writeHead(reply.status, { ...headers, 'content-length': String(reply.body.length * 2) });
      response.write(reply.body, () => response.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  const ask = async (next: typeof reply) => {
    reply = next;
    const forge = await openForge({
      kind: 'gitlab',
      url,
      project: 'acme/fashion',
      token: 'glpat-very-secret',
    });
    const change = await forge.getChange(1).catch((e: unknown) => e);
    if (next.cut) return { error: change, change };
    const error: unknown = await forge
      .setStatus('a'.repeat(40), {
        name: 'cdl/a',
        state: 'pending',
        description: '',
        url: null,
        pipeline: null,
      })
      .then(
        () => null,
        (e: unknown) => e,
      );
    return { error, change };
  };
  const words = '{"message":"glpat-very-secret"}';

  it('says no: the token is named as the cause, and never its value', async () => {
    for (const status of [401, 403]) {
      const { error, change } = await ask({ status, body: '{"message":"no"}' });
      for (const one of [error, change]) expect(one).toBeInstanceOf(UserError);
      expect(describeError(error)).toMatchObject({ code: 'forge-denied' });
      expect(String(error)).not.toContain('very-secret');
    }
  });

  it('has nothing there, or is in conflict: nothing is repeated for ever', async () => {
    expect((await ask({ status: 404, body: words })).change).toBeNull();
    const { error } = await ask({ status: 409, body: '{"message":"conflict"}' });
    expect(error).toBeInstanceOf(UpstreamError);
  });

  it('is down, slow for minutes, or breaks off in the middle: it is tried again later', async () => {
    const wait = { 'retry-after': '900' };
    for (const next of [
      { status: 429, body: '{}', headers: wait },
      { status: 503, body: '{}', headers: wait },
      { status: 200, body: '{"iid": 1, "title', cut: true as const },
    ]) {
      const { change } = await ask(next);
      expect(change).toBeInstanceOf(UpstreamError);
      expect(change).toMatchObject({ retryable: true });
    }
  });

  it('answers something else than it documents: that is told, and not taken for an answer', async () => {
    for (const body of ['{}', '[]', '"x"', '<html>sign in</html>']) {
      const { change } = await ask({ status: 200, body });
      expect(change, body).toBeInstanceOf(Error);
    }
  });
});
