import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { FastifyInstance } from 'fastify';
import { packageRoot } from '../src/index.ts';
import type { ForwardedAnswer, ForwardedRequest } from './app.ts';
import type { BotConfig } from './config.ts';
import type { BotMetrics, ThreadMetrics } from './metrics.ts';
import type { Origin } from './origin.ts';
import type { TraceSettings } from './trace.ts';

/** What the thread that takes deliveries in needs. */
export interface ReceptionData
  extends Pick<BotConfig, 'forge' | 'projects' | 'ca' | 'proxy' | 'host' | 'port'> {
  /** What notifications of the store's bucket carry; null: none are taken. */
  bucketToken?: string | null;
  /** URL of the database, as every client connects to it. */
  database: string;
  /** Where traces go, and which version sends them; null for none. */
  traces: TraceSettings | null;
  version: string;
}

/** From the thread. */
export type FromReception =
  | { kind: 'listening'; port: number }
  | { kind: 'asked'; id: number; request: ForwardedRequest; metrics: ThreadMetrics }
  | { kind: 'error'; message: string; origin: Origin };

/** To the thread. */
export type ToReception = { kind: 'answer'; id: number; answer: ForwardedAnswer } | { kind: 'close' };

/** The bot's door, open. */
export interface Reception {
  port: number;
  /** Resolves, with the reason, when the thread ended without being told to. */
  lost: Promise<Error>;
  /** Takes no more deliveries; those that came are answered first. */
  close(): Promise<void>;
}

/**
 * Takes deliveries in on a thread of its own: however busy the bot is, the forge gets its answer at once. It shares the
 * process, so that nothing goes on when that is killed. What is not a delivery is answered by `pages`.
 */
export async function openReception(
  data: ReceptionData,
  pages: FastifyInstance,
  options: { metrics: BotMetrics; onError(message: string, about?: Origin): void },
): Promise<Reception> {
  const thread = new Worker(join(packageRoot(), 'dist', 'bot', 'receiver.js'), { workerData: data, env: {} });
  const tell = (message: ToReception) => thread.postMessage(message);
  let closing = false;

  async function answer(id: number, { method, url, headers, body }: ForwardedRequest): Promise<void> {
    const {
      statusCode,
      headers: said,
      rawPayload,
    } = await pages.inject({
      method: method as 'GET',
      url,
      headers: headers as Record<string, string>,
      ...(body.length > 0 && { payload: Buffer.from(body) }),
    });
    tell({ kind: 'answer', id, answer: { status: statusCode, headers: said, body: rawPayload } });
  }

  const lost = new Promise<Error>((resolve) => {
    thread.once('error', resolve);
    thread.once('exit', (code) => {
      if (!closing) resolve(new Error(`the thread that takes deliveries ended with ${code}`));
    });
  });
  const listening = new Promise<number>((resolve) => {
    thread.on('message', (message: FromReception) => {
      if (message.kind === 'listening') resolve(message.port);
      if (message.kind === 'error') options.onError(message.message, message.origin);
      if (message.kind !== 'asked') return;
      options.metrics.others = message.metrics;
      answer(message.id, message.request).catch((error: unknown) => {
        options.onError(String(error));
        const body = Buffer.from('{"error":"try again"}');
        tell({ kind: 'answer', id: message.id, answer: { status: 500, headers: {}, body } });
      });
    });
  });
  const first = await Promise.race([listening, lost]);
  if (first instanceof Error) throw first;
  return {
    port: first,
    lost,
    async close() {
      closing = true;
      const ended = once(thread, 'exit');
      tell({ kind: 'close' });
      await ended;
    },
  };
}
