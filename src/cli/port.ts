import { UserError } from '../core/error.ts';

/** A port number from a flag. Throws UserError usage. */
export function portOf(value: unknown): number {
  const port = Number(value);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new UserError('usage', `--port takes a number from 0 to 65535, not ${String(value)}`);
}
