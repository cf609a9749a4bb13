/** Characters that draw nothing or turn the writing direction: they let text pretend to be other text. */
const invisible = /[\p{Cc}\p{Cs}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;

/** Untrusted text as lines without control, format or direction characters; no line break other than `\n` is left. */
export function cleanText(text: string): string {
  return text
    .replace(/\r\n?|[\u0085\u2028\u2029\v\f]/g, '\n')
    .split('\n')
    .map((line) => line.replaceAll('\t', '  ').replace(invisible, ''))
    .join('\n');
}

/** As {@link cleanText}, on one line. */
export function cleanLine(text: string): string {
  return cleanText(text).replace(/\s+/g, ' ').trim();
}

const wide =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|\p{Extended_Pictographic}\ufe0f/u;

/** Text without combining marks or wide characters: one cell a character. */
const narrow = /^[\x20-\x7e\u00a0-\u02ff…–─≤≥█]*$/;

/** Our own signs, each one character of two cells; with them alone nothing has to be segmented, which takes a while to start. */
const signs = /[✅❌⏳🚀]/gu;

/** Cells a text takes in a terminal or a monospaced editor (East Asian wide characters and emoji take two). */
export function displayWidth(text: string): number {
  const plain = text.replace(signs, '  ');
  if (narrow.test(plain)) return plain.length;
  let width = 0;
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (/^\p{M}+$/u.test(segment)) continue;
    width += wide.test(segment) ? 2 : 1;
  }
  return width;
}

/** Pads with blanks to a display width. */
export function pad(text: string, width: number, align: 'left' | 'right'): string {
  const blanks = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'right' ? blanks + text : text + blanks;
}

/** Cuts to a display width, ending in `…` when something was cut. */
export function clip(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  if (narrow.test(text)) return `${text.slice(0, width - 1)}…`;
  let out = '';
  let used = 0;
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    const size = displayWidth(segment);
    if (used + size > width - 1) break;
    out += segment;
    used += size;
  }
  return `${out}…`;
}

/** Cuts to a display width in the middle, where beginnings are alike. */
export function clipMiddle(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  const half = Math.floor(width / 2);
  const tail: string[] = [];
  let used = 0;
  for (const segment of [...text].reverse()) {
    used += displayWidth(segment);
    if (used > half) break;
    tail.unshift(segment);
  }
  return `${clip(text, width - half)}${tail.join('')}`;
}

/** A number with at most four significant decimals and thin thousands, as people read it. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) {
    return String(value).replace(/\B(?=(\d{3})+$)/g, '\u202f');
  }
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-4)) return value.toExponential(3);
  return size >= 100 ? value.toFixed(1) : size >= 1 ? value.toFixed(3) : value.toFixed(4);
}

/** What a report's verdict looks like: a sign and a word, so that neither colour nor font has to carry it alone. */
export const verdictWords = {
  pass: { sign: '✅', word: 'Passed' },
  warn: { sign: '⚠️', word: 'Attention' },
  fail: { sign: '❌', word: 'Failed' },
} as const;

/** As {@link verdictWords}, for one gate. */
export const gateWords = {
  pass: { sign: '✅', word: 'passed' },
  fail: { sign: '❌', word: 'failed' },
  skip: { sign: '➖', word: 'skipped' },
} as const;
