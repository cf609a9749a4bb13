/** A time as people read it, to the second: `2026-01-01 18:06:21 UTC`. What is no time stays as it is. */
export function readableTime(iso: string): string {
  const time = Date.parse(iso);
  return Number.isNaN(time) ? iso : `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
