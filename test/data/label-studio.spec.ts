import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLabelStudio } from '../../src/data/label-studio.ts';
import { startLabelStudio } from '../../src/sandbox/label-studio.ts';
import { labelFlowContract } from '../contract/label-flow.ts';
import { type LabelServerUnderTest, labelServerContract, scratchFolder } from '../contract/label-server.ts';
import { freePort } from '../free-port.ts';

const startStandIn = async (): Promise<LabelServerUnderTest> => {
  const server = await startLabelStudio({
    tokens: new Map([
      ['one', 1],
      ['two', null],
    ]),
  });
  const person = (token: string) => ({ headers: { authorization: `Token ${token}` }, fields: {} });
  return {
    url: server.url,
    token: 'one',
    people: [person('one'), person('two')],
    dispose: server.close,
  };
};

labelServerContract('the stand-in of Label Studio', startStandIn);
labelFlowContract('the stand-in of Label Studio', startStandIn);

const python = process.env.CDL_LABEL_STUDIO;

/** The real server: SQLite in a temporary folder, nobody can sign up, nothing is reported to its makers. */
async function startReal(): Promise<LabelServerUnderTest> {
  const folder = await scratchFolder();
  const port = await freePort();
  const token = randomBytes(20).toString('hex');
  const url = `http://127.0.0.1:${port}`;
  const program = spawn(
    join(dirname(python!), 'label-studio'),
    ['start', '--no-browser', '--internal-host', '127.0.0.1', '--port', String(port)],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH,
        HOME: folder.path,
        LABEL_STUDIO_BASE_DATA_DIR: join(folder.path, 'data'),
        LABEL_STUDIO_USERNAME: 'one@example.org',
        LABEL_STUDIO_PASSWORD: randomBytes(12).toString('hex'),
        LABEL_STUDIO_USER_TOKEN: token,
        LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN: 'true',
        LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK: 'true',
        COLLECT_ANALYTICS: 'false',
        // It would refuse to call webhooks on the loopback.
        SSRF_PROTECTION_ENABLED: 'false',
      },
    },
  );
  let log = '';
  program.stderr.on('data', (chunk) => {
    log = (log + String(chunk)).slice(-4000);
  });
  const exited = once(program, 'exit');
  let ended = false;
  program.on('exit', () => {
    ended = true;
  });
  const headers = { authorization: `Token ${token}` };
  while (!(await fetch(`${url}/api/version`).catch(() => null))?.ok) {
    if (ended) throw new Error(`Label Studio did not start:\n${log}`);
    await wait(100);
  }
  const made = await fetch(`${url}/api/users/`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ email: 'two@example.org', username: 'two' }),
  });
  const { id } = (await made.json()) as { id: number };
  return {
    url,
    token,
    people: [
      { headers, fields: {} },
      { headers, fields: { completed_by: id } },
    ],
    async dispose() {
      program.kill('SIGKILL');
      await exited;
      await folder.remove();
    },
  };
}

if (python) {
  // It takes most of a minute to start: one for all.
  let real: Promise<LabelServerUnderTest> | null = null;
  const startShared = async () => {
    real ??= startReal();
    return { ...(await real), dispose: async () => {} };
  };
  afterAll(async () => (await real)?.dispose());

  labelServerContract('the real Label Studio server', startShared);
  labelFlowContract('the real Label Studio server', startShared);

  labelServerContract('the real Label Studio server', startReal);

  describe('the real Label Studio server', () => {
    let server: LabelServerUnderTest;
    beforeAll(async () => {
      server = await startShared();
    }, 400_000);

    it('takes a personal access token, which is exchanged for access tokens', async () => {
      const answer = await fetch(`${server.url}/api/token/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Token ${server.token}` },
        body: '{}',
      });
      const { token } = (await answer.json()) as { token: string };
      expect(token.split('.')).toHaveLength(3);
      const open = openLabelStudio({ url: server.url, token });
      expect(await open.ensureProject('By JWT', 'text', ['a', 'b'], false)).toBeGreaterThan(0);
    });

    it('marks annotations that were exported and imported again, which are nobody’s new word and do not count', async () => {
      const open = openLabelStudio(server);
      const project = await open.ensureProject('Imported', 'text', ['a', 'b'], false);
      const value = { choices: ['b'] };
      const annotation = {
        id: 77,
        result: [{ from_name: 'label', to_name: 'content', type: 'choices', value }],
      };
      const answer = await fetch(`${server.url}/api/projects/${project}/import`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Token ${server.token}` },
        body: JSON.stringify([{ data: { content: 'x' }, annotations: [annotation] }]),
      });
      expect(answer.status).toBe(201);
      for await (const task of open.listTasks(project)) {
        expect(task).toMatchObject({ imported: 1, annotations: [] });
      }
    });
  });
} else {
  describe.skip('the real Label Studio server (CDL_LABEL_STUDIO is not set; test/services/label-studio.sh prints it)', () => {
    it('is tried by the contract of the stand-in', () => undefined);
  });
}
