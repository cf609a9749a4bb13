import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Project } from '../state.ts';
import { pictureType } from './repository-pages.ts';

/** What a file from somebody is sent with: nothing in it may run, and browsers guess no type. */
function headersOf(name: string, type: string | null, size: number): Record<string, string> {
  const plain = name.replace(/[^\w.\-+]/g, '_');
  return {
    'content-type': type ?? 'application/octet-stream',
    'content-length': String(size),
    'content-disposition': `${type === null ? 'attachment' : 'inline'}; filename="${plain}"`,
    'content-security-policy': "default-src 'none'; sandbox",
    'x-content-type-options': 'nosniff',
  };
}

/** Sends a file from disk; pictures, by their first bytes, are shown and all else downloaded. False when it is not there. */
async function sendFile(
  response: ServerResponse,
  file: { path: string; name: string; type: string | null | 'by content'; cache: string },
): Promise<boolean> {
  const found = await stat(file.path).catch(() => null);
  if (!found?.isFile()) return false;
  let { type } = file;
  if (type === 'by content') {
    const handle = await open(file.path);
    try {
      const start = Buffer.alloc(16);
      await handle.read(start, 0, 16, 0);
      type = pictureType(start);
    } finally {
      await handle.close();
    }
  }
  response.writeHead(200, { ...headersOf(file.name, type, found.size), 'cache-control': file.cache });
  if (response.req.method === 'HEAD' || found.size === 0) response.end();
  // A reader that goes away is no failure.
  else
    await pipeline(createReadStream(file.path, { end: found.size - 1 }), response).catch(() =>
      response.destroy(),
    );
  return true;
}

/** An upload of a project (`SECRET/NAME`); it never changes. False when there is none. */
export async function sendUploadedFile(
  response: ServerResponse,
  project: Project,
  path: string,
): Promise<boolean> {
  const found = project.uploads.get(path);
  if (!found) return false;
  return sendFile(response, {
    path: found.file,
    name: found.name,
    type: 'by content',
    cache: 'private, max-age=31536000, immutable',
  });
}

/** A file of the sandbox as plain text (a log) or as a download (`type` null). */
export function sendPlain(
  response: ServerResponse,
  path: string,
  name: string,
  type: 'text/plain; charset=utf-8' | null,
): Promise<boolean> {
  return sendFile(response, { path, name, type, cache: 'no-store' });
}

/** Bytes from a repository: pictures and text are shown, all else downloaded. */
export function sendBytes(response: ServerResponse, name: string, content: Buffer): void {
  const type = pictureType(content) ?? (content.includes(0) ? null : 'text/plain; charset=utf-8');
  response.writeHead(200, { ...headersOf(name, type, content.length), 'cache-control': 'no-store' });
  response.end(response.req.method === 'HEAD' ? undefined : content);
}
