import type { Network } from '../../forge/network.ts';
import type { StoreCredentials } from '../../store/index.ts';

/** How far a download is; `total` in bytes is null when the server does not say. */
export interface FetchProgress {
  what: string;
  bytes: number;
  total: number | null;
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
