import { cleanLine, dispatcherOf, type ProxySettings, UpstreamError, UserError } from '../src/index.ts';
import { type BotEvent, readEvent, sinksOf } from './announce.ts';
import { projectAt } from './read.ts';
import { signWebhook } from './signature.ts';
import type { BotContext, Task } from './types.ts';

/** How receivers of `notify:` are reached. */
export interface NotifySettings {
  /** `whsec_…`, newest first; a delivery is signed with each. */
  secrets: readonly string[];
  /** The mail server with its credentials, and the sender's address; null: no mail. */
  smtp: { url: string; from: string } | null;
  /** On the way to webhooks. */
  proxy?: ProxySettings | null;
}

/** Nothing can be sent. */
export const noChannels: NotifySettings = { secrets: [], smtp: null };

/** Milliseconds that a receiver may take to answer. */
const longest = 10_000;

const codeOf = (error: unknown): string => {
  const { code, responseCode, name } = error as { code?: unknown; responseCode?: unknown; name?: unknown };
  return [code, responseCode].filter((one) => one !== undefined).join(' ') || String(name);
};

/**
 * Posts an event (Standard Webhooks, payload and signature scheme). Only the status of the answer is looked at; redirects
 * are not followed. Throws UserError environment-missing; UpstreamError, to be tried again, for all but 2xx.
 */
export async function postEvent(
  url: string,
  event: BotEvent,
  { secrets, proxy }: Pick<NotifySettings, 'secrets' | 'proxy'>,
  now: Date,
): Promise<void> {
  if (secrets.length === 0) {
    throw new UserError(
      'environment-missing',
      'CDL_NOTIFY_SECRET is not set: events for webhooks are signed',
      'set it for the bot (cdl bot --help) and for the receiver, or take the webhook out of notify: in cdl.yaml',
    );
  }
  const body = Buffer.from(JSON.stringify(event));
  const timestamp = String(Math.floor(now.getTime() / 1000));
  const { request } = await import('undici');
  // The path may be a secret.
  const service = `webhook ${new URL(url).host}`;
  let status: number;
  try {
    const answer = await request(url, {
      dispatcher: await dispatcherOf({ proxy }),
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'cdl',
        'webhook-id': event.id,
        'webhook-timestamp': timestamp,
        'webhook-signature': secrets
          .map((secret) => signWebhook(secret, event.id, timestamp, body))
          .join(' '),
      },
      body,
      signal: AbortSignal.timeout(longest),
    });
    // However long it is, nobody reads it.
    answer.body.on('error', () => {}).destroy();
    status = answer.statusCode;
  } catch (cause) {
    throw new UpstreamError(service, `does not answer (${codeOf(cause)})`, { retryable: true, cause });
  }
  if (status >= 200 && status < 300) return;
  throw new UpstreamError(service, `answered ${status}`, { retryable: true, status });
}

/** A mail about an event: plain text, one line a fact, none of which can be more than a line. */
export function mailOf({ id, type, timestamp, data }: BotEvent): { subject: string; text: string } {
  const facts: [string, string | number | null][] = [
    ['project', data.project],
    ['model', data.model],
    ['environment', data.environment],
    ['event', type],
    ['verdict', data.verdict],
    ['version', data.version],
    ['candidate', data.candidate],
    ['change', `${data.change} ${data.change_url}`],
    ['pipeline', data.pipeline_url],
    ['time', timestamp],
    ['id', id],
  ];
  const lines = facts.flatMap(([name, value]) =>
    value === null ? [] : [`${name}: ${cleanLine(String(value))}`],
  );
  const subject = `[${data.project}] ${type} of ${data.model}: ${data.verdict} (${data.change})`;
  return { subject: cleanLine(subject), text: `${lines.join('\n')}\n` };
}

async function mailTransport(url: string) {
  const { createTransport } = await import('nodemailer');
  const server = new URL(url);
  const secure = server.protocol === 'smtps:';
  const hasUser = server.username !== '';
  return createTransport({
    host: server.hostname.replace(/^\[|\]$/g, ''),
    port: Number(server.port || (secure ? 465 : 587)),
    secure,
    // A password is not sent where it can be read on the way.
    requireTLS: hasUser,
    ...(hasUser && {
      auth: { user: decodeURIComponent(server.username), pass: decodeURIComponent(server.password) },
    }),
    connectionTimeout: longest,
    greetingTimeout: longest,
    socketTimeout: longest,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
}

/** Whether the mail server answers and takes the login, without a mail. Throws UpstreamError. */
export async function checkMailServer({ url }: NonNullable<NotifySettings['smtp']>): Promise<void> {
  const transport = await mailTransport(url);
  try {
    await transport.verify();
  } catch (cause) {
    const server = `mail server ${new URL(url).host}`;
    throw new UpstreamError(server, `does not let us in (${codeOf(cause)})`, { retryable: true, cause });
  } finally {
    transport.close();
  }
}

/** Sends an event to one address. Throws UserError environment-missing; UpstreamError, to be tried again. */
export async function mailEvent(
  address: string,
  event: BotEvent,
  { smtp }: Pick<NotifySettings, 'smtp'>,
): Promise<void> {
  if (!smtp) {
    throw new UserError(
      'environment-missing',
      'CDL_SMTP_URL is not set: no mail can be sent',
      'set it and CDL_SMTP_FROM for the bot (cdl bot --help), or take email out of notify: in cdl.yaml',
    );
  }
  const transport = await mailTransport(smtp.url);
  try {
    await transport.sendMail({
      from: { name: '', address: smtp.from },
      to: { name: '', address },
      ...mailOf(event),
      // The same each time, so that a second delivery can be told from a second event.
      messageId: `<${event.id}@${smtp.from.split('@')[1]}>`,
      headers: { 'auto-submitted': 'auto-generated' },
    });
  } catch (cause) {
    throw new UpstreamError(
      `mail server ${new URL(smtp.url).host}`,
      `did not take the mail (${codeOf(cause)})`,
      {
        retryable: true,
        cause,
      },
    );
  } finally {
    transport.close();
  }
}

/**
 * Tells one receiver of one event, if the default branch's cdl.yaml still names it. Killed after it was told and before the
 * queue knows, it is told again, with the same id. Throws as {@link postEvent} and {@link mailEvent} do, and UserError
 * config-invalid when cdl.yaml cannot be read.
 */
export async function deliverEvent(
  context: BotContext,
  { change, event: id, sink }: Extract<Task, { kind: 'notify' }>,
  settings: NotifySettings,
): Promise<void> {
  const event = await readEvent(context, change, id);
  const tip = await context.mirror.head(await context.forge.defaultBranch());
  const read = tip ? await projectAt(context, tip) : null;
  if (!event || !read) return;
  if ('problem' in read) throw new UserError('config-invalid', read.problem);
  const found = sinksOf(read.project.notify ?? [], event.type).get(sink);
  if (!found) return;
  if ('webhook' in found) await postEvent(found.webhook, event, settings, context.now());
  else await mailEvent(found.email, event, settings);
}
