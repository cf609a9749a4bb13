import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMTPServer } from 'smtp-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { judgeClock } from '../../bot/access.ts';
import { installHooks } from '../../bot/main.ts';
import { doctor } from '../../src/cli/doctor.ts';
import type { CommandInput } from '../../src/cli/types.ts';
import { openForge } from '../../src/index.ts';
import { addMember, createProject, createToken, createUser } from '../../src/sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/server.ts';
import type { Project, Token, User } from '../../src/sandbox/state.ts';
import { startCdl } from '../cli/run-cdl.ts';
import { type Description, openDescription } from '../forge/github-fake/description.ts';
import { type GithubFake, startGithubFake } from '../forge/github-fake/server.ts';
import { githubOpenapi } from '../forge/github-openapi.ts';
import { git } from './jobs.ts';
import { projectYaml } from './world.ts';

/** What `cdl doctor --forge` prints and ends with; addresses and commits, which differ each time, are replaced. */
async function run(env: Record<string, string>): Promise<{ code: number; text: string; data: unknown }> {
  const said = { text: '', data: null as unknown };
  const console = { print: (text: string, data: unknown) => void Object.assign(said, { text, data }) };
  const input = { env: { PATH: process.env.PATH, ...env }, console, options: { forge: true }, args: [] };
  const code = await doctor(input as unknown as CommandInput);
  const text = said.text.replace(/127\.0\.0\.1:\d+/g, 'HOST').replace(/at [0-9a-f]{12}$/gm, 'at COMMIT');
  return { code, text, data: said.data };
}

let folder: string;
let source: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-doctor-'));
  source = join(folder, 'source');
  await git(folder, 'init', '-q', '-b', 'main', 'source');
  const who = ['-c', 'user.name=O', '-c', 'user.email=o@example.com'];
  await git(source, ...who, 'commit', '-q', '--allow-empty', '-m', 'first');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('cdl doctor --forge on GitLab', () => {
  let sandbox: Sandbox;
  let project: Project;
  let people: Record<'bot' | 'evaluator' | 'olga' | 'stranger', User & { token: Token }>;
  const hookUrl = 'http://127.0.0.1:9';
  const environment = (more: Record<string, string> = {}) => ({
    CDL_GITLAB_URL: sandbox.url,
    CDL_PROJECT: 'acme/fashion',
    CDL_BOT_TOKEN: people.bot.token.token,
    CDL_EVALUATION_TOKEN: people.evaluator.token.token,
    CDL_SIGNING_TOKEN: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
    CDL_BOT_URL: hookUrl,
    ...more,
  });
  /** A project with what `from` holds, where bot and evaluator have the access they need. */
  const projectOf = async (path: string, from: string): Promise<Project> => {
    const made = await createProject(sandbox.world, { namespace: 'acme', path, owner: people.olga, from });
    addMember(made, people.bot, 30);
    addMember(made, people.evaluator, 40);
    return made;
  };

  beforeAll(async () => {
    sandbox = await startSandbox({ folder: join(folder, 'sandbox'), path: '/gitlab' });
    const { world } = sandbox;
    const make = (username: string, bot: boolean, scopes = ['api']) => {
      const user = createUser(world, { username, name: username, bot });
      return Object.assign(user, { token: createToken(world, user, { scopes }) });
    };
    people = {
      olga: make('olga', false),
      bot: make('project_1_bot_0a1b', true),
      evaluator: make('project_1_bot_2c3d', true),
      stranger: make('stranger', false),
    };
    project = await projectOf('fashion', source);
    project.protectedBranches.splice(0, 9, { name: 'main', pushLevel: 0, mergeLevel: 40 });
  });
  afterAll(() => sandbox?.close());

  it('finds nothing wrong with tokens that have what is needed and no more', async () => {
    const { code, text } = await run(environment());
    await expect(text).toMatchFileSnapshot('../golden/cli/doctor-forge.txt');
    expect(code).toBe(0);
  });

  it('says of a project without a commit what nobody can know, and nothing else', async () => {
    const empty = await createProject(sandbox.world, {
      namespace: 'acme',
      path: 'empty',
      owner: people.olga,
    });
    addMember(empty, people.bot, 30);
    addMember(empty, people.evaluator, 40);
    const { text } = await run(environment({ CDL_PROJECT: 'acme/empty' }));
    expect(text).toContain(
      'its role         Maintainer: whether it may start pipelines on main GitLab does not say',
    );
    expect(text).toContain('there is no branch main');
    const alone = await run(environment({ CDL_PROJECT: 'acme/empty', CDL_EVALUATION_TOKEN: '' }));
    expect(alone.text).toContain(
      'is not set, and whether the bot may start pipelines on main GitLab does not say',
    );
    const token = people.olga.token.token;
    const made = await installHooks(environment({ CDL_PROJECT: 'acme/empty', CDL_BOT_TOKEN: token }));
    expect(made.isSound).toBe(true);
    expect(made.text).toContain('no test delivery: there is nothing in the project yet to tell of');
  });

  it.each(['CDL_GITLAB_URL', 'CDL_BOT_URL'])(
    'refuses a %s that is no URL, and does not repeat it',
    async (name) => {
      await expect(run(environment({ [name]: 'olga:hush@host:80' }))).rejects.toMatchObject({
        code: 'config-invalid',
        message: `${name} is no URL of http or https`,
      });
    },
  );

  it('says what is too much and too little, and ends with the worst', async () => {
    project.members.set(people.bot.id, 40);
    project.protectedBranches.length = 0;
    people.bot.token.scopes = ['api', 'sudo', 'create_runner'];
    people.evaluator.token.scopes = ['read_api'];
    project.members.set(people.evaluator.id, 20);
    const forge = await openForge({
      kind: 'gitlab',
      url: sandbox.url,
      project: 'acme/fashion',
      token: people.olga.token.token,
    });
    const url = `${hookUrl}/webhooks/gitlab`;
    await forge.ensureHook({ url, token: null, signingToken: `whsec_${'B'.repeat(43)}=` });
    project.hooks[0]!.failures = 40;
    const { code, text, data } = await run(environment());
    await expect(text).toMatchFileSnapshot('../golden/cli/doctor-forge-wrong.txt');
    expect(code).toBe(69);
    expect(JSON.stringify(data)).not.toContain(people.bot.token.token);
    const same = await run(environment({ CDL_EVALUATION_TOKEN: people.bot.token.token }));
    expect(same.text).toContain('is the bot itself');
  });

  it('is what a bot says in its log as well when it starts, and it starts all the same', async () => {
    const key = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const { child, said, ended } = startCdl(['bot'], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        ...environment({ CDL_EVALUATION_TOKEN: people.bot.token.token, CDL_BOT_URL: '' }),
        CDL_SIGNING_KEY: key,
        CDL_WORK_STORE: `file://${folder}/work`,
        CDL_TRUSTED_STORE: `file://${folder}/trusted`,
        CDL_BOT_FOLDER: join(folder, 'bot'),
        CDL_BOT_PORT: '0',
      },
    });
    try {
      while (!/"url":[\s\S]*is the bot itself/.test(said.stdout)) {
        await Promise.race([
          once(child.stdout, 'data'),
          ended.then((end) => expect.fail(JSON.stringify(end))),
        ]);
      }
      expect(said.stdout).not.toContain(people.bot.token.token);
    } finally {
      child.kill('SIGTERM');
      expect(await ended).toMatchObject({ code: 0 });
    }
  });

  it('says whom of notify: nobody can tell, and asks the mail server', async () => {
    const told = join(folder, 'told');
    await git(folder, 'clone', '-q', source, told);
    const notify = `notify:
  - { webhook: "https://hooks.example.com/a", events: [evaluation] }
  - { email: [a@example.com, b@example.com], events: [evaluation] }
`;
    await writeFile(join(told, 'cdl.yaml'), projectYaml() + notify);
    await git(told, 'add', '.');
    await git(told, '-c', 'user.name=O', '-c', 'user.email=o@example.com', 'commit', '-qm', 'told');
    await projectOf('told', told);
    const asked = (more: Record<string, string>) => run(environment({ CDL_PROJECT: 'acme/told', ...more }));
    const none = await asked({});
    expect(none.text).toContain('1 webhook of cdl.yaml: told nothing while CDL_NOTIFY_SECRET is not set');
    expect(none.text).toContain('2 mail addresses of cdl.yaml: told nothing while CDL_SMTP_URL is not set');
    expect((await asked({ CDL_NOTIFY_SECRET: 'short' })).text).toContain('CDL_NOTIFY_SECRET is not whsec_');

    const smtp = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS'],
      disableReverseLookup: true,
      logger: false,
    });
    smtp.listen(0, '127.0.0.1');
    await once(smtp.server, 'listening');
    const url = (port: number) => ({
      CDL_NOTIFY_SECRET: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
      CDL_SMTP_URL: `smtp://127.0.0.1:${port}`,
      CDL_SMTP_FROM: 'cdl@example.com',
    });
    const { port } = smtp.server.address() as AddressInfo;
    const all = await asked(url(port));
    await new Promise<void>((resolve) => void smtp.close(resolve));
    expect(all.text).toContain('1 webhook of cdl.yaml, signed');
    expect(all.text).toContain('lets the bot in');
    expect(all.text).not.toContain('told nothing');
    const away = await asked(url(port));
    expect(away.text).toMatch(/mail server HOST.* does not let us in \(E[A-Z]+\)/);
    expect(away.code).toBe(69);
  });

  it.each([
    ['an unknown token', { CDL_BOT_TOKEN: 'glpat-nobody' }, 5, '401: GitLab does not know this token'],
    [
      'a project it does not see',
      { CDL_PROJECT: 'acme/other' },
      5,
      '404: for @project_1_bot_0a1b there is no project acme/other',
    ],
    ['a server where nobody answers', { CDL_GITLAB_URL: 'http://127.0.0.1:9' }, 75, 'ECONNREFUSED'],
  ])('is clear about %s', async (_what, more, exit, sentence) => {
    const { code, text } = await run(environment(more));
    expect(text).toContain(sentence);
    expect(code).toBe(exit);
  });

  it('guesses a sub-path that was left out, and names where a redirection goes', async () => {
    const root = await run(environment({ CDL_GITLAB_URL: sandbox.url.replace('/gitlab', '') }));
    expect(root.text).toContain('is GitLab below a sub-path?');
    expect(root.code).toBe(3);
    const server: Server = createServer((_request, response) => {
      response.writeHead(301, { location: 'https://gitlab.example.com/' }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const moved = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { text } = await run(environment({ CDL_GITLAB_URL: moved }));
    server.closeAllConnections();
    server.close();
    expect(text).toContain('set CDL_GITLAB_URL to https://gitlab.example.com/');
  });
});

describe('clocks', () => {
  it.each([
    [null, 'note'],
    [-2, 'ok'],
    [45, 'note'],
    [-400, 'problem'],
  ])('%s s apart: %s', (ahead, state) => expect(judgeClock(ahead).state).toBe(state));
});

const found = await githubOpenapi();
const description: Description | null = 'description' in found ? openDescription(found.description) : null;
if ('skipped' in found) console.warn(`skipped: GitHub’s OpenAPI description: ${found.skipped}`);

describe.skipIf(!description)('cdl doctor --forge on GitHub', () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  let fake: GithubFake;
  const environment = (more: Record<string, string> = {}) => ({
    CDL_FORGE: 'github',
    CDL_GITHUB_URL: fake.url,
    CDL_PROJECT: 'acme/fashion',
    CDL_GITHUB_APP_ID: '42',
    CDL_GITHUB_PRIVATE_KEY: pem,
    CDL_WEBHOOK_SECRET: 'secret',
    CDL_EVALUATION_TOKEN: 'ghp_cdl-evaluator',
    CDL_BOT_URL: 'http://127.0.0.1:9',
    ...more,
  });
  beforeAll(async () => {
    fake = await startGithubFake({
      folder: join(folder, 'github'),
      from: source,
      description: description!,
    });
    fake.registerApp('cdl-bot', createPublicKey(pem));
    fake.user('cdl-evaluator', 'write');
    fake.state.hooks.push({
      id: 1,
      url: 'http://127.0.0.1:9/webhooks/github',
      secret: '',
      events: ['*'],
      active: true,
    });
  });
  afterAll(() => fake?.close());

  it('finds nothing wrong with an app that has what is needed and no more', async () => {
    const { code, text } = await run(environment());
    await expect(text).toMatchFileSnapshot('../golden/cli/doctor-forge-github.txt');
    expect(code).toBe(0);
    expect(fake.violations).toEqual([]);
  });

  it('says which permissions are missing, not accepted or too much', async () => {
    const app = fake.state.app!;
    app.wanted = { ...app.wanted, administration: 'write' };
    const { checks: _, ...rest } = app.granted;
    app.granted = { ...rest, issues: 'read', administration: 'write' };
    app.events = ['push'];
    app.selection = 'all';
    fake.state.isProtected = false;
    const { code, text } = await run(environment());
    await expect(text).toMatchFileSnapshot('../golden/cli/doctor-forge-github-wrong.txt');
    expect(code).toBe(69);
    const account = { CDL_GITHUB_APP_ID: '', CDL_BOT_TOKEN: 'ghp_cdl-evaluator' };
    expect((await run(environment(account))).text).toContain('is of the same account as the bot');
    expect((await run(environment({ CDL_GITHUB_URL: fake.state.web }))).code).toBe(3);
  });
});
