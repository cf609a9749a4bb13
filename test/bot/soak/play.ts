import {
  candidateDigest,
  type Digest,
  parseLock,
  parseProject,
  planDeployment,
  reviewDigest,
} from '../../../src/index.ts';
import type { MergeRequest, Pipeline } from '../../../src/sandbox/state.ts';
import { textAt } from '../jobs.ts';
import type { Dice } from './chaos.ts';
import {
  type ApprovalFact,
  counting,
  expectedOf,
  type FinalFacts,
  passesGates,
  type RejectionFact,
} from './oracle.ts';
import type { Name, SoakProject } from './project.ts';

/** A rejection as it was said. */
interface SaidRejection extends RejectionFact {
  /** Head that the bot made by merging the default branch before it was seen to react; null when it was the same. */
  moved: string | null;
}

/** A change and what people did to it. */
export interface PlayedChange {
  iid: number;
  branch: string;
  parts: number;
  approvals: ApprovalFact[];
  rejections: SaidRejection[];
  /** Comments that say something to the bot, and those that do not. */
  commands: number[];
  talk: number[];
  /** A command whose answer is waited for: until then nothing else happens to the change. */
  waiting: { note: number; done(reaction: string): void } | null;
  /** Candidate and evaluation that were merged. */
  merged: { candidate: Digest; evaluation: Digest } | null;
  /** Whether a bot had the time to report: a change that is a draft by then is told nothing. */
  everReported: boolean;
}

/** People at work on a project, one random thing after the other. */
export interface Play {
  changes: PlayedChange[];
  required: number;
  /** Opens another change. */
  propose(): Promise<void>;
  /** Lets something random happen. */
  act(): Promise<void>;
  /** People look at the reports that are there, and decide or merge. */
  review(): Promise<void>;
  /** Ends what runs, now and then badly. */
  finishAll(): Promise<void>;
  /** Changes that are open now. */
  open: readonly PlayedChange[];
  factsOf(change: PlayedChange): Promise<FinalFacts>;
  mr(change: PlayedChange): MergeRequest;
  /** The evaluation of the head against what is live; null when there is none. */
  evaluationOf(change: PlayedChange): Promise<Digest | null>;
  headLock(change: PlayedChange): Promise<{ candidate: Digest; evaluation: Digest } | null>;
  /** Notices answers that came. */
  notice(): void;
}

/** Who writes in the name of the bot's people: vera and walt decide, ada and eve push, eve may not decide. */
const validators: readonly Name[] = ['vera', 'walt', 'ada'];

/** Starts to play on a project. */
export function createPlay(soak: SoakProject, dice: Dice, required: number): Play {
  const { project } = soak;
  const changes: PlayedChange[] = [];
  const deciders = new Set<string>(['vera', 'walt']);
  const bot = soak.people['cdl-bot'];
  /** How often something else went live. */
  let promotions = 0;

  const textOf = (sha: string, path: string) => textAt(project.repository, sha, path);

  const mr = (change: PlayedChange) => project.mergeRequests.get(change.iid)!;
  const pipelinesOf = (change: PlayedChange) =>
    [...project.pipelines.values()].filter(
      (one) => one.mergeRequestIid === change.iid && one.sha === mr(change).sha,
    );

  async function evaluationOf(change: PlayedChange): Promise<Digest | null> {
    const claim = soak.claims.get(mr(change).sha);
    if (!claim) return null;
    const live = await soak.live();
    return soak.answers.get(`${candidateDigest(claim.candidate)} ${live?.candidate ?? null}`) ?? null;
  }

  /**
   * Whether somebody's word about the head before is about this one. The bot brought the default branch in meanwhile: which of
   * both came first is for it to say.
   */
  const isAbout = ({ moved, reason }: SaidRejection, sha: string): boolean =>
    moved === sha &&
    soak.claims.has(sha) &&
    project.statuses.some((one) => one.sha === sha && one.description === `sent back to train: ${reason}`);

  async function factsOf(change: PlayedChange): Promise<FinalFacts> {
    const { sha, draft } = mr(change);
    const claim = soak.claims.get(sha) ?? null;
    const live = await soak.live();
    const evaluation = await evaluationOf(change);
    const candidate = claim && candidateDigest(claim.candidate);
    let review: string | null = null;
    if (claim && candidate && evaluation) {
      const config = parseProject((await textOf(sha, 'cdl.yaml'))!).models.fashion!;
      const packaged = await soak.work.getArtifact(claim.candidate.package);
      const plan = planDeployment({
        project: 'fashion',
        model: 'fashion',
        environment: 'production',
        from: live?.candidate ?? null,
        fromPackage: live?.package ?? null,
        to: candidate,
        package: claim.candidate.package,
        version: claim.version,
        bytes: packaged.files.reduce((sum, file) => sum + file.size, 0),
        environmentConfig: config.environments.production!,
        resources: config.resources.serve,
      });
      review = reviewDigest({ candidate, evaluation, plan: plan.digest });
    }
    return {
      draft,
      pipeline: pipelinesOf(change).at(-1)?.status === 'failed' ? 'failed' : 'success',
      candidate,
      review,
      quality: candidate ? (soak.quality.get(candidate) ?? 90) : 0,
      liveQuality: live ? (soak.quality.get(live.candidate) ?? 90) : null,
      required,
      approvals: change.approvals,
      rejections: change.rejections.map((one) =>
        isAbout(one, sha) ? { ...one, candidate: candidate! } : one,
      ),
      mayApprove: deciders,
    };
  }

  async function headLock(change: PlayedChange) {
    const text = await textOf(mr(change).sha, 'cdl.lock');
    return text === null ? null : (parseLock(text).models.fashion?.production ?? null);
  }

  /** GitLab refuses a commit when the branch moves under it (the bot's lock commit), and a person sends it once more. */
  async function commit(who: Name, branch: string, files: Record<string, string>, start?: string) {
    const asked = {
      branch,
      ...(start ? { start_branch: start } : {}),
      commit_message: `change ${Object.keys(files).join(' ')}`,
      actions: Object.entries(files).map(([path, content]) => ({
        action: 'create',
        file_path: path,
        content,
      })),
    };
    for (let left = 20; ; left--) {
      try {
        await soak.api(who, 'POST', 'repository/commits', asked);
        return;
      } catch (error) {
        if (left === 0 || !/Please refresh and try again/.test(String(error))) throw error;
      }
    }
  }

  const part = (change: Pick<PlayedChange, 'branch' | 'parts'>) => {
    const percent = dice.pick([60, 88, 90, 90, 90, 90]);
    return {
      [`parts/${change.branch}-${change.parts}.ts`]: `// ${percent} ${change.branch} ${change.parts}\n`,
    };
  };

  async function say(change: PlayedChange, who: Name, body: string): Promise<number> {
    return (await soak.api<{ id: number }>(who, 'POST', `merge_requests/${change.iid}/notes`, { body })).id;
  }

  /** Says something whose effect depends on when it is read, and keeps the change as it is until it was. */
  async function decide(
    change: PlayedChange,
    who: Name,
    body: string,
    done: (reaction: string) => void,
  ): Promise<void> {
    const note = await say(change, who, body);
    change.commands.push(note);
    change.waiting = { note, done };
  }

  const notes = (change: PlayedChange) => mr(change).notes.filter((note) => note.authorId === bot.id);

  /** The change stands still and its report shows what is there now. */
  async function calm(change: PlayedChange): Promise<FinalFacts | null> {
    if (mr(change).state !== 'opened' || change.waiting) return null;
    const pipeline = pipelinesOf(change).at(-1);
    if (pipeline?.status !== 'success') return null;
    const facts = await factsOf(change);
    if (facts.review === null) return null;
    const line = `/approve ${facts.review.slice(7, 19)}`;
    const shown = notes(change).some((note) => note.body.includes(line));
    return shown || facts.rejections.length > 0 ? facts : null;
  }

  async function approve(change: PlayedChange): Promise<void> {
    const facts = await calm(change);
    if (!facts) return;
    const review = facts.review!;
    const who = dice.pick(['vera', 'vera', 'vera', 'walt', 'walt', 'walt', 'ada', 'eve'] as const);
    const passed = passesGates(facts.quality, facts.liveQuality);
    const override = !passed && dice.chance(0.5);
    const line = `/approve ${review.slice(7, 19)}${override ? ' --override "it is urgent"' : ''}`;
    const counts = deciders.has(who) && (passed || override);
    const before = promotions;
    const { sha } = mr(change);
    await decide(change, who, line, (reaction) => {
      if (!counts) return;
      // Another change was promoted or brought in meanwhile: whether the word came before it is for the bot to say.
      if ((promotions !== before || mr(change).sha !== sha) && reaction !== 'thumbsup') return;
      change.approvals.push({ who, review, override });
      change.rejections = change.rejections.filter((one) => one.who !== who);
    });
  }

  async function reject(change: PlayedChange): Promise<void> {
    const facts = (await calm(change)) ?? (await calmApproved(change));
    if (!facts) return;
    const who = dice.pick(['vera', 'walt', 'eve'] as const);
    const reason = `more epochs, ${change.commands.length}`;
    const candidate = facts.candidate!;
    const { sha } = mr(change);
    await decide(change, who, `/reject train "${reason}"`, () => {
      if (!validators.includes(who)) return;
      const moved = mr(change).sha === sha ? null : mr(change).sha;
      const others = change.rejections.filter((one) => one.who !== who);
      change.rejections = [...others, { who, candidate, reason, moved }];
    });
  }

  async function merge(change: PlayedChange): Promise<void> {
    const facts = await calmApproved(change);
    if (!facts) return;
    const { sha } = mr(change);
    const lock = await headLock(change);
    const evaluation = await evaluationOf(change);
    if (!lock || lock.candidate !== facts.candidate || lock.evaluation !== evaluation) return;
    const said = project.statuses.filter((one) => one.sha === sha && one.name === 'cdl/fashion').at(-1);
    if (said?.status !== 'success') return;
    const claim = soak.claims.get(sha)!;
    const done = await soak
      .api('olga', 'PUT', `merge_requests/${change.iid}/merge`, { sha })
      .catch((error: unknown) => (/\b(405|409|422)\b/.test(String(error)) ? null : Promise.reject(error)));
    if (!done) {
      // Somebody else's lock is there already: the bot puts both together, and then it is another candidate.
      await decide(change, 'ada', '/lock refresh', () => undefined);
      return;
    }
    change.merged = { candidate: facts.candidate as Digest, evaluation };
    const packaged = claim.candidate.package;
    await soak.setLive({
      candidate: facts.candidate as Digest,
      evaluation,
      package: packaged,
      plan: facts.review as Digest,
      version: claim.version,
      since: new Date().toISOString(),
      commit: mr(change).mergeCommitSha!,
    });
    promotions++;
  }

  /** Approved, and nothing about it is in motion. */
  async function calmApproved(change: PlayedChange): Promise<FinalFacts | null> {
    if (mr(change).state !== 'opened' || change.waiting) return null;
    if (pipelinesOf(change).at(-1)?.status !== 'success') return null;
    const facts = await factsOf(change);
    return expectedOf(facts).approved ? facts : null;
  }

  const open = () => changes.filter((change) => mr(change).state === 'opened');
  const free = () => open().filter((change) => !change.waiting);

  async function act(): Promise<void> {
    const roll = dice.next();
    if (roll < 0.34) {
      const able = finishable();
      if (able.length > 0) await finish(dice.pick(able));
      return;
    }
    const all = free();
    if (all.length === 0) return;
    const change = dice.pick(all);
    if (roll < 0.42) return pushContent(change);
    if (roll < 0.46) {
      change.parts++;
      return commit('ada', change.branch, { [`docs-${change.branch}-${change.parts}.md`]: 'words\n' });
    }
    if (roll < 0.68) return approve(change);
    if (roll < 0.72) return reject(change);
    if (roll < 0.8) return merge(change);
    if (roll < 0.83) return setDraft(change);
    if (roll < 0.86) return closeOrReopen();
    if (roll < 0.96) return talk(change);
    return editComment(change);
  }

  /** What may end now: a change that waits for an answer stays as it is. */
  function finishable(): Pipeline[] {
    const frozen = new Set(changes.filter((one) => one.waiting).map((one) => one.iid));
    return soak.running.filter((one) => one.mergeRequestIid === null || !frozen.has(one.mergeRequestIid));
  }

  async function finish(pipeline: Pipeline): Promise<void> {
    // Only a push of content may fail: a failed pipeline of the bot's own commit would say nothing about people.
    const isContent = pipeline.mergeRequestIid !== null && pushed.has(pipeline.sha);
    await soak.finish(pipeline, isContent && dice.chance(0.15) ? 'failed' : 'success');
  }

  async function review(): Promise<void> {
    for (const change of free()) {
      const roll = dice.next();
      const isApproved = (await calmApproved(change)) !== null;
      if (roll < 0.06) await reject(change);
      else if (roll < 0.9) await (isApproved ? merge(change) : approve(change));
    }
  }

  const pushed = new Set<string>();
  async function pushContent(change: PlayedChange): Promise<void> {
    change.parts++;
    await commit(dice.pick(['ada', 'ada', 'eve']), change.branch, part(change));
    pushed.add(mr(change).sha);
  }

  const hasReport = (change: PlayedChange) =>
    mr(change).notes.some((note) => !note.system && note.body.includes('<!-- cdl:report:fashion '));

  async function setDraft(change: PlayedChange): Promise<void> {
    const facts = await factsOf(change);
    // Once approved, a draft keeps the word it had: what it says then depends on who was first.
    if (!facts.draft && counting(facts) >= required) return;
    const draft = !facts.draft;
    change.everReported ||= draft && hasReport(change);
    await soak.api('ada', 'PUT', `merge_requests/${change.iid}`, {
      title: `${draft ? 'Draft: ' : ''}Better`,
    });
  }

  async function closeOrReopen(): Promise<void> {
    const able = changes.filter((one) => mr(one).state !== 'merged' && !one.waiting);
    if (able.length === 0) return;
    const change = dice.pick(able);
    const event = mr(change).state === 'opened' ? (dice.chance(0.3) ? 'close' : null) : 'reopen';
    if (event) await soak.api('ada', 'PUT', `merge_requests/${change.iid}`, { state_event: event });
  }

  async function talk(change: PlayedChange): Promise<void> {
    const who = dice.pick(['ada', 'eve', 'vera'] as const);
    const body = dice.pick([
      'Looks good to me.',
      'As I said:\n> /approve 3f9a2c41b7d6\nplease',
      '/help',
      '/status',
      '/aprove',
      '/explain accuracy',
      '/help\n/status',
    ]);
    const note = await say(change, who, body);
    (/^\//.test(body) ? change.commands : change.talk).push(note);
  }

  async function editComment(change: PlayedChange): Promise<void> {
    const all = [...change.talk, ...change.commands];
    const note = mr(change).notes.find((one) => one.id === all[dice.below(all.length)]);
    if (!note || change.talk.includes(note.id)) return;
    // What was said stays said: only new comments count.
    if (!notes(change).some((one) => one.body.includes(`cdl:reply:${note.id} `))) return;
    const who = Object.values(soak.people).find((one) => one.id === note.authorId)!.username as Name;
    await soak.api(who, 'PUT', `merge_requests/${change.iid}/notes/${note.id}`, {
      body: '/reject train "changed my mind"',
    });
  }

  return {
    changes,
    required,
    act,
    review,
    async finishAll() {
      for (const pipeline of finishable()) await finish(pipeline);
    },
    get open() {
      return open();
    },
    factsOf,
    mr,
    evaluationOf,
    headLock,
    async propose() {
      const number = changes.length + 1;
      const change: PlayedChange = {
        iid: 0,
        branch: `exp-${number}`,
        parts: 0,
        approvals: [],
        rejections: [],
        commands: [],
        talk: [],
        waiting: null,
        merged: null,
        everReported: false,
      };
      await commit('ada', change.branch, part(change), 'main');
      const draft = dice.chance(0.15);
      const made = await soak.api<{ iid: number; sha: string }>('ada', 'POST', 'merge_requests', {
        source_branch: change.branch,
        target_branch: 'main',
        title: `${draft ? 'Draft: ' : ''}Better`,
      });
      change.iid = made.iid;
      pushed.add(made.sha);
      changes.push(change);
    },
    notice() {
      for (const change of changes) {
        const { waiting } = change;
        // Who hears the same no again only sees a reaction.
        const said = waiting && mr(change).notes.find((one) => one.id === waiting.note)!;
        const reaction = said?.emoji.find((one) => one.userId === bot.id);
        if (!reaction) continue;
        waiting!.done(reaction.name);
        change.waiting = null;
      }
    },
  };
}
