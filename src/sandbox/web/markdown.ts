import type { MarkdownIt } from 'markdown-it';
import type sanitize from 'sanitize-html';
import { type Html, html, trusted } from '../../report/html.ts';
import { fullPath } from '../access.ts';
import type { Project, World } from '../state.ts';
import { linksOf } from './links.ts';

/** What a comment may hold: GitLab's allow-list (doc: user/markdown, "Inline HTML"; html-pipeline's sanitization filter). */
const allowedTags = [
  ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'br', 'b', 'i', 'strong', 'em', 'a', 'pre', 'code', 'img', 'tt'],
  ...[
    'div',
    'ins',
    'del',
    'sup',
    'sub',
    'p',
    'ol',
    'ul',
    'li',
    'table',
    'thead',
    'tbody',
    'tfoot',
    'tr',
    'td',
  ],
  ...['th', 'blockquote', 'dl', 'dt', 'dd', 'kbd', 'q', 'samp', 'var', 'hr', 's', 'strike', 'summary'],
  ...['details', 'figure', 'figcaption', 'abbr', 'cite', 'dfn', 'mark', 'small', 'span', 'time'],
];

/** Turns a comment into HTML. */
export type Markdown = (text: string) => Html;

interface Engine {
  parser: MarkdownIt;
  sanitize: typeof sanitize;
}

async function loadEngine(): Promise<Engine> {
  const [markdown, sanitizer] = await Promise.all([import('markdown-it'), import('sanitize-html')]);
  const parser = new markdown.default({ html: true, linkify: true });
  return { parser, sanitize: sanitizer.default };
}

/** The address a picture is shown from: an upload of this project, a file of its default branch, or null for anything else. */
function pictureAddress(world: World, project: Project, address: string): string | null {
  const links = linksOf(world, project);
  const prefixes = [world.url, ''].flatMap((origin) => [
    `${origin}/uploads/`,
    `${origin}/${fullPath(project)}/uploads/`,
    `${origin}/-/project/${project.id}/uploads/`,
  ]);
  const prefix = prefixes.find((start) => address.startsWith(start));
  if (prefix !== undefined) {
    const upload = address.slice(prefix.length);
    return /^[0-9a-f]+\/[\w.\-+]+$/.test(upload) ? links.upload(upload) : null;
  }
  if (/^[a-z][a-z0-9+.-]*:/i.test(address) || /^[/\\]/.test(address)) return null;
  const path = address.replace(/^\.\//, '').split(/[?#]/)[0] ?? '';
  let plain: string;
  try {
    plain = decodeURIComponent(path);
  } catch {
    return null;
  }
  return plain === '' || plain.split('/').includes('..') ? null : links.raw(project.defaultBranch, plain);
}

/** Where a link goes: uploads and files as with pictures, anchors, and the web. */
function linkAddress(world: World, project: Project, address: string): string | null {
  if (/^(https?|mailto):/i.test(address)) return address;
  if (address.startsWith('#')) return `#${address.slice(1)}`;
  if (address.startsWith('/uploads/')) return pictureAddress(world, project, address);
  if (/^[a-z][a-z0-9+.-]*:/i.test(address) || address.startsWith('//')) return null;
  if (address.startsWith('/')) return address;
  const path = address.replace(/^\.\//, '');
  return path === '' ? null : linksOf(world, project).blob(project.defaultBranch, path);
}

const align = (style: string | undefined) => /text-align:\s*(left|right|center)/.exec(style ?? '')?.[1];

/** Links to people and merge requests, as GitLab makes them; only in text, never inside code or links. */
function references(world: World, project: Project, parser: MarkdownIt): void {
  parser.core.ruler.push('references', (state) => {
    for (const [index, block] of state.tokens.entries()) {
      if (block.type !== 'inline' || !block.children) continue;
      let inLink = 0;
      const [first] = block.children;
      const opener = state.tokens[index - 2];
      // A task of a list is shown as it stands; nobody can tick it here.
      if (first?.type === 'text' && opener?.type === 'list_item_open') {
        first.content = first.content.replace(/^\[([ xX])\] /, (_, mark) => (mark === ' ' ? '☐ ' : '☑ '));
      }
      block.children = block.children.flatMap((token) => {
        if (token.type === 'link_open') inLink += 1;
        if (token.type === 'link_close') inLink -= 1;
        if (token.type !== 'text' || inLink > 0) return [token];
        return splitReferences(world, project, token.content).map(({ text, href }) => {
          const part = new state.Token(href === null ? 'text' : 'html_inline', '', 0);
          part.content =
            href === null
              ? text
              : `<a href="${parser.utils.escapeHtml(href)}">${parser.utils.escapeHtml(text)}</a>`;
          return part;
        });
      });
    }
  });
}

/** `![…](…){width=330}`: how wide a picture is shown, as GitLab has it (doc: user/markdown, image dimensions). */
function dimensions(parser: MarkdownIt): void {
  parser.core.ruler.push('dimensions', (state) => {
    for (const { children } of state.tokens) {
      for (const [index, token] of (children ?? []).entries()) {
        const after = children![index + 1];
        const found =
          token.type === 'image' && after ? /^\{width=(\d{1,4})(?:px)?\}/.exec(after.content) : null;
        if (!found) continue;
        token.attrSet('width', found[1]!);
        after!.content = after!.content.slice(found[0].length);
      }
    }
  });
}

function splitReferences(
  world: World,
  project: Project,
  text: string,
): { text: string; href: string | null }[] {
  const links = linksOf(world, project);
  const parts: { text: string; href: string | null }[] = [];
  let at = 0;
  for (const match of text.matchAll(/(?<![\w/@!])(?:@([A-Za-z0-9][\w.-]*\w|\w)|!(\d+))(?!\w)/g)) {
    const user = match[1] && [...world.users.values()].find((entry) => entry.username === match[1]);
    const mr = match[2] ? project.mergeRequests.get(Number(match[2])) : undefined;
    const href = user
      ? `${new URL(world.url).pathname.replace(/\/$/, '')}/${user.username}`
      : mr
        ? links.mergeRequest(mr.iid)
        : null;
    if (href === null) continue;
    parts.push({ text: text.slice(at, match.index), href: null }, { text: match[0], href });
    at = match.index + match[0].length;
  }
  return [...parts, { text: text.slice(at), href: null }];
}

/**
 * How the comments of a project are shown: GitLab-flavoured markdown with inline HTML, sanitized. HTML comments are gone,
 * pictures come only from this server, tables scroll by themselves.
 */
export async function openMarkdown(world: World, project: Project): Promise<Markdown> {
  const { parser, sanitize: clean } = await loadEngine();
  dimensions(parser);
  references(world, project, parser);
  return (text) => {
    const out = clean(parser.render(text), {
      allowedTags,
      allowedAttributes: {
        a: ['href', 'title', 'rel'],
        img: ['src', 'alt', 'title', 'width', 'height', 'loading'],
        th: ['align', 'colspan', 'rowspan'],
        td: ['align', 'colspan', 'rowspan'],
        details: ['open'],
        ol: ['start'],
        time: ['title'],
        abbr: ['title'],
        div: [{ name: 'class', multiple: false, values: ['scroll'] }],
      },
      allowedSchemes: ['http', 'https', 'mailto'],
      allowProtocolRelative: false,
      transformTags: {
        a: (tagName, { href = '', title }) => {
          const to = linkAddress(world, project, href.trim());
          return {
            tagName,
            attribs: {
              ...(to === null ? {} : { href: to }),
              ...(title ? { title } : {}),
              rel: 'nofollow noreferrer noopener',
            },
          };
        },
        img: (_tagName, { src = '', alt = '', title, width, height }) => {
          const to = pictureAddress(world, project, src.trim());
          if (to === null) return { tagName: 'span', attribs: {}, text: alt || 'picture' };
          const size = { ...(width ? { width } : {}), ...(height ? { height } : {}) };
          return { tagName: 'img', attribs: { src: to, alt, ...(title ? { title } : {}), ...size } };
        },
        th: (tagName, { style, align: given, ...attribs }) =>
          aligned(tagName, attribs, align(style) ?? given),
        td: (tagName, { style, align: given, ...attribs }) =>
          aligned(tagName, attribs, align(style) ?? given),
        // Classes are ours: the page's own look must not be borrowed.
        div: (tagName) => ({ tagName, attribs: {} }),
      },
    });
    const boxed = out
      .replaceAll('<table>', '<div class="scroll"><table>')
      .replaceAll('</table>', '</table></div>');
    return html`<div class="md">${trusted(boxed)}</div>`;
  };
}

function aligned(tagName: string, attribs: Record<string, string>, to: string | undefined) {
  return { tagName, attribs: { ...attribs, ...(to ? { align: to } : {}) } };
}
