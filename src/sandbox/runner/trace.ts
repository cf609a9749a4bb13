import type { CoordinatorClient, JobPayload } from './client.ts';

const intervalMs = 150;
const keepAliveMs = 1000;

/** Replaces secrets by `[MASKED]` in a stream of text, also where one is cut in two. */
export class Masker {
  readonly #secrets: string[];
  readonly #longest: number;
  #rest = '';

  constructor(secrets: readonly string[]) {
    // Longer ones first, or a secret that contains another would show its remainder.
    this.#secrets = [...new Set(secrets.filter((secret) => secret !== ''))].sort(
      (a, b) => b.length - a.length,
    );
    this.#longest = this.#secrets[0]?.length ?? 1;
  }

  /** The text that is safe to show now; what may be the beginning of a secret waits. */
  push(text: string): string {
    let held = this.#rest + text;
    for (const secret of this.#secrets) held = held.replaceAll(secret, '[MASKED]');
    let keep = 0;
    for (let length = Math.min(this.#longest - 1, held.length); length > 0; length -= 1) {
      const tail = held.slice(-length);
      if (this.#secrets.some((secret) => secret.startsWith(tail))) {
        keep = length;
        break;
      }
    }
    this.#rest = held.slice(held.length - keep);
    return held.slice(0, held.length - keep);
  }

  end(): string {
    const rest = this.#rest;
    this.#rest = '';
    return rest;
  }
}

/** A job's log on its way to the forge, in pieces while the job runs. `onCancel` is called once when the forge wants it stopped. */
export class Trace {
  readonly #client: CoordinatorClient;
  readonly #job: JobPayload;
  readonly #masker: Masker;
  readonly #onCancel: () => void;
  readonly #keepAlive: NodeJS.Timeout;
  readonly #decoder = new TextDecoder();
  #pending: Buffer[] = [];
  #offset = 0;
  #timer: NodeJS.Timeout | null = null;
  #sending: Promise<void> = Promise.resolve();
  #canceled = false;

  constructor(client: CoordinatorClient, job: JobPayload, secrets: readonly string[], onCancel: () => void) {
    this.#client = client;
    this.#job = job;
    this.#masker = new Masker(secrets);
    this.#onCancel = onCancel;
    this.#keepAlive = setInterval(() => {
      this.#sending = this.#sending.then(() => this.#touch());
    }, keepAliveMs);
  }

  write(data: string | Buffer): void {
    const text = typeof data === 'string' ? data : this.#decoder.decode(data, { stream: true });
    this.#add(this.#masker.push(text));
  }

  /** One line by the runner itself. */
  line(text: string): void {
    this.write(`${text}\n`);
  }

  /** Sends what is left. */
  async end(): Promise<void> {
    clearInterval(this.#keepAlive);
    this.#add(this.#masker.push(this.#decoder.decode()) + this.#masker.end());
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#sending = this.#sending.then(() => this.#send());
    await this.#sending;
  }

  #add(text: string): void {
    if (text === '') return;
    this.#pending.push(Buffer.from(text));
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#sending = this.#sending.then(() => this.#send());
    }, intervalMs);
  }

  async #send(): Promise<void> {
    const bytes = Buffer.concat(this.#pending);
    if (bytes.length === 0) return;
    this.#pending = [];
    try {
      const heard = await this.#client.appendTrace(this.#job, this.#offset, bytes);
      const received = heard.received ?? this.#offset + bytes.length;
      // The forge may have fewer bytes than we thought (a lost answer) or already these: go on from what it has.
      const sent = Math.min(Math.max(received - this.#offset, 0), bytes.length);
      this.#offset += sent;
      if (sent < bytes.length && !heard.canceled) this.#pending.unshift(bytes.subarray(sent));
      if (heard.canceled) this.#cancel();
    } catch {
      // Kept for the next round; a forge that stays away ends the job when it cannot be reported.
      this.#pending.unshift(bytes);
    }
  }

  async #touch(): Promise<void> {
    try {
      if ((await this.#client.update(this.#job, null)).canceled) this.#cancel();
    } catch {
      // As above.
    }
  }

  #cancel(): void {
    if (this.#canceled) return;
    this.#canceled = true;
    this.#onCancel();
  }
}
