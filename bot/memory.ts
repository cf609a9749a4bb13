import type { BotState, ChangeMemory } from './types.ts';

/** Whether a note is about the change: called `<what>/<change>`, with or without more behind. Dead letters are called otherwise. */
const isAbout = (name: string, change: number): boolean => {
  const [what, number] = name.split('/', 2);
  return what !== 'failed' && number === String(change);
};

/**
 * The bot's memory as one task about a change sees it. What is remembered of the change is read at once, and again after the
 * task itself changed it: tasks about one change wait for each other, so that nobody else does meanwhile. A note that says
 * already what it is to say is not written. `letter` is a further note that the task asks for.
 */
export function rememberChange(state: BotState, change: number, letter: string): BotState {
  let read: Promise<ChangeMemory> | null = null;
  let notes: Promise<Map<string, string>> | null = null;
  const memory = (): Promise<ChangeMemory> => {
    read ??= state.remembered(change, letter).catch((error: unknown) => {
      read = null;
      throw error;
    });
    return read;
  };
  const noted = async (): Promise<Map<string, string>> => {
    notes ??= memory().then((all) => new Map(all.notes));
    try {
      return await notes;
    } catch (error) {
      notes = null;
      throw error;
    }
  };
  const isOurs = (name: string): boolean => name === letter || isAbout(name, change);
  /** Does a write, and reads again after it: also when it failed, for it may have been done all the same. */
  const changing =
    <A extends unknown[]>(write: (...args: A) => Promise<void>) =>
    async (...args: A) => {
      try {
        await write(...args);
      } finally {
        read = null;
      }
    };
  return {
    ...state,
    addApproval: changing(state.addApproval),
    withdrawButton: changing(state.withdrawButton),
    setRejection: changing(state.setRejection),
    liftRejection: changing(state.liftRejection),
    addPipeline: changing(state.addPipeline),
    setJobs: changing(state.setJobs),
    approvals: async (of) => (of === change ? (await memory()).approvals : state.approvals(of)),
    rejections: async (of) => (of === change ? (await memory()).rejections : state.rejections(of)),
    pipelinesFor: async (of) => (of === change ? (await memory()).pipelines : state.pipelinesFor(of)),
    jobsOf: async (of) => (of === change ? (await memory()).jobs : state.jobsOf(of)),
    async cursor(name) {
      return isOurs(name) ? ((await noted()).get(name) ?? null) : state.cursor(name);
    },
    async setCursor(name, value) {
      if (!isOurs(name)) return state.setCursor(name, value);
      const all = await noted();
      if ((all.get(name) ?? '') === value) return;
      await state.setCursor(name, value);
      all.set(name, value);
    },
  };
}
