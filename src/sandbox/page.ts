import type { Call, Reply } from './route.ts';

function whole(value: unknown, fallback: number, most: number): number {
  const number = Number(value);
  return Number.isInteger(number) && number > 0 ? Math.min(number, most) : fallback;
}

function pageUrl(call: Call, changes: Record<string, string>): string {
  const url = new URL(call.request.url ?? '/', call.world.url);
  for (const [name, value] of Object.entries(changes)) url.searchParams.set(name, value);
  return url.href;
}

/**
 * Answers one page of a list with GitLab's headers (doc: api/rest, "Pagination"): by offset with `page` and `per_page`
 * (20, at most 100), or by keyset with `pagination=keyset`, whose next page is only in the Link header.
 */
export async function paginate<T>(
  call: Call,
  items: readonly T[],
  present: (item: T) => object | Promise<object>,
): Promise<Reply> {
  const perPage = whole(call.query.per_page, 20, 100);
  if (call.query.pagination === 'keyset') {
    const from = decodeCursor(call.query.cursor ?? call.query.page_token);
    const slice = items.slice(from, from + perPage);
    const more = from + perPage < items.length;
    return {
      status: 200,
      body: await Promise.all(slice.map(present)),
      headers: {
        'x-per-page': String(perPage),
        ...(more ? { link: `<${pageUrl(call, { cursor: encodeCursor(from + perPage) })}>; rel="next"` } : {}),
      },
    };
  }
  const page = whole(call.query.page, 1, Number.MAX_SAFE_INTEGER);
  const pages = Math.max(1, Math.ceil(items.length / perPage));
  const slice = items.slice((page - 1) * perPage, page * perPage);
  const link = (number: number, rel: string) =>
    `<${pageUrl(call, { page: String(number), per_page: String(perPage) })}>; rel="${rel}"`;
  const links = [
    ...(page > 1 ? [link(page - 1, 'prev')] : []),
    ...(page < pages ? [link(page + 1, 'next')] : []),
    link(1, 'first'),
    link(pages, 'last'),
  ];
  return {
    status: 200,
    body: await Promise.all(slice.map(present)),
    headers: {
      link: links.join(', '),
      'x-page': String(page),
      'x-per-page': String(perPage),
      'x-prev-page': page > 1 ? String(page - 1) : '',
      'x-next-page': page < pages ? String(page + 1) : '',
      'x-total': String(items.length),
      'x-total-pages': String(pages),
    },
  };
}

function encodeCursor(offset: number): string {
  return Buffer.from(JSON.stringify({ offset })).toString('base64url');
}

function decodeCursor(cursor: unknown): number {
  if (typeof cursor !== 'string') return 0;
  try {
    const value: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    const offset = typeof value === 'object' && value !== null && 'offset' in value ? value.offset : 0;
    return whole(offset, 0, Number.MAX_SAFE_INTEGER);
  } catch {
    return 0;
  }
}

/** Items in the order asked for; `sort` is desc unless said otherwise. */
export function sorted<T>(items: readonly T[], key: (item: T) => string | number, sort: unknown): T[] {
  const direction = sort === 'asc' ? 1 : -1;
  return items
    .map((item, index) => ({ item, index, key: key(item) }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.index - b.index) * direction)
    .map((entry) => entry.item);
}
