/** A count with its word: `1 decision`, `2 decisions`; `more` for words that take no s. */
export function plural(count: number, one: string, more = `${one}s`): string {
  return `${count} ${count === 1 ? one : more}`;
}
