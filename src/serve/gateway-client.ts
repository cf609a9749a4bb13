import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { UserError } from '../core/error.ts';
import { withFolderLock } from '../exec/folder-lock.ts';
import { controlSocket } from './control-socket.ts';
import { prepareFolder, type Route } from './gateway-state.ts';
import type { GatewayState } from './gateway-types.ts';

/** A gateway's control API, as other processes use it. */
export interface GatewayClient {
  /** Null when no gateway of this folder runs. With `after`, waits until the revision is another one (or `wait` ms). */
  state(after?: number, wait?: number): Promise<GatewayState | null>;
  /** Throws UserError deploy-failed when the gateway is gone or refuses. */
  want(model: string, environment: string, route: Route): Promise<GatewayState>;
  /** Starts the gateway unless it runs. Throws UserError deploy-failed with the end of its log. */
  ensure(): Promise<GatewayState>;
  /** Stops the gateway and its servers; nothing when it does not run. Routes stay on disk. */
  stop(): Promise<void>;
}

/** Opens the client of a folder. `program` is the bundled `serve/gateway-main.js`. */
export function openGatewayClient(options: {
  folder: string;
  program: string;
  host: string;
  /** Of the first start; 0 for any free one. */
  port: number;
}): GatewayClient {
  const { folder } = options;
  const socketPath = controlSocket(folder);

  const state: GatewayClient['state'] = async (after, wait = 10_000) => {
    const path = after === undefined ? '/state' : `/state?after=${after}&wait=${wait}`;
    const answer = await call(socketPath, 'GET', path, null);
    return answer === null ? null : (answer.body as GatewayState);
  };

  const start = (): Promise<void> => {
    const log = join(folder, 'gateway.log');
    const out = openSync(log, 'a', 0o600);
    const args = ['--folder', folder, '--host', options.host, '--port', String(options.port)];
    const child = spawn(process.execPath, [options.program, ...args], {
      cwd: folder,
      detached: true,
      // Nothing of ours: the processes below it run other people's code.
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC' },
      stdio: ['ignore', out, out, 'ipc'],
    });
    closeSync(out);
    return new Promise((resolve, reject) => {
      child.once('message', () => {
        child.unref();
        resolve();
      });
      child.once('error', reject);
      child.once('exit', async (code) => {
        const lines = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n');
        reject(
          new UserError(
            'deploy-failed',
            `the gateway did not start (exit code ${code}): ${lines.slice(-8).join(' ')}`,
          ),
        );
      });
    });
  };

  return {
    state,
    async want(model, environment, route) {
      const path = `/routes/${encodeURIComponent(model)}/${encodeURIComponent(environment)}`;
      const answer = await call(socketPath, 'PUT', path, route);
      if (answer?.status === 200) return answer.body as GatewayState;
      const why = answer ? (answer.body as { error: string }).error : 'it does not run';
      throw new UserError('deploy-failed', `the gateway of ${folder} did not take the route: ${why}`);
    },
    async ensure() {
      await prepareFolder(folder);
      return withFolderLock(join(folder, 'start.lock'), async () => {
        const running = await state();
        if (running) return running;
        await start();
        const started = await state();
        if (!started)
          throw new UserError('deploy-failed', `the gateway of ${folder} ended at once; see gateway.log`);
        return started;
      });
    },
    async stop() {
      const answer = await call(socketPath, 'POST', '/stop', null);
      if (answer === null) return;
      // Its control socket answers until all servers are gone; the long poll then breaks off.
      for (let now = await state(); now; now = await state(now.revision, 1_000).catch(() => null)) {}
    },
  };
}

/** Asks over the socket; null when nobody listens there. */
function call(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
): Promise<{ status: number; body: unknown } | null> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode!, body: JSON.parse(Buffer.concat(chunks).toString('utf8')) });
      });
      response.on('error', () => resolve(null));
      response.on('aborted', () => resolve(null));
    });
    asked.on('error', (error: NodeJS.ErrnoException) => {
      const isGone = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(error.code ?? '');
      if (isGone) resolve(null);
      else reject(error);
    });
    asked.end(body === null ? undefined : JSON.stringify(body));
  });
}
