import type { Digest } from './digest.ts';

/** What a report or a gate says. */
export type Verdict = 'pass' | 'warn' | 'fail';

/** A picture as data; drawn when the report is rendered. */
export type Chart =
  | {
      kind: 'confusion';
      title: string;
      classes: string[] /** rows = truth, columns = prediction */;
      counts: number[][];
    }
  | {
      kind: 'lines';
      title: string;
      x: string;
      y: string;
      series: { name: string; points: [number, number][] }[];
      /** Lines without a name that lie pale behind the others; what is far from those is left out. */
      behind?: [number, number][][];
    }
  | { kind: 'bars'; title: string; x: string; y: string; bars: { name: string; value: number }[] }
  | {
      kind: 'parallel';
      title: string;
      /**
       * Hyperparameters (or results) with the words at places in [0, 1] of their axes, from below, and the best
       * configuration's value. `scale`: between the words lie values without any.
       */
      axes: { name: string; scale: boolean; ticks: { place: number; text: string }[]; best: string }[];
      /** One configuration each: places in [0, 1] on the axes in their order; of two scores the lower is better. */
      lines: { places: number[]; score: number; best: boolean }[];
    }
  | {
      kind: 'sheet';
      title: string;
      /** Small PNG pictures (base64), a row of them under each name. */
      rows: { name: string; pictures: string[] }[];
    };

/** One gate's outcome as people read it. */
export interface GateLine {
  name: string;
  status: 'pass' | 'fail' | 'skip';
  explanation: string;
}

/** One block of a report. Strings are plain text: the renderers escape them. */
export type Block =
  | { kind: 'heading'; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'facts'; facts: [string, string][] }
  /** Facts to follow. `url` is one the forge or this program made, never text of others: it is all that a report links to. */
  | { kind: 'links'; links: { name: string; text: string; url: string }[] }
  | { kind: 'table'; head: string[]; align: ('left' | 'right')[]; rows: string[][] }
  | { kind: 'gates'; gates: GateLine[] }
  | { kind: 'chart'; chart: Chart }
  | { kind: 'code'; language: string; text: string }
  /** A command a person can copy, and why. */
  | { kind: 'command'; command: string; why: string }
  | { kind: 'details'; summary: string; blocks: Block[] };

/** A report is data; `report/` renders it to markdown (with pictures) or to a terminal. `key` names the comment it keeps up to date. */
export interface Report {
  key: string;
  title: string;
  verdict: Verdict;
  /** One sentence: why this verdict. */
  summary: string;
  blocks: Block[];
  /** Digests a reader may want to look up. */
  refs?: Record<string, Digest>;
}
