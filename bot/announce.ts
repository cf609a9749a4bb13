import { z } from 'zod';
import { digestJson, type EventType, eventTypes, type Notify, shortDigest } from '../src/index.ts';
import type { BotContext, Facts } from './types.ts';

const eventSchema = z.strictObject({
  /** Says the same for the same event, whoever makes it. */
  id: z.string(),
  type: z.enum(eventTypes),
  /** When the bot saw it; ISO 8601. */
  timestamp: z.string(),
  data: z.strictObject({
    project: z.string(),
    model: z.string(),
    /** Null where the event is of no environment. */
    environment: z.string().nullable(),
    /** As the forge writes it, `!12`. */
    change: z.string(),
    change_url: z.string(),
    /** Of the registry. */
    version: z.number().nullable(),
    /** Twelve digits of the candidate's digest, as reports have them. */
    candidate: z.string().nullable(),
    pipeline_url: z.string().nullable(),
    /** How the jobs ended, `registered`, or what the evaluation says. */
    verdict: z.string(),
  }),
});

/** What receivers of `notify:` are told. */
export type BotEvent = z.infer<typeof eventSchema>;

/** A receiver: an entry of `notify:`, or one of its addresses. */
export type Sink = { webhook: string } | { email: string };

const noteSchema = z.strictObject({ event: eventSchema, queued: z.boolean() });

const noteName = (change: number, id: string): string => `event/${change}/${id}`;

/** Name of a receiver in the queue, which does not show its address: that may be a secret. */
export function sinkId(sink: Sink): string {
  return digestJson(sink).slice(7, 23);
}

/** Receivers of a kind of event, each once. */
export function sinksOf(notify: readonly Notify[], type: EventType): Map<string, Sink> {
  const wanted = notify.filter(({ events }) => events.includes(type));
  const sinks = wanted.flatMap(({ webhook, email }): Sink[] => [
    ...(webhook === undefined ? [] : [{ webhook }]),
    ...(email ?? []).map((address) => ({ email: address })),
  ]);
  return new Map(sinks.map((sink) => [sinkId(sink), sink]));
}

const endings = ['failed', 'canceled', 'success'] as const;

/** How the jobs of a step ended that are about the model; null while one is under way, or when there are none. */
function endingOf(facts: Facts, step: 'train' | 'tune'): (typeof endings)[number] | null {
  const models = Object.keys(facts.headProject.models);
  const jobs = (facts.pipeline?.jobs ?? []).filter(({ name }) => {
    if (!new RegExp(`^${step}(?![a-z0-9])`, 'i').test(name)) return false;
    // GitLab: `train: [fashion]`, `tune: [fashion, 2]`; GitHub: `train (fashion)`. A name without a model is about all.
    const listed = /[[(]([^\])]*)[\])]/.exec(name)?.[1]?.split(/\s*,\s*/) ?? [];
    const named = listed.filter((one) => models.includes(one));
    return named.length === 0 || named.includes(facts.model);
  });
  const states = jobs.map(({ state }) => state);
  if (states.includes('running') || states.includes('waiting')) return null;
  return endings.find((one) => states.includes(one)) ?? null;
}

/** What happened to one model of an open change, oldest first. The time is the one it is looked at. Pure. */
export function eventsOf(facts: Facts, now: Date): BotEvent[] {
  const { change, claim, pipeline, answer } = facts;
  if (change.state !== 'open' || facts.paused !== null) return [];
  const make = (
    type: EventType,
    about: string,
    more: Partial<BotEvent['data']> & { verdict: string },
  ): BotEvent => {
    const data = {
      project: facts.project,
      model: facts.model,
      environment: null,
      change: change.reference,
      change_url: change.url,
      version: null,
      candidate: null,
      pipeline_url: pipeline?.pipeline.url ?? null,
      ...more,
    };
    const { model, environment } = data;
    const named = digestJson({ change: change.url, model, environment, type, about });
    return { id: `evt_${named.slice(7, 39)}`, type, timestamp: now.toISOString(), data };
  };
  const events: BotEvent[] = [];
  const made =
    claim.kind === 'verified'
      ? { version: claim.claim.version, candidate: shortDigest(claim.digest) }
      : { version: null, candidate: null };
  const own = claim.kind === 'verified' && claim.source !== 'registry' ? claim.claim.run : null;
  const isOver = pipeline?.state !== 'running' && pipeline?.state !== 'waiting';
  for (const [step, type] of [
    ['tune', 'tuning'],
    ['train', 'training'],
  ] as const) {
    const verdict = facts.isFirst ? endingOf(facts, step) : null;
    if (!verdict) continue;
    if (verdict === 'success' && own) events.push(make(type, own, { ...made, verdict }));
    // What was made is known when it is registered: a job that only found an earlier run again (after the bot's own commit)
    // is no news. One that is repeated and ends otherwise is.
    else if (verdict !== 'success' || isOver) {
      events.push(make(type, `${pipeline!.pipeline.id} ${verdict}`, { verdict }));
    }
  }
  if (claim.kind !== 'verified') return events;
  if (facts.isFirst && claim.source !== 'lock') {
    events.push(make('registration', claim.digest, { ...made, verdict: 'registered' }));
  }
  if (answer) {
    const { verdict } = answer.evaluation;
    const { environment, run } = facts;
    const told = { ...made, environment, pipeline_url: run?.url ?? null, verdict };
    events.push(make('evaluation', answer.digest, told));
  }
  return events;
}

/**
 * Queues what happened for those who want to know, once for each event: the first to see it writes it down, and whoever
 * was killed before all was queued queues the same again. Nothing is written or queued of what nobody wants to know.
 */
export async function announce(context: BotContext, facts: Facts, notify: readonly Notify[]): Promise<void> {
  if (notify.length === 0) return;
  const { state, effects } = context;
  const change = facts.change.id;
  for (const seen of eventsOf(facts, context.now())) {
    const sinks = sinksOf(notify, seen.type);
    if (sinks.size === 0) continue;
    const name = noteName(change, seen.id);
    const before = await state.cursor(name);
    const note = before ? noteSchema.parse(JSON.parse(before)) : { event: seen, queued: false };
    if (note.queued) continue;
    await effects.setCursor(name, JSON.stringify(note));
    for (const sink of sinks.keys()) await effects.enqueue({ kind: 'notify', change, event: seen.id, sink });
    await effects.setCursor(name, JSON.stringify({ ...note, queued: true }));
  }
}

/** An event that was announced, as it was then; null when there is none. */
export async function readEvent(
  { state }: Pick<BotContext, 'state'>,
  change: number,
  id: string,
): Promise<BotEvent | null> {
  const note = await state.cursor(noteName(change, id));
  return note ? noteSchema.parse(JSON.parse(note)).event : null;
}
