import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { InstanceStatus } from './gateway-types.ts';

/** How to start one server process. */
export interface InstanceOptions {
  id: string;
  /** The bundled `serve/main.js`. */
  program: string;
  args: string[];
  /** File for its stderr; removed when it is gone. */
  log: string;
  /** Milliseconds a process may take until it answers. */
  startTimeout: number;
  /** Called on every change of `status`, and once when the process is gone; `reason` is null for one that was asked to go. */
  onChange(): void;
  onGone(reason: string | null): void;
}

/** What a server process may see of the environment: nothing of ours. */
const scrubbed = { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC' };

const healthEvery = 2_000;
const healthTimeout = 5_000;
const healthStrikes = 3;
const stopGrace = 30_000;

/** A server process and the connections to it. It ends by itself when the process that holds this is gone. */
export class Instance {
  readonly id: string;
  readonly agent = new Agent({ keepAlive: true, maxFreeSockets: 64 });
  status: InstanceStatus = 'starting';
  port: number | null = null;
  /** Requests being answered by it. */
  inFlight = 0;
  readonly #child: ChildProcess;
  readonly #options: InstanceOptions;
  readonly #startTimer: NodeJS.Timeout;
  #healthTimer: NodeJS.Timeout | null = null;
  #readySince: number | null = null;
  #strikes = 0;
  #killedFor: string | null = null;
  #isAsked = false;

  constructor(options: InstanceOptions) {
    this.id = options.id;
    this.#options = options;
    mkdirSync(dirname(options.log), { recursive: true });
    const log = openSync(options.log, 'w', 0o600);
    this.#child = spawn(
      process.execPath,
      [options.program, ...options.args, '--attached', '--behind-gateway'],
      {
        env: scrubbed,
        stdio: ['pipe', 'pipe', log],
      },
    );
    closeSync(log);
    this.#child.stdin!.on('error', () => {});
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#heard(line));
    this.#startTimer = setTimeout(
      () => this.#kill(`it did not answer within ${options.startTimeout} ms`),
      options.startTimeout,
    );
    this.#child.on('error', (error) => this.#gone(`it could not be started: ${error.message}`));
    this.#child.on('close', (code, signal) => {
      const how = signal ? `killed by ${signal}` : `exit code ${code}`;
      this.#gone(this.#isAsked ? null : (this.#killedFor ?? `${how}: ${this.#lastWords()}`));
    });
  }

  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  /** Milliseconds since it first answered; 0 when it never did. */
  readyFor(): number {
    return this.#readySince === null ? 0 : performance.now() - this.#readySince;
  }

  /** Stops it: no new requests, the present ones are finished, then SIGTERM. */
  drain(): void {
    if (this.status === 'draining') return;
    this.status = 'draining';
    this.#isAsked = true;
    if (this.inFlight === 0) this.#terminate();
    this.#options.onChange();
  }

  /** To be called when a request that counted in `inFlight` has ended. */
  released(): void {
    this.inFlight--;
    if (this.status === 'draining' && this.inFlight === 0) this.#terminate();
  }

  #terminate(): void {
    this.#child.kill('SIGTERM');
    setTimeout(() => this.#child.kill('SIGKILL'), stopGrace).unref();
  }

  #heard(line: string): void {
    if (this.status !== 'starting') return;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return;
    }
    if (typeof value !== 'object' || value === null || !('ready' in value) || !('port' in value)) return;
    clearTimeout(this.#startTimer);
    this.port = Number(value.port);
    this.status = 'ready';
    this.#readySince = performance.now();
    this.#healthTimer = setInterval(() => this.#checkHealth(), healthEvery);
    this.#options.onChange();
  }

  #checkHealth(): void {
    if (this.status !== 'ready') return;
    const failed = (): void => {
      this.#strikes++;
      if (this.#strikes >= healthStrikes) this.#kill('it stopped answering health checks');
    };
    const options = { host: '127.0.0.1', port: this.port, path: '/v2/health/ready', timeout: healthTimeout };
    const probe = request(options, (response) => {
      response.resume();
      if (response.statusCode === 200) this.#strikes = 0;
      else failed();
    });
    probe.on('timeout', () => probe.destroy(new Error('timeout')));
    probe.on('error', failed);
    probe.end();
  }

  #kill(reason: string): void {
    this.#killedFor = reason;
    this.#child.kill('SIGKILL');
  }

  #gone(reason: string | null): void {
    clearTimeout(this.#startTimer);
    if (this.#healthTimer) clearInterval(this.#healthTimer);
    this.agent.destroy();
    // What mattered of it was quoted in the reason; a crash loop must not fill the disk with files.
    rmSync(this.#options.log, { force: true });
    this.#options.onGone(reason);
  }

  #lastWords(): string {
    const lines = readFileSync(this.#options.log, 'utf8').trim().split('\n');
    return lines.slice(-5).join(' ').slice(-500) || 'it said nothing';
  }
}
