import type { Digest } from '../core/digest.ts';

/** Why an item was set aside. */
export type QuarantineReason = 'wrong-length' | 'not-a-byte' | 'unknown-class' | 'conflicting-labels';

/** One item that is not used: where it came from, and the class it was said to be of (null when that is the problem). */
export interface Quarantined {
  reason: QuarantineReason;
  position: string;
  class: number | null;
  /** Its id, where several lines are about one item. */
  item?: Digest;
}

/** Raw labelled items as read from a source, in its order: `x` holds `count × size` bytes, `y` a class index each. */
export interface Items {
  size: number;
  count: number;
  x: Uint8Array;
  y: Uint8Array;
  /** Where item `index` came from, for people. */
  position(index: number): string;
  quarantined: Quarantined[];
}
