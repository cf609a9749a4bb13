/** A request that cannot be answered as it is: the client's mistake or the server's state, never a bug. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  /** HTTP status of the answer. */
  readonly status: number;
  /** Further headers of the answer. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** A 400 that says what is wrong. */
export function badRequest(message: string): RequestError {
  return new RequestError(400, message);
}

/** A value for an error message: quoted and never long. */
export function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
