import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import { type Database, openDatabase } from '../../src/index.ts';

/** It installs from the npm registry, which takes a minute: CI asks for it. */
const isAsked = process.env.CDL_PRODUCTION === '1';
if (!isAsked) console.warn('skipped: the bot from a production install (CDL_PRODUCTION=1 runs it)');

describe.skipIf(!isAsked)('the bot from a production install', () => {
  let folder: string;
  let database: Database;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-production-'));
    database = await openDatabase({
      url: null,
      folder: join(folder, 'database'),
    });
  });
  afterAll(async () => {
    await database?.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs the commands of the container file's first stage, and copies what its second one takes over. */
  async function install(): Promise<string> {
    const root = packageRoot();
    const [build, app] = [join(folder, 'build'), join(folder, 'app')];
    const text = await readFile(join(root, 'bot', 'Dockerfile'), 'utf8');
    const ignored = (await readFile(join(root, 'bot', 'Dockerfile.dockerignore'), 'utf8')).trim().split('\n');
    const filter = (path: string) => !ignored.includes(path.slice(root.length + 1));
    await cp(root, build, { recursive: true, filter });
    const commands = [...text.split('\nFROM ')[1]!.matchAll(/^RUN (npm .+)$/gm)].map((one) => one[1]!);
    expect(commands).toHaveLength(2);
    for (const command of commands) {
      const [program, ...args] = command.split(' ');
      const done = await run(program!, args, { cwd: build, env: process.env });
      expect([done.code, done.code === 0 || done.stderr.toString()]).toEqual([0, true]);
    }
    for (const [, from] of text.matchAll(/^COPY --from=build \/app\/(\S+) /gm)) {
      await mkdir(dirname(join(app, from!)), { recursive: true });
      await rename(join(build, from!), join(app, from!));
    }
    return app;
  }

  it('is ready without its forge, and ends when it is told to', { timeout: 300_000 }, async () => {
    const app = await install();
    const key = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' });
    const bot: ChildProcess = spawn(process.execPath, ['bin/cdl.js', 'bot'], {
      cwd: app,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH,
        NODE_ENV: 'production',
        // Nobody listens on this port.
        CDL_GITLAB_URL: 'http://127.0.0.1:9',
        CDL_PROJECT: 'acme/fashion',
        CDL_BOT_TOKEN: 'glpat-nobody',
        CDL_SIGNING_TOKEN: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
        CDL_SIGNING_KEY: key.toString(),
        CDL_WORK_STORE: `file://${join(folder, 'work')}`,
        CDL_TRUSTED_STORE: `file://${join(folder, 'trusted')}`,
        CDL_DATABASE: database.url,
        CDL_BOT_FOLDER: join(folder, 'bot'),
        CDL_BOT_HOST: '127.0.0.1',
        CDL_BOT_PORT: '0',
        CDL_LOG: 'info',
      },
    });
    try {
      let url: string | null = null;
      for await (const line of createInterface(bot.stdout!)) {
        const said = JSON.parse(line) as { msg: string; url?: string };
        if (said.msg !== 'the bot listens') continue;
        url = said.url!;
        break;
      }
      expect(url).not.toBeNull();
      bot.stdout!.resume();
      // It listens before its queue runs.
      const ready = async () => expect((await fetch(`${url}/readyz`)).status).toBe(200);
      await vi.waitFor(ready, { timeout: 60_000, interval: 50 });
      const ended = once(bot, 'exit');
      bot.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
    } finally {
      bot.kill('SIGKILL');
    }
  });
});
