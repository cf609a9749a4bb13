/** A URL as people may read it: what stands after `?` can be a signature that lets anybody in (a presigned URL). */
export function plainUrl(url: string): string {
  const at = /^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? url.search(/[?#]/) : -1;
  return at < 0 ? url : `${url.slice(0, at)}?…`;
}
