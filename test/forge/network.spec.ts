import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openMirror } from '../../src/forge/git.ts';
import { readLimit, send } from '../../src/forge/http.ts';
import { openForge } from '../../src/forge/index.ts';
import { gitProxies, type Network, readProxies } from '../../src/forge/network.ts';
import { addMember, createProject, createToken, createUser } from '../../src/sandbox/seed.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/server.ts';

const listen = async (server: Server): Promise<number> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
};

/** A proxy: passes plain requests on (RFC 9112, 3.2.2) and opens tunnels (RFC 9110, 9.3.6), both to `target` whatever the name. */
function createProxy(target: () => number, said: string[], password: string | null): Server {
  const isKnown = (header: string | undefined) =>
    password === null || header === `Basic ${Buffer.from(`ann:${password}`).toString('base64')}`;
  const server = createServer((request, response) => {
    said.push(`${request.method} ${request.url}`);
    if (!isKnown(request.headers['proxy-authorization'])) return void response.writeHead(407).end();
    import('node:http').then(({ request: ask }) => {
      const url = new URL(request.url!);
      const onward = ask(
        {
          host: '127.0.0.1',
          port: target(),
          method: request.method,
          path: `${url.pathname}${url.search}`,
          headers: request.headers,
        },
        (answer) => {
          response.writeHead(answer.statusCode!, answer.headers);
          answer.pipe(response);
        },
      );
      request.pipe(onward);
    });
  });
  server.on('connect', (request, socket: Socket, head) => {
    said.push(`CONNECT ${request.url}`);
    if (!isKnown(request.headers['proxy-authorization']))
      return void socket.end(
        'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="p"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
      );
    const onward = connect(target(), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    for (const end of [socket, onward]) end.on('error', () => socket.destroy());
  });
  return server;
}

describe('proxies of an environment', () => {
  it('are read in small and capital letters, http’s for https too when it has none', () => {
    expect(readProxies({})).toBeNull();
    expect(readProxies({ NO_PROXY: 'a' })).toBeNull();
    expect(readProxies({ HTTP_PROXY: 'http://p:1', NO_PROXY: 'a,.b' })).toEqual({
      http: 'http://p:1',
      https: 'http://p:1',
      no: 'a,.b',
    });
    const both = readProxies({ HTTPS_PROXY: 'http://capital:1', https_proxy: 'http://small:1' });
    expect(both).toEqual({ http: null, https: 'http://small:1', no: null });
    expect(gitProxies(both)).toEqual({ https_proxy: 'http://small:1' });
  });
});

describe('a forge behind a proxy, with a certificate of its own', () => {
  let folder: string;
  let sandbox: Sandbox;
  let secure: Server;
  let proxy: Server;
  const said: string[] = [];
  let network: Required<Pick<Network, 'ca' | 'proxy'>>;
  let token: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'cdl-network-'));
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=gitlab.example', '-addext', 'subjectAltName=DNS:gitlab.example'];
    const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    execFileSync('openssl', ['req', '-x509', ...made, ...subject, '-keyout', key, '-out', cert], {
      stdio: 'ignore',
    });
    sandbox = await startSandbox({ folder: join(folder, 'sandbox'), path: '/gitlab' });
    const { world } = sandbox;
    const owner = createUser(world, { username: 'olga', name: 'Olga' });
    const source = join(folder, 'source');
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=O', '-c', 'user.email=o@example.com', ...args]);
    git('init', '-q', '-b', 'main', source);
    git('-C', source, 'commit', '-q', '--allow-empty', '-m', 'first');
    const project = await createProject(world, { namespace: 'acme', path: 'fashion', owner, from: source });
    addMember(project, owner, 50);
    token = createToken(world, owner).token;
    const inside = Number(new URL(sandbox.url).port);
    secure = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) });
    secure.on('request', (request, response) => {
      import('node:http').then(({ request: ask }) => {
        const { method, url: path, headers } = request;
        const onward = ask({ host: '127.0.0.1', port: inside, method, path, headers }, (answer) => {
          response.writeHead(answer.statusCode!, answer.headers);
          answer.pipe(response);
        });
        request.pipe(onward);
      });
    });
    const behind = await listen(secure);
    proxy = createProxy(() => behind, said, 'secret');
    const port = await listen(proxy);
    const address = `http://ann:secret@127.0.0.1:${port}`;
    network = {
      ca: readFileSync(cert, 'utf8'),
      proxy: { http: address, https: address, no: 'localhost,127.0.0.1' },
    };
  });
  afterAll(async () => {
    for (const server of [proxy, secure]) {
      server?.closeAllConnections();
      server?.close();
    }
    await sandbox?.close();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    said.length = 0;
  });

  // A name that no DNS knows: only the proxy gets there.
  const url = 'https://gitlab.example/gitlab';
  const open = (more: Network) => openForge({ kind: 'gitlab', url, project: 'acme/fashion', token, ...more });

  it('is reached through it by the API and by git, below a sub-path', async () => {
    const forge = await open(network);
    expect(await forge.defaultBranch()).toBe('main');
    expect(said).toEqual(['CONNECT gitlab.example:443']);
    said.length = 0;
    const access = forge.git();
    const mirror = await openMirror({
      folder: join(folder, 'mirror'),
      access,
      path: process.env.PATH ?? '',
    });
    expect(await mirror.head('main')).toMatch(/^[0-9a-f]{40}$/);
    // libcurl asks first how it may say who it is.
    expect(new Set(said)).toEqual(new Set(['CONNECT gitlab.example:443']));
  });

  it('is not trusted without the certificate, nor reached when the proxy refuses', async () => {
    const untrusted = await open({ ...network, ca: undefined });
    await expect(untrusted.defaultBranch()).rejects.toMatchObject({
      message: expect.stringMatching(/SELF_SIGNED/),
      retryable: false,
    });
    const { proxy: given } = network;
    const refused = given!.https!.replace('secret', 'wrong');
    const denied = await open({ ...network, proxy: { ...given!, https: refused } });
    await expect(denied.defaultBranch()).rejects.toThrow(/407/);
  });

  it('is asked directly when NO_PROXY names it', async () => {
    const forge = await openForge({
      kind: 'gitlab',
      url: sandbox.url,
      project: 'acme/fashion',
      token,
      ...network,
    });
    expect(await forge.defaultBranch()).toBe('main');
    expect(said).toEqual([]);
  });

  it('is asked by whole address, without a tunnel, when it is not encrypted', async () => {
    const inside = Number(new URL(sandbox.url).port);
    const plain = createProxy(() => inside, said, null);
    const address = `http://127.0.0.1:${await listen(plain)}`;
    const forge = await openForge({
      kind: 'gitlab',
      url: 'http://gitlab.example/gitlab',
      project: 'acme/fashion',
      token,
      proxy: { http: address, https: address, no: null },
    });
    expect(await forge.defaultBranch()).toBe('main');
    const mirror = await openMirror({
      folder: join(folder, 'plain'),
      access: forge.git(),
      path: process.env.PATH ?? '',
    });
    expect(await mirror.head('main')).not.toBeNull();
    expect(said[0]).toMatch(/^GET http:\/\/gitlab\.example\/gitlab\/api\/v4\/projects\/acme%2Ffashion/);
    expect(said.at(-1)).toMatch(/^POST http:\/\/gitlab\.example\/gitlab\/acme\/fashion\.git/);
    expect(said.some((line) => line.startsWith('CONNECT'))).toBe(false);
    plain.closeAllConnections();
    plain.close();
  });
});

describe('a rate limit', () => {
  let server: Server;
  let answers: { status: number; headers: Record<string, string> }[] = [];
  let url: URL;
  beforeAll(async () => {
    server = createServer((_request, response) => {
      const { status, headers } = answers.shift() ?? { status: 200, headers: {} };
      response.writeHead(status, headers).end('{"message":"Retry later"}');
    });
    url = new URL(`http://127.0.0.1:${await listen(server)}/`);
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  const waits: number[] = [];
  const ask = (method = 'GET') => {
    waits.length = 0;
    return send({ method, url, headers: {}, body: null }, async (ms) => void waits.push(ms));
  };
  const inSeconds = (seconds: number) => String(Math.floor(Date.now() / 1000) + seconds);

  it('is waited for as Retry-After says, also with a POST, which was not carried out', async () => {
    answers = [{ status: 429, headers: { 'retry-after': '3' } }];
    await ask('POST');
    expect(waits).toEqual([3000]);
  });

  it('is waited for until GitLab’s RateLimit-Reset, GitHub’s x-ratelimit-reset, or so many seconds', async () => {
    answers = [{ status: 429, headers: { 'ratelimit-reset': inSeconds(20) } }];
    await ask();
    expect(waits[0]).toBeGreaterThan(15_000);
    expect(waits[0]).toBeLessThanOrEqual(21_000);
    answers = [
      { status: 403, headers: { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': inSeconds(30) } },
    ];
    await ask();
    expect(waits[0]).toBeGreaterThan(25_000);
    answers = [{ status: 429, headers: { 'ratelimit-reset': '12' } }];
    await ask();
    expect(waits).toEqual([12_000]);
  });

  it('that lasts longer than a minute is an error to come back from, with nothing waited', async () => {
    answers = [{ status: 429, headers: { 'ratelimit-reset': inSeconds(600) } }];
    await expect(ask()).rejects.toMatchObject({ status: 429, retryable: true });
    expect(waits).toEqual([]);
  });

  it('that is over already is not waited for, and a 403 with room left is a refusal', async () => {
    expect(readLimit(429, { 'ratelimit-reset': '1000000000' }, 2e12).retryAfter).toBe('0');
    answers = [{ status: 403, headers: { 'ratelimit-remaining': '3', 'ratelimit-reset': inSeconds(9) } }];
    await expect(ask()).rejects.toMatchObject({ code: 'forge-denied' });
  });
});
