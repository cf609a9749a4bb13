import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** The header in which the label server proves that it is the one we told the secret. */
export const hookHeader = 'x-cdl-token';

/** Something that looks again whenever it is told to. */
export interface Watch {
  /** The receiver's port; null when there is none. */
  port: number | null;
  /** Settles when it was stopped and the last look is over; rejects with what a look threw that is not to be tried again. */
  ended: Promise<void>;
}

const same = (given: unknown, secret: string) => {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  return typeof given === 'string' && timingSafeEqual(hash(given), hash(secret));
};

/**
 * Looks at once, then at every webhook and at least every `seconds`, one look at a time. A webhook only says "look": what it
 * carries is not read, so that a lost one costs time, and a doubled or a forged one nothing. Those without the secret get 401.
 */
export async function watchLabels(options: {
  look: () => Promise<void>;
  seconds: number;
  hook: { host: string; port: number; secret: string } | null;
  signal: AbortSignal;
}): Promise<Watch> {
  const { look, hook, signal } = options;
  let wanted = true;
  let wake: () => void = () => undefined;
  const ask = () => {
    wanted = true;
    wake();
  };
  const server = hook
    ? createServer((request, response) => {
        request.resume();
        const known = request.method === 'POST' && same(request.headers[hookHeader], hook.secret);
        response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' }).end('{}');
        if (known) ask();
      })
    : null;
  if (server) {
    server.listen(hook!.port, hook!.host);
    await once(server, 'listening');
  }
  const timer = setInterval(ask, options.seconds * 1000);
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort);
  const run = async () => {
    try {
      while (!signal.aborted) {
        if (wanted) {
          wanted = false;
          await look();
          continue;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
          // Between the test above and here it may have been told already.
          if (wanted || signal.aborted) resolve();
        });
      }
    } finally {
      clearInterval(timer);
      signal.removeEventListener('abort', onAbort);
      server?.closeAllConnections();
      server?.close();
    }
  };
  return { port: server ? (server.address() as AddressInfo).port : null, ended: run() };
}
