/** Pages that are read at most: 100 entries each. */
const mostPages = 300;
/** The most entries GitHub gives at once (docs.github.com, using pagination in the REST API). */
export const perPage = 100;

/**
 * Reads pages until one is not full or `enough` says so. Pages are counted and links not followed: where a request with our
 * token goes is not the answer's to say.
 */
export async function readPages<T>(
  readPage: (page: number) => Promise<readonly T[]>,
  enough: (all: readonly T[]) => boolean = () => false,
): Promise<T[]> {
  const all: T[] = [];
  for (let page = 1; page <= mostPages; page++) {
    const entries = await readPage(page);
    all.push(...entries);
    if (entries.length < perPage || enough(all)) break;
  }
  return all;
}
