import { createHash } from 'node:crypto';
import { type Html, html, type Part, render, trusted } from '../../report/html.ts';
import type { World } from '../state.ts';
import { basePath } from './links.ts';
import { script } from './script.ts';
import { style } from './style.ts';

/** One page, before it is put into its frame. */
export interface Page {
  title: string;
  /** Where one is: text and, but for the last, a link. */
  crumbs: readonly { text: string; href: string | null }[];
  /** The project's own menu. */
  menu: readonly { text: string; href: string; current: boolean }[];
  /** Which project's events it listens to; null for all. */
  projectId: number | null;
  body: Part;
  status?: number;
}

/** The sign in the browser's tab. */
export const icon =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path d="M8 1l7 7-7 7-7-7z" fill="#2457c5"/></svg>';

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** What a page may do (CSP level 3): its own style and script by their hashes, pictures and requests to this server, nothing else. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  `style-src ${hash(style)}`,
  `script-src ${hash(script)}`,
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function crumbs(page: Page): Html {
  return html`<nav class="crumbs" aria-label="Where you are">${page.crumbs.map(
    ({ text, href }) =>
      html`<span>${href === null ? html`<b>${text}</b>` : html`<a href="${href}">${text}</a>`}</span>`,
  )}</nav>`;
}

/** The whole document. */
export function frame(world: World, page: Page): string {
  const base = basePath(world);
  const events = `${base}/-/events${page.projectId === null ? '' : `?project=${page.projectId}`}`;
  return render(html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="referrer" content="same-origin"><title>${page.title} · CDL sandbox</title>
<link rel="icon" href="${base}/-/icon.svg">
<style>${trusted(style)}</style></head>
<body data-events="${events}"><header class="top"><a class="logo" href="${base}/"><span aria-hidden="true">◆</span> CDL sandbox</a>${crumbs(page)}<span class="live" data-state="wait">live</span></header>
${page.menu.length > 0 && html`<nav class="menu" aria-label="Project">${page.menu.map((entry) => html`<a href="${entry.href}"${entry.current && trusted(' aria-current="page"')}>${entry.text}</a>`)}</nav>`}
<main>${page.body}</main>
<script>${trusted(script)}</script></body></html>
`);
}
