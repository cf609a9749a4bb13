import type { Network } from '../../forge/network.ts';
import type { StoreCredentials } from '../../store/index.ts';
import { plainUrl } from './plain-url.ts';

/** How far a download is; `total` in bytes is null when the server does not say. Of folders, files are counted instead. */
export interface FetchProgress {
  what: string;
  bytes: number;
  total: number | null;
  counts?: 'files' | 'objects';
}

/** A download's progress for people (10⁶ bytes are a megabyte), and its share, 0 where the total is not known. */
export function progressText({ what, bytes, total, counts }: FetchProgress): [string, number] {
  const share = total ? bytes / total : 0;
  const name = plainUrl(what);
  if (counts) return [`reading ${name}, ${bytes} of ${total} ${counts}`, share];
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(total ?? bytes, 1)) / 3)));
  const shown = (size: number) => (size / 1000 ** power).toFixed(power === 0 ? 0 : 1);
  return [
    `reading ${name}, ${shown(bytes)}${total === null ? '' : ` of ${shown(total)}`} ${units[power]}`,
    share,
  ];
}

/** What a caller that knows the environment says of the ways to sources. Without it: straight there, as nobody. */
export interface SourceAccess {
  /** Proxies and certificates. */
  network?: Network;
  /** What to send as `Authorization` to a host (`name` or `name:port`); null: nothing. Asked anew after each redirect. */
  authorization?: (host: string) => string | null;
  /** Of the buckets that `s3:` sources name. */
  s3?: StoreCredentials | null;
  /** Environment of the git program. */
  gitEnv?: Readonly<Record<string, string>>;
}

/** Where downloads go and what they may use. */
export interface FetchOptions extends SourceAccess {
  /** Verified files are kept in its `sources/`, by sha256; what is under way in its `partial/`. */
  cacheFolder: string;
  /** Relative paths of `file:` sources start here. */
  root?: string;
  /** Base URL of the npm registry; the caller knows npm's own configuration. */
  npmRegistry?: string;
  signal?: AbortSignal;
  onProgress?: (progress: FetchProgress) => void;
  /** The pins of the source are not those of cdl.yaml but what was recorded when it was first seen. */
  recorded?: boolean;
  /** First pause before a retry, in milliseconds; doubles each time. Default 500. */
  retryDelay?: number;
}

/** How many files of a source are downloaded at once. */
export const downloadsAtOnce = 4;
