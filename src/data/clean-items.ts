import { type Digest, digestBytes } from '../core/digest.ts';
import type { CleanStep, DataRules } from '../core/project-data-rules.ts';
import { cleanItem, stepName } from './clean.ts';
import { askProgram, type Program } from './custom.ts';
import type { Answer } from './custom-protocol.ts';
import { hasItemRules, inspectItem } from './inspect.ts';
import type { RawItem } from './raw-item.ts';

/** All that decides how items are cleaned. Programs stand in the order in which steps and rules name them. */
export interface CleanPlan {
  steps: readonly CleanStep[];
  rules: DataRules;
  classes: readonly string[];
  /** Secret of `pseudonymise`; null where no step needs it. */
  key: string | null;
  /** One for each `run` step; the last for `rules.check`, when there is one. */
  programs: readonly Program[];
}

/** An item on its way: as it came, as it is by now, and why it is set aside (null while it is not). */
export interface Passed {
  original: RawItem;
  item: RawItem;
  /** Names of the steps that changed it. */
  changed: readonly string[];
  aside: { step: string; reasons: readonly string[] } | null;
}

/**
 * Takes items through all steps and rules, one after the other; nothing is lost, what cannot be used comes out with its
 * reasons and its original bytes. The result for an item depends on the item and the plan alone (a custom function that
 * keeps state between items breaks that, and its author's cache). Streams: a bounded number of items is held.
 */
export async function* passItems(
  items: AsyncIterable<RawItem> | Iterable<RawItem>,
  plan: CleanPlan,
): AsyncGenerator<Passed> {
  let stream: AsyncIterable<Passed> = start(items);
  const programs = [...plan.programs];
  for (const step of plan.steps) {
    if (typeof step === 'object' && 'run' in step) {
      stream = cleanByProgram(stream, programs.shift()!, plan.classes);
    } else {
      stream = eachItem(stream, async (passed) => {
        const made = cleanItem(passed.item, step, plan.key);
        if ('reason' in made) return setAside(passed, stepName(step), [made.reason]);
        if (!made.changed) return passed;
        return { ...passed, item: made.item, changed: [...passed.changed, stepName(step)] };
      });
    }
  }
  if (hasItemRules(plan.rules)) {
    stream = eachItem(stream, async (passed) => {
      const reasons = await inspectItem(passed.item, plan.rules);
      return reasons.length === 0 ? passed : setAside(passed, 'rules', reasons);
    });
  }
  if (plan.rules.check) stream = checkByProgram(stream, programs.shift()!, plan.classes);
  yield* stream;
}

async function* start(items: AsyncIterable<RawItem> | Iterable<RawItem>): AsyncGenerator<Passed> {
  for await (const item of items) yield { original: item, item, changed: [], aside: null };
}

function setAside(passed: Passed, step: string, reasons: readonly string[]): Passed {
  return { ...passed, aside: { step, reasons } };
}

async function* eachItem(
  stream: AsyncIterable<Passed>,
  action: (passed: Passed) => Promise<Passed>,
): AsyncGenerator<Passed> {
  for await (const passed of stream) yield passed.aside ? passed : await action(passed);
}

const live = (passed: Passed) => (passed.aside ? null : passed.item);

async function* cleanByProgram(
  stream: AsyncIterable<Passed>,
  program: Program,
  classes: readonly string[],
): AsyncGenerator<Passed> {
  for await (const { given, answer } of askProgram(program, stream, live, classes)) {
    if (!answer) yield given;
    else if (answer.reject !== undefined) yield setAside(given, 'run', [answer.reject]);
    else yield changeItem(given, answer);
  }
}

function changeItem(passed: Passed, answer: Answer): Passed {
  const { item } = passed;
  const bytes =
    answer.text !== undefined
      ? Buffer.from(answer.text, 'utf8')
      : answer.base64 !== undefined
        ? Buffer.from(answer.base64, 'base64')
        : item.bytes;
  const id: Digest = bytes === item.bytes ? item.id : digestBytes(bytes);
  const extension = answer.extension ?? item.extension;
  const attributes = answer.attributes ?? item.attributes;
  if (id === item.id && extension === item.extension && same(attributes, item.attributes)) return passed;
  return {
    ...passed,
    item: { ...item, id, bytes, extension, attributes },
    changed: [...passed.changed, 'run'],
  };
}

function same(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && a[name] === b[name])
  );
}

async function* checkByProgram(
  stream: AsyncIterable<Passed>,
  program: Program,
  classes: readonly string[],
): AsyncGenerator<Passed> {
  for await (const { given, answer } of askProgram(program, stream, live, classes)) {
    const reasons = answer?.reasons ?? (answer?.reject !== undefined ? [answer.reject] : []);
    yield reasons.length === 0 ? given : setAside(given, 'check', reasons);
  }
}
