import Parser, { type MarkdownIt, type StateBlock } from 'markdown-it';

/** Longer is no conversation; what is beyond is not read. In characters. */
const longest = 100_000;

/** Elements that show what is in them as code or as somebody else's words. */
const quoting = /<!--[\s\S]*?(?:-->|$)|<(\/?)(pre|code|samp|kbd|tt|blockquote|q)(?=[\s/>])[^<>]*>/gi;

/** A quote of many lines: `>>>`, anything, and as many `>` again or the end (GitLab docs, user/markdown "Multiline blockquote"). */
function quoteFence(state: StateBlock, start: number, end: number, silent: boolean): boolean {
  const fenceAt = (line: number): number => {
    if (state.sCount[line]! - state.blkIndent >= 4) return 0;
    const text = state.src.slice(state.bMarks[line]! + state.tShift[line]!, state.eMarks[line]);
    return /^>{3,}[ \t]*$/.test(text) ? text.trimEnd().length : 0;
  };
  const length = fenceAt(start);
  if (length === 0) return false;
  if (silent) return true;
  let line = start + 1;
  while (line < end && fenceAt(line) < length) line++;
  state.line = Math.min(line + 1, end);
  return true;
}

/**
 * CommonMark with what decides whether a line is plain text, and nothing else: emphasis, links and entities stay as they were
 * typed. A line of hyphens below a command makes no heading of it (the signature of a mail is one).
 */
function createReader(): MarkdownIt {
  const reader = new Parser('commonmark', { html: true, maxNesting: 60 });
  reader.block.ruler.disable('lheading');
  reader.block.ruler.before('blockquote', 'quote_fence', quoteFence, {
    alt: ['paragraph', 'reference', 'blockquote', 'list'],
  });
  reader.inline.ruler.enableOnly(['text', 'escape', 'backticks', 'html_inline']);
  reader.core.ruler.disable('text_join');
  return reader;
}

const reader = createReader();

/** Follows the quoting elements that are open, through all blocks of a comment. */
function createElements() {
  const open: string[] = [];
  return {
    see(html: string): void {
      for (const [, closing, name] of html.matchAll(quoting)) {
        if (name === undefined) continue;
        if (closing === '') open.push(name.toLowerCase());
        else open.splice(Math.max(0, open.lastIndexOf(name.toLowerCase())));
      }
    },
    isOpen: () => open.length > 0,
  };
}

/**
 * The lines of a comment that a reader sees as plain text, as they were typed: those of paragraphs that stand in no quote, code
 * or HTML. A line right below a list belongs to its last item for markdown, not for who typed it at the margin: it counts too.
 * Total: whatever the text, the answer is a list.
 */
export function plainLines(body: string): string[] {
  const text = body
    .slice(0, longest)
    // NUL is no character of a text (and PostgreSQL keeps none).
    .replaceAll('\0', '')
    .replace(/\r\n?/g, '\n')
    // For GitLab before 17 a quote of many lines also begins right below another quote.
    .replace(/(?<=^|\n)(?=>{3,}[ \t]*(?:\n|$))/g, '\n');
  const source = text.split('\n');
  const tokens = reader.parse(text, {});
  const elements = createElements();
  const lines: string[] = [];
  let quotes = 0;
  for (const [index, token] of tokens.entries()) {
    if (token.type === 'blockquote_open') quotes++;
    if (token.type === 'blockquote_close') quotes--;
    if (token.type === 'html_block') elements.see(token.content);
    if (token.type !== 'inline') continue;
    let plain = '';
    for (const part of token.children ?? []) {
      if (part.type === 'html_inline') elements.see(part.content);
      const typed =
        part.type === 'hardbreak'
          ? '\n'
          : part.type === 'html_inline'
            ? part.content.replace(/^<!--[\s\S]*$/, '').replaceAll('\n', ' ')
            : part.type === 'code_inline'
              ? `${part.markup}${part.content}${part.markup}`
              : part.type === 'text_special'
                ? part.markup
                : part.content;
      plain += elements.isOpen() ? '\u200b' : typed;
    }
    if (quotes > 0 || tokens[index - 1]?.type !== 'paragraph_open') continue;
    const found = plain.split('\n');
    if (token.level === 1) {
      lines.push(...found);
    } else {
      const [first = 0, end = 0] = token.map ?? [];
      const atMargin = new Set(source.slice(first + 1, end).filter((line) => /^\S/.test(line)));
      lines.push(...found.filter((line) => atMargin.has(line)));
    }
  }
  return lines;
}
