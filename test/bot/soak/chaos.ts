import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** Random numbers from a seed (mulberry32): the same seed, the same story. */
export interface Dice {
  /** In [0, 1). */
  next(): number;
  below(limit: number): number;
  pick<T>(items: readonly T[]): T;
  chance(probability: number): boolean;
}

/** Dice of a seed. */
export function createDice(seed: number): Dice {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return { next, below, pick: (items) => items[below(items.length)]!, chance: (p) => next() < p };
}

/** What may happen to a request on its way: an answer of our own, half of the real one, or none after it was carried out. */
export type Fault =
  | { kind: 'status'; status: number; headers?: Record<string, string>; body?: string }
  | { kind: 'half' }
  /** The other side did it; the answer never arrives. */
  | { kind: 'lost' }
  | { kind: 'refused' };

/** A proxy before a server, that lets things go wrong. */
export interface FaultProxy {
  url: string;
  /** Requests that came, in order; `fault` decides about each. */
  requests: { method: string; path: string }[];
  fault: (entry: { method: string; path: string }, index: number) => Fault | null;
  close(): Promise<void>;
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Starts a proxy before `target` (`http://host:port`). Bodies pass as they are; links in answers lead to the target. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const to = new URL(target);
  const server = createServer((incoming, outgoing) => {
    const path = incoming.url ?? '/';
    const entry = { method: incoming.method ?? 'GET', path };
    const index = proxy.requests.push(entry) - 1;
    const fault = proxy.fault(entry, index);
    if (fault?.kind === 'refused') return void incoming.socket.destroy();
    if (fault?.kind === 'status') {
      incoming.resume();
      const headers = { 'content-type': 'application/json', ...fault.headers };
      return void outgoing.writeHead(fault.status, headers).end(fault.body ?? '{"message":"not today"}');
    }
    const headers = { ...incoming.headers, host: to.host };
    const forward = request(
      { hostname: to.hostname, port: to.port, path, method: entry.method, headers },
      (answer) => {
        if (fault?.kind === 'lost') {
          answer.resume();
          return void answer.on('end', () => incoming.socket.destroy());
        }
        if (fault?.kind === 'half') return void cutInHalf(answer);
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    const cutInHalf = async (answer: IncomingMessage) => {
      const body = await buffer(answer);
      const { 'transfer-encoding': _chunked, ...rest } = answer.headers;
      outgoing.writeHead(answer.statusCode ?? 502, { ...rest, 'content-length': String(body.length + 10) });
      outgoing.write(body.subarray(0, body.length / 2), () => incoming.socket.destroy());
    };
    forward.on('error', () => incoming.socket.destroy());
    incoming.pipe(forward);
  });
  server.keepAliveTimeout = 1000;
  const proxy: FaultProxy = {
    url: await listen(server),
    requests: [],
    fault: () => null,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

/** Where webhooks arrive before the bots: some are lost, some come twice, some late and in another order. */
export interface Mangler {
  url: string;
  /** Where the next delivery goes. */
  target: () => string;
  /** Hands over what was held back, in a random order. */
  flush(all?: boolean): Promise<void>;
  calm: boolean;
  /** Deliveries by what became of them, and how many were handed over in all. */
  counts: Record<'lost' | 'doubled' | 'late' | 'prompt' | 'sent', number>;
  close(): Promise<void>;
}

/** Starts a mangler. */
export async function startMangler(dice: Dice, target: () => string): Promise<Mangler> {
  const held: (() => Promise<void>)[] = [];
  const running = new Set<Promise<void>>();
  const post = async (headers: Record<string, string>, body: Buffer): Promise<void> => {
    mangler.counts.sent++;
    // A bot that is away just now misses it, as with a real forge.
    await fetch(`${mangler.target()}/webhooks/gitlab`, {
      method: 'POST',
      headers,
      body: new Uint8Array(body),
    })
      .then((answer) => answer.arrayBuffer())
      .catch(() => undefined);
  };
  const server = createServer(async (incoming, outgoing) => {
    const body = await buffer(incoming);
    outgoing.writeHead(202).end();
    const headers = Object.fromEntries(
      Object.entries(incoming.headers).flatMap(([name, value]) =>
        /^(webhook-|x-gitlab-|content-type|idempotency)/.test(name) && typeof value === 'string'
          ? [[name, value]]
          : [],
      ),
    );
    const luck = mangler.calm ? 1 : dice.next();
    const send = () => {
      const work = post(headers, body);
      running.add(work);
      return work.finally(() => running.delete(work));
    };
    if (luck < 0.1) mangler.counts.lost++;
    else if (luck < 0.2) {
      mangler.counts.doubled++;
      void send();
      held.push(send);
    } else if (luck < 0.45) {
      mangler.counts.late++;
      held.push(send);
    } else {
      mangler.counts.prompt++;
      void send();
    }
  });
  const mangler: Mangler = {
    url: await listen(server),
    target,
    calm: false,
    counts: { lost: 0, doubled: 0, late: 0, prompt: 0, sent: 0 },
    async flush(all = false) {
      const count = all ? held.length : dice.below(held.length + 1);
      const out = Array.from({ length: count }, () => held.splice(dice.below(held.length), 1)[0]!);
      await Promise.all(out.map((send) => send()));
      if (all) await Promise.all(running);
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return mangler;
}
