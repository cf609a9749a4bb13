import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmod, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { UserError } from '../core/error.ts';
import { stopLocalTarget } from '../deploy/index.ts';
import { packageRoot } from '../exec/root.ts';
import { run } from '../exec/run.ts';
import { openForge } from '../forge/index.ts';
import { createCiEngine } from '../sandbox/ci/engine.ts';
import { type Runner, startRunner } from '../sandbox/runner/run.ts';
import { addMember, createProject, createToken, createUser, setVariable } from '../sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../sandbox/server.ts';
import type { AccessLevel, Project, User } from '../sandbox/state.ts';

/** A person of the rig with a token to act with. */
export interface Actor {
  user: User;
  token: string;
}

/** Who is there: a scientist who pushes, a validator who approves, a maintainer who merges. */
export type People = Record<'scientist' | 'validator' | 'maintainer', Actor>;

/** Everything CDL needs on one machine: forge, runners, bot, store, database, and a place to deploy to. */
export interface Rig {
  sandbox: Sandbox;
  people: People;
  project: Project;
  /** URL of the project's repository, without credentials. */
  repository: string;
  folder: string;
  targetFolder: string;
  /** Whether jobs of unprotected branches find the trusted store, and whatever else is not theirs, empty. */
  hides: boolean;
  /** Environment of the bot: what an operator would set. */
  botEnvironment: NodeJS.ProcessEnv;
  bot: { url: string; process: ChildProcess };
  /** The bot's status page, with what opens it. */
  statusPage: string;
  /** Aborted when the person who started it wants to stop. */
  signal: AbortSignal;
  /** Kills the bot with a signal and starts it again on the same port. */
  restartBot(signal: NodeJS.Signals): Promise<void>;
  /** Stops everything, deployed servers included. */
  close(): Promise<void>;
}

/** How to set up a rig. `folder` exists and may be empty; `cacheFolder` outlives it. */
export interface RigOptions {
  folder: string;
  cacheFolder: string;
  port?: number;
  npmRegistry: string | null;
  /** Extra certificates this machine trusts (NODE_EXTRA_CA_CERTS), for jobs that download; null for none. */
  caFile: string | null;
  /** PATH of the jobs. */
  systemPath: string;
  version: string;
  /** Path of the project, e.g. `acme/fashion`. */
  project: string;
  /** Jobs of changes that run at once; default 1. */
  jobs?: number;
  log?: (line: string) => void;
  /** Stops whoever waits for something on the rig. */
  signal?: AbortSignal;
  /** Further folders that jobs of unprotected branches find empty: what lies on protected runners only. */
  hide?: readonly string[];
  /** The folder is removed should this process be killed. */
  temporary?: boolean;
}

/** A folder with the one program that jobs find as `cdl`. */
async function writeLauncher(folder: string): Promise<string> {
  const programs = join(folder, 'programs');
  await mkdir(programs, { recursive: true });
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const script = `#!/bin/sh\nexec ${quote(process.execPath)} ${quote(join(packageRoot(), 'bin', 'cdl.js'))} "$@"\n`;
  await writeFile(join(programs, 'cdl'), script);
  await chmod(join(programs, 'cdl'), 0o755);
  return programs;
}

/** The component project, with the release that the starter pipeline names. */
async function seedComponents(sandbox: Sandbox, owner: User, version: string, folder: string): Promise<void> {
  const copy = join(folder, 'ci-components');
  await cp(join(packageRoot(), 'ci-components'), copy, { recursive: true });
  const components = await createProject(sandbox.world, {
    namespace: 'cdl',
    path: 'ci-components',
    owner,
    from: copy,
  });
  const tagged = await run('git', ['tag', version, components.defaultBranch], { cwd: components.repository });
  if (tagged.code !== 0) throw new Error(tagged.stderr.toString());
}

/** Starts the bot as its own process and waits until it says where it listens. */
async function startBotProcess(env: NodeJS.ProcessEnv, log: (line: string) => void): Promise<Rig['bot']> {
  const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'cdl.js'), 'bot', '--attached'], {
    env,
    // A group of its own: Ctrl-C in the terminal is ours to pass on. It ends when its stdin does, however we end.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const last: string[] = [];
  createInterface({ input: child.stderr! }).on('line', (line) => {
    last.push(line);
    if (last.length > 20) last.shift();
    log(`bot: ${line}`);
  });
  const url = await new Promise<string>((resolve, reject) => {
    const lines = createInterface({ input: child.stdout! });
    lines.on('line', (line) => {
      try {
        const value = JSON.parse(line) as { url?: string; msg?: string };
        if (value.msg === 'the bot listens' && value.url) resolve(value.url);
      } catch {
        // Not a log line of the bot itself.
      }
      last.push(line);
      log(`bot: ${line}`);
    });
    child.once('exit', (code) =>
      reject(new UserError('not-available', `the bot ended with ${code}:\n${last.join('\n')}`)),
    );
    child.once('error', reject);
  });
  return { url, process: child };
}

async function stopProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  const giveUp = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await ended;
  clearTimeout(giveUp);
}

/** Sets up a rig: nothing of it leaves this machine. */
export async function startRig(options: RigOptions): Promise<Rig> {
  const { folder, version } = options;
  const log = options.log ?? (() => {});
  const tokens = { any: randomBytes(16).toString('hex'), trusted: randomBytes(16).toString('hex') };
  const programs = await writeLauncher(folder);
  const { renderPages } = await import('../sandbox/web/pages.ts');
  const sandbox = await startSandbox({
    folder: join(folder, 'sandbox'),
    port: options.port ?? 0,
    pages: renderPages,
    engine: (world) =>
      createCiEngine(world, {
        path: options.systemPath,
        runners: [
          { token: tokens.any, description: 'untrusted', access: 'untrusted', tags: [], runUntagged: true },
          {
            token: tokens.trusted,
            description: 'protected',
            access: 'protected',
            tags: [],
            runUntagged: true,
          },
        ],
      }),
  });
  const runners: Runner[] = [];
  let bot: Rig['bot'] | null = null;
  const targetFolder = join(folder, 'target');
  const janitor = spawn(
    process.execPath,
    [
      join(packageRoot(), 'dist', 'cli', 'janitor.js'),
      folder,
      targetFolder,
      options.temporary ? 'temporary' : 'kept',
    ],
    { detached: true, stdio: ['pipe', 'ignore', 'ignore'] },
  );
  const close = async () => {
    if (bot) await stopProcess(bot.process, 'SIGTERM');
    await Promise.all(runners.map((runner) => runner.stop()));
    await stopLocalTarget(targetFolder);
    await sandbox.close();
    await stopProcess(janitor, 'SIGTERM');
    // Started by root, the database may live outside the rig's folder, and would outlive it.
    const moved = await readFile(join(folder, 'bot', 'database', 'moved-to'), 'utf8').catch(() => null);
    if (moved) await rm(moved.trim(), { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const actor = (username: string, name: string, isBot = false): Actor => {
      const user = createUser(sandbox.world, { username, name, bot: isBot });
      return { user, token: createToken(sandbox.world, user).token };
    };
    const people: People = {
      scientist: actor('dana', 'Dana (data scientist)'),
      validator: actor('vera', 'Vera (model validator)'),
      maintainer: actor('max', 'Max (maintainer)'),
    };
    const botActor = actor('cdl-bot', 'CDL', true);
    // Starting a pipeline on a protected branch takes the right to merge there; the bot itself must not have it.
    const evaluator = actor('cdl-evaluation', 'CDL evaluation', true);
    await seedComponents(sandbox, people.maintainer.user, version, folder);
    const [namespace, path] = options.project.split('/') as [string, string];
    const project = await createProject(sandbox.world, {
      namespace,
      path,
      owner: people.maintainer.user,
      settings: { onlyAllowMergeIfPipelineSucceeds: true },
    });
    const roles: [Actor, AccessLevel][] = [
      [people.scientist, 30],
      [people.validator, 30],
      [botActor, 30],
      [evaluator, 40],
    ];
    for (const [member, level] of roles) addMember(project, member.user, level);

    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const stores = {
      work: pathToFileURL(join(folder, 'store', 'work')).href,
      trusted: pathToFileURL(join(folder, 'store', 'trusted')).href,
    };
    const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const variables: [string, string, boolean][] = [
      ['CDL_CACHE', options.cacheFolder, false],
      ['CDL_WORK_STORE', stores.work, false],
      ['CDL_TRUSTED_STORE', stores.trusted, true],
      ['CDL_TRUSTED_KEYS', publicPem, true],
      ['CDL_LOCAL_TARGET', targetFolder, true],
    ];
    if (options.caFile) variables.push(['NODE_EXTRA_CA_CERTS', options.caFile, false]);
    if (options.npmRegistry) variables.push(['CDL_NPM_REGISTRY', options.npmRegistry, false]);
    for (const [key, value, isProtected] of variables) {
      setVariable(project, { key, value, protected: isProtected });
    }
    // They run as the same user on the same machine: what is not theirs to see is not there for them.
    const secret = ['store/trusted', 'bot', 'sandbox', 'target', 'builds/trusted'];
    const hide = [...secret.map((name) => join(folder, name)), ...(options.hide ?? [])];
    await mkdir(join(folder, 'store', 'trusted'), { recursive: true });
    let hides = false;
    for (const [name, token] of Object.entries(tokens)) {
      const runner = await startRunner({
        url: sandbox.url,
        token,
        concurrency: name === 'any' ? (options.jobs ?? 1) : 1,
        builds: join(folder, 'builds', name),
        systemPath: options.systemPath,
        path: programs,
        ...(name === 'any' && { hide }),
        graceMs: 5000,
        log: (line) => log(`runner: ${line}`),
      });
      runners.push(runner);
      hides ||= runner.hides;
    }
    if (!hides) {
      log('note: without user namespaces a job of a change could read the trusted store of this machine');
    }
    const secrets = {
      token: randomBytes(24).toString('hex'),
      signingToken: `whsec_${randomBytes(32).toString('base64')}`,
    };
    const status = randomBytes(16).toString('hex');
    const botEnvironment: NodeJS.ProcessEnv = {
      PATH: `${dirname(process.execPath)}:${options.systemPath}`,
      HOME: folder,
      CDL_CACHE: options.cacheFolder,
      CDL_GITLAB_URL: sandbox.url,
      CDL_PROJECT: options.project,
      CDL_BOT_TOKEN: botActor.token,
      CDL_EVALUATION_TOKEN: evaluator.token,
      CDL_WEBHOOK_SECRET: secrets.token,
      CDL_SIGNING_TOKEN: secrets.signingToken,
      CDL_SIGNING_KEY: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      CDL_WORK_STORE: stores.work,
      CDL_TRUSTED_STORE: stores.trusted,
      CDL_BOT_FOLDER: join(folder, 'bot'),
      CDL_BOT_PORT: '0',
      CDL_RECONCILE_SECONDS: '5',
      CDL_STATUS_TOKEN: status,
    };
    bot = await startBotProcess(botEnvironment, log);
    // Webhooks are a maintainer's to install; the bot itself is a developer and could not.
    const forge = await openForge({
      kind: 'gitlab',
      url: sandbox.url,
      project: options.project,
      token: people.maintainer.token,
    });
    await forge.ensureHook({ url: `${bot.url}/webhooks/gitlab`, ...secrets });
    const rig: Rig = {
      sandbox,
      people,
      project,
      repository: `${sandbox.url}/${options.project}.git`,
      folder,
      targetFolder,
      hides,
      signal: options.signal ?? new AbortController().signal,
      botEnvironment: { ...botEnvironment, CDL_BOT_PORT: new URL(bot.url).port },
      bot,
      statusPage: `${bot.url}/status?token=${status}`,
      async restartBot(signal) {
        await stopProcess(rig.bot.process, signal);
        rig.bot = await startBotProcess(rig.botEnvironment, log);
        bot = rig.bot;
      },
      close,
    };
    return rig;
  } catch (error) {
    await close();
    throw error;
  }
}
