/** An answer other than success, thrown by handlers. `body` is GitLab's error body: `{message}` or `{error}`. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly body: object;

  constructor(status: number, body: object | string) {
    const object = typeof body === 'string' ? { message: body } : body;
    super(`${status} ${JSON.stringify(object)}`);
    this.status = status;
    this.body = object;
  }
}
