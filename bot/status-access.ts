import { createHmac } from 'node:crypto';
import { isSameText } from './signature.ts';

/** Name of the cookie that stands for the token in a browser. */
export const statusCookie = 'cdl_status';

/** Seconds for which a browser that signed in may look. */
const lasting = 12 * 3600;

/** Who may look at the status: whoever has the token, or a cookie that was given for it. */
export interface StatusAccess {
  /** Whether this is the token. */
  knows(token: string): boolean;
  /** Whether a request may look, by its `authorization` and `cookie` headers. */
  admits(headers: { authorization?: string | undefined; cookie?: string | undefined }): boolean;
  /** `Set-Cookie` for a browser that knew the token (RFC 6265); it holds a signature, not the token. */
  cookie(): string;
}

/** `secure`: browsers are to send the cookie over HTTPS alone. `now` in milliseconds. */
export function createStatusAccess(
  token: string,
  { secure, now }: { secure: boolean; now(): number },
): StatusAccess {
  const sign = (expires: string): string =>
    createHmac('sha256', token).update(`${statusCookie} ${expires}`).digest('base64url');
  const isValid = (value: string): boolean => {
    const [expires = '', signature = ''] = value.split('.');
    return isSameText(signature, sign(expires)) && Number(expires) * 1000 > now();
  };
  const knows = (given: string): boolean => isSameText(given, token);
  return {
    knows,
    admits({ authorization, cookie }) {
      const bearer = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
      if (bearer !== undefined) return knows(bearer);
      return (cookie ?? '').split(';').some((pair) => {
        const [name, value = ''] = pair.trim().split('=', 2);
        return name === statusCookie && isValid(value);
      });
    },
    cookie() {
      const expires = String(Math.floor(now() / 1000) + lasting);
      const rules = `Path=/; Max-Age=${lasting}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`;
      return `${statusCookie}=${expires}.${sign(expires)}; ${rules}`;
    },
  };
}
