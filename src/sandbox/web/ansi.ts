import { type Html, html, trusted } from '../../report/html.ts';

/** How text looks: an attribute each, colours 0–7. */
interface Look {
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  front: number | null;
  back: number | null;
}

const plain: Look = { bold: false, dim: false, italic: false, underline: false, front: null, back: null };

/** A piece of a log as HTML lines, the look its end leaves behind (SGR parameters, e.g. `1;31`), and the bytes used. */
export interface LogPiece {
  html: Html;
  style: string;
  lines: number;
}

/** Select Graphic Rendition (ECMA-48, 8.3.117), as far as logs use it; 256 and true colours come out as the nearest of the eight. */
function change(look: Look, parameters: string): Look {
  let now = { ...look };
  const codes = parameters === '' ? [0] : parameters.split(/[;:]/).map(Number);
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at]!;
    if (code === 0) now = { ...plain };
    else if (code === 1) now.bold = true;
    else if (code === 2) now.dim = true;
    else if (code === 3) now.italic = true;
    else if (code === 4) now.underline = true;
    else if (code === 22) now = { ...now, bold: false, dim: false };
    else if (code === 23) now.italic = false;
    else if (code === 24) now.underline = false;
    else if (code >= 30 && code <= 37) now.front = code - 30;
    else if (code >= 90 && code <= 97) now.front = code - 90;
    else if (code === 39) now.front = null;
    else if (code >= 40 && code <= 47) now.back = code - 40;
    else if (code >= 100 && code <= 107) now.back = code - 100;
    else if (code === 49) now.back = null;
    else if (code === 38 || code === 48) {
      const rgb = codes[at + 1] === 2;
      const colour = rgb ? nearest(codes.slice(at + 2, at + 5)) : indexed(codes[at + 2] ?? 7);
      if (code === 38) now.front = colour;
      else now.back = colour;
      at += rgb ? 4 : 2;
    }
  }
  return now;
}

function nearest(rgb: readonly number[]): number {
  const bit = (at: number) => ((rgb[at] ?? 0) >= 128 ? 1 << at : 0);
  return bit(0) | bit(1) | bit(2);
}

function indexed(code: number): number {
  if (code < 16) return code % 8;
  if (code >= 232) return code >= 244 ? 7 : 0;
  const cube = code - 16;
  return nearest([Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((level) => level * 51));
}

/** The look as SGR parameters, to go on with. */
function parametersOf(look: Look): string {
  return [
    ...(look.bold ? [1] : []),
    ...(look.dim ? [2] : []),
    ...(look.italic ? [3] : []),
    ...(look.underline ? [4] : []),
    ...(look.front === null ? [] : [30 + look.front]),
    ...(look.back === null ? [] : [40 + look.back]),
  ].join(';');
}

function classesOf(look: Look): string {
  return [
    ...(look.bold ? ['b'] : []),
    ...(look.dim ? ['d'] : []),
    ...(look.italic ? ['i'] : []),
    ...(look.underline ? ['u'] : []),
    ...(look.front === null ? [] : [`f${look.front}`]),
    ...(look.back === null ? [] : [`g${look.back}`]),
  ].join(' ');
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
const section = /section_(?:start|end):\d+:[^\r\n]*?\r(?:\x1b\[0K)?/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: CSI, OSC and two-character sequences (ECMA-48, 5.4)
const sequence = /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-_]?/g;

/**
 * A job's log as HTML, one element a line: colours become classes, other escape sequences and GitLab's section markers
 * (doc: ci/jobs/job_logs, "Custom collapsible sections") are dropped, and of a line that was written over with carriage
 * returns the last state is shown. `style` is what an earlier piece left.
 */
export function renderLog(text: string, style = ''): LogPiece {
  let look = style === '' ? plain : change(plain, style);
  if (text === '') return { html: trusted(''), style, lines: 0 };
  const lines = text.replace(/\n$/, '').split('\n');
  const out = lines.map((line) => {
    const shown = line.replace(section, '').replace(/\r+$/, '');
    const over = shown.lastIndexOf('\r');
    if (over >= 0)
      for (const match of shown.slice(0, over).matchAll(sequence))
        if (match[1] !== undefined) look = change(look, match[1]);
    const rest = shown.slice(over + 1);
    const parts: Html[] = [];
    let at = 0;
    const add = (part: string) => {
      if (part === '') return;
      const classes = classesOf(look);
      parts.push(classes === '' ? html`${part}` : html`<span class="${classes}">${part}</span>`);
    };
    for (const match of rest.matchAll(sequence)) {
      add(rest.slice(at, match.index));
      at = match.index + match[0].length;
      if (match[1] !== undefined) look = change(look, match[1]);
    }
    add(rest.slice(at));
    return html`<div>${parts}</div>`;
  });
  return { html: html`${out}`, style: parametersOf(look), lines: lines.length };
}
