import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBotConfig } from '../../bot/config.ts';
import { installHooks } from '../../bot/install.ts';
import { tendQueue } from '../../bot/queue.ts';
import { describeVariables, type Environment, type Variable, variables } from '../../bot/variables.ts';
import { isSecretName } from '../../src/index.ts';

const table: readonly Variable[] = variables;
const names = new Set(table.map((one) => one.name));
const pem = (type: 'ed25519' | 'rsa') => {
  const key =
    type === 'rsa' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync(type);
  return key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
};

let folder: string;
let shared: Record<string, string>;
let forges: Record<'gitlab' | 'github', Record<string, string>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-variables-'));
  shared = {
    CDL_PROJECT: 'acme/a',
    CDL_SIGNING_KEY: pem('ed25519'),
    CDL_WORK_STORE: 's3://host/work',
    CDL_WORK_ACCESS_KEY: 'a',
    CDL_WORK_SECRET_KEY: 'b',
    CDL_TRUSTED_STORE: 's3://host/trusted',
    CDL_TRUSTED_ACCESS_KEY: 'c',
    CDL_TRUSTED_SECRET_KEY: 'd',
    CDL_BOT_FOLDER: folder,
    CDL_WEBHOOK_SECRET: 'hush',
  };
  forges = {
    gitlab: {
      ...shared,
      CDL_GITLAB_URL: 'http://127.0.0.1:9',
      CDL_BOT_TOKEN: 't',
      CDL_SIGNING_TOKEN: `whsec_${'A'.repeat(43)}=`,
    },
    github: { ...shared, CDL_FORGE: 'github', CDL_BOT_TOKEN: 't' },
  };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** An environment that notes which names it was asked for. */
function watched(env: Environment): { env: Environment; asked: Set<string> } {
  const asked = new Set<string>();
  const note = (name: string | symbol) => {
    if (typeof name === 'string') asked.add(/^[a-z]/.test(name) ? name.toUpperCase() : name);
  };
  return {
    asked,
    env: new Proxy(env, {
      get: (target, name) => {
        note(name);
        return Reflect.get(target, name);
      },
      has: (target, name) => {
        note(name);
        return Reflect.has(target, name);
      },
    }),
  };
}

describe('the table of variables', () => {
  it('has every variable that the bot asks for, and none that it does not', async () => {
    const app = {
      ...forges.github,
      CDL_GITHUB_APP_ID: '42',
      CDL_GITHUB_PRIVATE_KEY: pem('rsa'),
      HTTP_PROXY: 'http://127.0.0.1:9',
    };
    const asked = new Set<string>();
    for (const env of [forges.gitlab, forges.github, app]) {
      const one = watched(env);
      await readBotConfig(one.env);
      for (const name of one.asked) asked.add(name);
    }
    const install = watched(forges.gitlab);
    await expect(installHooks(install.env)).rejects.toMatchObject({ code: 'environment-missing' });
    const queue = watched({});
    await expect(tendQueue(queue.env, { replay: null, drop: null })).rejects.toMatchObject({
      code: 'environment-missing',
    });
    for (const name of [...install.asked, ...queue.asked]) asked.add(name);
    expect([...asked].sort()).toEqual([...names].sort());
  });

  it('has every variable that the bot’s sources name', async () => {
    const paths = await readdir('bot', { recursive: true });
    const texts = await Promise.all(
      paths.filter((path) => path.endsWith('.ts')).map((path) => readFile(join('bot', path), 'utf8')),
    );
    const named = texts.flatMap((text) => text.match(/\bCDL_[A-Z][A-Z_]*[A-Z]\b/g) ?? []);
    expect(named.length).toBeGreaterThan(names.size);
    expect([...new Set(named)].filter((name) => !names.has(name))).toEqual([]);
  });

  it.each(['gitlab', 'github'] as const)('says without which ones it does not start on %s', async (kind) => {
    const env = forges[kind];
    const missed: string[] = [];
    for (const { name } of table) {
      const without = { ...env, [name]: undefined, ...(name === 'CDL_FORGE' && { CDL_FORGE: kind }) };
      const error: { code?: string; message?: string } | null = await readBotConfig(without).then(
        () => null,
        (cause: object) => cause,
      );
      if (error === null) continue;
      expect(error).toMatchObject({ code: 'environment-missing' });
      expect(error.message).toContain(`${name} is not set`);
      missed.push(name);
    }
    // On GitHub the token is needed because there is no app here.
    const wanted = table.filter((one) => one.required.includes(kind)).map((one) => one.name);
    const expected = kind === 'github' ? [...wanted, 'CDL_BOT_TOKEN'] : wanted;
    expect(missed.sort()).toEqual(expected.sort());
  });

  it('calls those secret whose names are treated as secrets', () => {
    for (const { name, secret } of table) {
      // The name is OpenTelemetry's, and says nothing.
      if (name === 'OTEL_EXPORTER_OTLP_HEADERS') expect(secret).toBe(true);
      else expect([name, isSecretName(name)]).toEqual([name, secret]);
    }
  });

  it('has names once, and fits a markdown table and a terminal', () => {
    expect(names.size).toBe(table.length);
    for (const { meaning } of table) expect(meaning).not.toMatch(/[|\n]|\.$/);
    for (const line of describeVariables().split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});

describe('what a variable says', () => {
  it('is refused where it cannot be meant', async () => {
    const wrong = [
      ['CDL_LOG', 'loud', 'CDL_LOG "loud" is not one of debug, info, warn, error, silent'],
      ['CDL_BOT_PORT', 'eighty', 'CDL_BOT_PORT "eighty" is not a number from 0 to 65535'],
      ['CDL_FORGE', 'gitea', 'CDL_FORGE "gitea" is not one of gitlab, github'],
    ] as const;
    for (const [name, value, message] of wrong) {
      const read = readBotConfig({ ...forges.gitlab, [name]: value });
      await expect(read).rejects.toMatchObject({ code: 'config-invalid', message });
    }
  });

  it('is not set when it is empty: the default counts', async () => {
    const config = await readBotConfig({ ...forges.gitlab, CDL_BOT_PORT: '', CDL_LOG: '', CDL_BOT_URL: '' });
    expect(config).toMatchObject({ port: 8080, log: 'info', publicUrl: null });
  });
});
