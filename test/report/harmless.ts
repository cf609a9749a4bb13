import MarkdownIt from 'markdown-it';
import { expect } from 'vitest';

const parser = new MarkdownIt({ html: true });

/** What forges make a ping, a link, a cross-reference or a picture of in plain text, by what it is. */
const references: Readonly<Record<string, RegExp>> = {
  mention: /@[\p{L}\p{N}_]/u,
  'issue, change, label, milestone, snippet, epic or alert': /[#!~%$&^][\p{L}\p{N}_"]/u,
  'issue by its short name': /\bG[HL]-\d/i,
  'issue of a tracker': /\b[A-Z][A-Z0-9_]+-\d/,
  address: /:\/\/|\bwww\./i,
  emoji: /:[a-z+-][\w+-]*:/i,
  'reference in brackets': /\[\w+:|\[\[/,
};

/** Characters that draw nothing or turn the direction of reading, besides the line end. */
export const invisible = /[^\P{Cc}\n]|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

/** Fails unless it holds; asked so often that a message is only made when it is needed. */
function demand(holds: boolean, what: string, where: string): void {
  if (!holds) expect.fail(`${what} in ${JSON.stringify(where)}`);
}

/** Expects that nothing in a text that forges show as it is (a title, the message of a commit) acts or misleads. */
export function expectPlain(text: string, ours: readonly string[] = []): void {
  const own = ours.reduce((left, one) => left.replaceAll(one, ''), text);
  for (const [what, pattern] of Object.entries(references)) demand(!pattern.test(own), what, text);
  demand(!invisible.test(text), 'something invisible', text);
}

/** The only HTML that the bot writes. */
const ourHtml =
  /^(<details>\n<summary>(?<text>[^<>]*)<\/summary>|<\/details>|<img width="\d+" alt="(?<alt>[^<>"]*)" src="(?<src>[^<>" ]+)">|<!-- cdl:[A-Za-z0-9:._/-]+ [0-9a-f]{12} -->)\s*$/;

/**
 * Expects that a comment of the bot, read as forges read it, says no quick action, pings nobody, refers to nothing, holds no
 * HTML and no link or picture but those that begin with one of `ours`, and leaves no block of code open.
 */
export function expectHarmless(markdown: string, ours: readonly string[] = []): void {
  // GitLab looks for quick actions in the source, with a simpler idea of code than markdown's (gitlab, quick_actions/extractor.rb).
  let inCode = false;
  for (const line of markdown.split('\n')) {
    if (/^ {0,3}(```|~~~)/.test(line)) inCode = !inCode;
    else demand(inCode || !/^\s*\/\p{L}/u.test(line), 'a quick action', line);
  }
  demand(!inCode, 'an open block of code', markdown);
  for (const block of parser.parse(markdown, {})) {
    if (block.type === 'html_block') {
      const found = ourHtml.exec(block.content);
      demand(found !== null, 'HTML', block.content);
      const { text, alt, src } = found!.groups!;
      expectPlain(parser.utils.unescapeAll((text ?? alt ?? '').replaceAll('\\', '\\\\')), ours);
      demand(src === undefined || ours.some((one) => src.startsWith(one)), 'a picture', block.content);
    }
    const isShown = block.type !== 'fence' || /^(|text|yaml|json|diff|sh|ts|python|sql)$/.test(block.info);
    demand(isShown, 'a block that is drawn', block.info);
    demand(block.type !== 'code_block', 'a block by indentation', block.content);
    for (const part of block.children ?? []) {
      if (part.type === 'text') expectPlain(part.content, ours);
      demand(part.type !== 'html_inline', 'HTML', part.content);
      if (part.type !== 'link_open' && part.type !== 'image') continue;
      const address = String(part.attrGet(part.type === 'image' ? 'src' : 'href'));
      demand(
        ours.some((one) => address.startsWith(one)),
        'a link or picture',
        address,
      );
    }
  }
}
