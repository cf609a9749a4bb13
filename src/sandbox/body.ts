import { createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ApiError, type UploadedFile } from './route.ts';

/** The most bytes of a JSON or form body. */
const largest = 100 * 1024 * 1024;

type Tree = { [key: string]: unknown };

function put(tree: Tree, path: readonly string[], value: unknown): void {
  const [key = '', ...rest] = path;
  if (key === '__proto__' || key === 'constructor' || key === 'prototype') return;
  if (rest.length === 0) {
    tree[key] = value;
    return;
  }
  if (rest[0] === '') {
    const old = tree[key];
    const list: unknown[] = Array.isArray(old) ? old : [];
    tree[key] = list;
    if (rest.length === 1) {
      list.push(value);
      return;
    }
    // `a[][k]=1&a[][v]=2` is one object until a name repeats, as in Rails.
    const last = list.at(-1);
    const inner = rest.slice(1);
    if (isTree(last) && !(inner[0] !== undefined && inner[0] in last)) put(last, inner, value);
    else {
      const fresh: Tree = {};
      list.push(fresh);
      put(fresh, inner, value);
    }
    return;
  }
  const old = tree[key];
  const child = isTree(old) ? old : {};
  tree[key] = child;
  put(child, rest, value);
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads `a[]`, `a[b]` and `a[][b]` names the way Rails does. */
export function nest(pairs: Iterable<readonly [string, unknown]>): Record<string, unknown> {
  const tree: Tree = {};
  for (const [name, value] of pairs) {
    const head = /^[^[]*/.exec(name)?.[0] ?? name;
    const rest = [...name.slice(head.length).matchAll(/\[([^\]]*)\]/g)].map((match) => match[1] ?? '');
    put(tree, [head, ...rest], value);
  }
  return tree;
}

/** The query of a URL, nested. */
export function parseQuery(url: string): Record<string, unknown> {
  return nest(new URL(url, 'http://127.0.0.1').searchParams);
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    const bytes: Buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
    size += bytes.length;
    if (size > largest) throw new ApiError(413, '413 Request Entity Too Large');
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

/** A part of a multipart body, as the parser gives it. */
export type Part =
  | { type: 'field'; fieldname: string; value: unknown }
  | { type: 'file'; fieldname: string; filename: string; mimetype: string; file: Readable };

/** Parses a body by its content type. Files of multipart bodies are written below `folder`. Throws an ApiError 400. */
export async function parseBody(
  request: IncomingMessage,
  parts: (() => AsyncIterable<Part>) | null,
  folder: string,
): Promise<{ body: Record<string, unknown>; files: Record<string, UploadedFile> }> {
  if (parts) return parseMultipart(parts(), folder);
  const bytes = await readAll(request);
  const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase();
  if (bytes.length === 0) return { body: {}, files: {} };
  if (type === 'application/x-www-form-urlencoded')
    return { body: nest(new URLSearchParams(bytes.toString('utf8'))), files: {} };
  if (type !== 'application/json') return { body: {}, files: {} };
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new ApiError(400, { error: 'problem parsing JSON' });
  }
  if (!isTree(value)) throw new ApiError(400, { error: 'the body is not a JSON object' });
  return { body: value, files: {} };
}

async function parseMultipart(parts: AsyncIterable<Part>, folder: string) {
  const fields: [string, unknown][] = [];
  const files: Record<string, UploadedFile> = {};
  let number = 0;
  for await (const part of parts) {
    if (part.type === 'field') {
      fields.push([part.fieldname, part.value]);
      continue;
    }
    number += 1;
    const path = join(folder, `part-${number}`);
    await pipeline(part.file, createWriteStream(path));
    const { size } = await stat(path);
    files[part.fieldname] = { path, filename: part.filename, contentType: part.mimetype, size };
  }
  return { body: nest(fields), files };
}
