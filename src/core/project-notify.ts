import { z } from 'zod';

/** What can be announced: the end of training and of a search, a verified candidate, the answer of an evaluation. */
export const eventTypes = ['training', 'tuning', 'registration', 'evaluation'] as const;

/** One of {@link eventTypes}. */
export type EventType = (typeof eventTypes)[number];

const loopback = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;

/** Whether what is sent there cannot be read on the way: https, or it stays on this machine. */
function isSafe(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === 'https:' || (protocol === 'http:' && loopback.test(hostname));
}

/** One entry of `notify:`. Exactly one of `webhook` and `email`. */
const notifySchema = z
  .strictObject({
    webhook: z
      .string()
      .max(2000)
      .refine(isSafe, 'an https URL (http for this machine only)')
      .refine(
        (url) => !/^[a-z]+:\/\/[^/?#]*@/i.test(url),
        'credentials do not belong into a URL: deliveries are signed',
      )
      .optional()
      .describe('https URL that events are posted to, signed as Standard Webhooks says'),
    email: z
      .array(z.email().max(254))
      .min(1)
      .max(20)
      .optional()
      .describe('addresses; each gets its own mail'),
    events: z
      .array(z.enum(eventTypes))
      .min(1)
      .default([...eventTypes])
      .describe('what is announced; default all'),
  })
  .refine((one) => (one.webhook === undefined) !== (one.email === undefined), {
    message: 'it has webhook or email, one of them',
  });

/** The schema of `notify:`: who is told of events besides the change itself. */
export const notifiesSchema = z.array(notifySchema).max(10);

/** One of `notify:`. */
export type Notify = z.output<typeof notifySchema>;
