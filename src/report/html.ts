import { entities } from './escape.ts';

const mark = Symbol('html');

/** Text that is HTML already: nothing else gets into a page unescaped. */
export interface Html {
  readonly [mark]: string;
}

/** What a template takes; strings and numbers are escaped, null and false are nothing. */
export type Part = Html | string | number | null | undefined | false | readonly Part[];

/** Text for an element's content or a quoted attribute. Control characters, which HTML does not have, become U+FFFD. */
export function escapeText(text: string): string {
  return (
    text
      .replace(/[&<>"']/g, (character) => entities[character]!)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      .replace(/[\x00-\x08\x0b\x0e-\x1f\x7f]/g, '\ufffd')
  );
}

/** Vouches for text that is HTML: constants, and the output of a sanitizer. */
export function trusted(text: string): Html {
  return { [mark]: text };
}

/** The HTML as text. */
export function render(part: Part): string {
  if (part === null || part === undefined || part === false) return '';
  if (typeof part === 'string') return escapeText(part);
  if (typeof part === 'number') return String(part);
  if (mark in part) return part[mark];
  return part.map(render).join('');
}

/** A template of HTML; what is put into it is escaped unless it is HTML itself. Attributes must be quoted. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  return trusted(
    strings.map((text, index) => text + (index < parts.length ? render(parts[index]) : '')).join(''),
  );
}
