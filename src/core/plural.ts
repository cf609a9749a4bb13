/** A count with its word: `1 decision`, `2 decisions`. For words that take an s. */
export function plural(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? '' : 's'}`;
}
