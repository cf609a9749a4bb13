// What must be true in the end, worked out from the final facts alone: no code of the bot is asked.

/** A person's approval of exactly what a report showed. */
export interface ApprovalFact {
  who: string;
  review: string;
  override: boolean;
}

/** A change sent back; it counts while the candidate is the same. */
export interface RejectionFact {
  who: string;
  candidate: string;
  reason: string;
}

/** Everything about an open change that counts in the end. */
export interface FinalFacts {
  draft: boolean;
  /** How the newest pipeline of the head ended. */
  pipeline: 'success' | 'failed';
  /** Of the head; null when its pipeline failed. */
  candidate: string | null;
  /** Of candidate, evaluation against what is live, and plan. */
  review: string | null;
  /** Percent right: of this candidate, and of what is live. */
  quality: number;
  liveQuality: number | null;
  required: number;
  approvals: readonly ApprovalFact[];
  rejections: readonly RejectionFact[];
  /** Who may approve now: has the role, is still a member, had no part in the change. */
  mayApprove: ReadonlySet<string>;
}

/** How an open change must stand. */
export interface Expected {
  status: string | RegExp;
  /** A signed approval of exactly this stands. */
  approved: boolean;
  /** The lock at the head names this candidate and evaluation. */
  locked: boolean;
  /** The report ends with the line to copy. */
  line: boolean;
}

/** The gates of the project: at least 85 %, and no more than one percent worse than what is live. */
export function passesGates(quality: number, live: number | null): boolean {
  return quality >= 85 && (live === null || quality - live >= -1);
}

/** Who counts for what is there now, each once; with a failed gate only who said why. */
export function counting(facts: FinalFacts): number {
  const passed = passesGates(facts.quality, facts.liveQuality);
  const people = facts.approvals.filter(
    (one) => one.review === facts.review && facts.mayApprove.has(one.who) && (passed || one.override),
  );
  return new Set(people.map((one) => one.who)).size;
}

/** How an open change must stand. */
export function expectedOf(facts: FinalFacts): Expected {
  if (facts.candidate === null) {
    return { status: 'failed: failed: train: [fashion]', approved: false, locked: false, line: false };
  }
  const passed = passesGates(facts.quality, facts.liveQuality);
  const count = counting(facts);
  const enough = count >= facts.required;
  const rejected = facts.rejections.filter((one) => one.candidate === facts.candidate);
  const open = (passed || enough) && rejected.length === 0;
  const approved = enough && rejected.length === 0 && !facts.draft;
  const plural = facts.required === 1 ? 'approval' : 'approvals';
  const status =
    rejected.length > 0
      ? `failed: sent back to train: ${rejected.at(-1)!.reason}`
      : approved
        ? 'success: approved'
        : !open
          ? /^failed: gate failed: /
          : enough
            ? 'pending: approved; waiting because the change is a draft'
            : `pending: waiting for approval (${count} of ${facts.required} ${plural})`;
  return { status, approved, locked: open && !facts.draft, line: !enough && rejected.length === 0 };
}
