/**
 * The error catalogue: what can go wrong for a user, what to do next, and the exit code a script can test.
 *
 * Exit codes: 2 wrong usage, 3 bad configuration or input, 4 a gate said no, 5 not permitted, 6 integrity,
 * 69 not available here (sysexits EX_UNAVAILABLE), 70 a bug (EX_SOFTWARE), 75 try again later (EX_TEMPFAIL), 130 stopped.
 */
export const catalogue = {
  usage: { exit: 2, next: 'run the command with --help' },
  'config-invalid': { exit: 3, next: 'correct the lines named above and run the command again' },
  'file-missing': { exit: 3, next: 'check the path, and that the file is committed' },
  'model-unknown': { exit: 3, next: 'use one of the models listed under models: in cdl.yaml' },
  'source-unreachable': { exit: 75, next: 'check the network, or add a mirror under sources:' },
  'source-mismatch': {
    exit: 6,
    next: 'the bytes differ from the pinned sha256: find out why before you change the pin',
  },
  'data-invalid': { exit: 4, next: 'see the quarantine report; send the data back or change the rules' },
  'code-invalid': {
    exit: 3,
    next: 'correct the model code; only files matched by code: are visible to a step',
  },
  'training-failed': { exit: 3, next: 'read what the training printed, in the log of its job' },
  'artifact-missing': {
    exit: 3,
    next: 'run the step that makes it, or check that this job may read the store',
  },
  'artifact-corrupt': {
    exit: 6,
    next: 'restore the object from a backup, or delete it and run the step again',
  },
  'input-missing': {
    exit: 3,
    next: 'pass it on the command line, or run the step before this one in the same pipeline',
  },
  'lock-invalid': {
    exit: 6,
    next: 'restore cdl.lock from the default branch; the bot writes it, people do not',
  },
  'lock-conflict': { exit: 3, next: 'take one side whole; entries are never mixed' },
  'gate-refused': { exit: 4, next: 'the report says which gate and by how much' },
  'not-approved': { exit: 5, next: 'ask a validator to answer the report with its /approve line' },
  'not-permitted': { exit: 5, next: 'ask somebody who has the role; roles are read from the default branch' },
  'decision-invalid': {
    exit: 6,
    next: 'the signature or the chain does not verify: check CDL_TRUSTED_KEYS and the audit log',
  },
  'baseline-moved': {
    exit: 5,
    next: 'the bot re-evaluates against what is live now; wait for the new report',
  },
  'not-protected': { exit: 5, next: 'run this job on a protected branch' },
  'deploy-failed': { exit: 4, next: 'the previous version keeps serving; read the log and deploy again' },
  'store-unsupported': { exit: 69, next: 'use a store with conditional writes (file:, MinIO, AWS S3)' },
  'store-denied': { exit: 5, next: 'check the credentials of this zone' },
  'database-unavailable': { exit: 75, next: 'check CDL_DATABASE, or leave it out for the embedded one' },
  'database-mismatch': {
    exit: 6,
    next: 'use the version of cdl that wrote this database, or an empty database and a backup (cdl db restore)',
  },
  'database-in-use': { exit: 75, next: 'stop what works on it and run the command again' },
  'backup-invalid': { exit: 6, next: 'take another backup; nothing was written' },
  'labels-denied': {
    exit: 5,
    next: 'check CDL_LABEL_STUDIO_TOKEN, and that legacy tokens are allowed there',
  },
  'forge-denied': { exit: 5, next: 'check that the token is valid and has the scope api' },
  'forge-unavailable': { exit: 75, next: 'try again later' },
  'environment-missing': { exit: 2, next: 'set the variable; see cdl doctor' },
  'not-available': { exit: 69, next: 'see the README for what this version can do' },
  interrupted: { exit: 130, next: 'run the command again; finished steps are not done twice' },
} as const satisfies Record<string, { exit: number; next: string }>;

/** A code of the catalogue; stable, so that scripts and tests can rely on it. */
export type ErrorCode = keyof typeof catalogue;

/** Something the user can put right. `message` says what and where, `hint` what to do next. */
export class UserError extends Error {
  override readonly name = 'UserError';
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, hint: string = catalogue[code].next, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.hint = hint;
  }

  /** The process exit code for this error. */
  get exit(): number {
    return catalogue[this.code].exit;
  }
}

/** Another service failed (store, database, forge, source). `retryable` says whether the same call may work later. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError';
  readonly service: string;
  readonly retryable: boolean;
  readonly status: number | null;

  constructor(
    service: string,
    message: string,
    options: ErrorOptions & { retryable: boolean; status?: number },
  ) {
    super(message, options);
    this.service = service;
    this.retryable = options.retryable;
    this.status = options.status ?? null;
  }
}

/** What the operating system refuses, and what to do about it (errno, POSIX.1-2017 XSH 2.3). */
const systemHints: Record<string, string> = {
  ENOSPC: 'the disk is full: free some space, or set CDL_CACHE and TMPDIR to another one',
  EDQUOT: 'the disk quota is used up',
  EACCES: 'this user may not use that path: check its permissions',
  EPERM: 'this user may not do that: check permissions',
  EROFS: 'that file system is read-only',
  ENOTDIR: 'a part of that path is a file, not a folder',
  EISDIR: 'that path is a folder, not a file',
  ENOENT: 'check the path',
  EMFILE: 'too many files are open: raise ulimit -n',
  ENOMEM: 'there is not enough memory',
  EADDRINUSE: 'another program listens there: choose another port',
};

function isSystemError(error: unknown): error is NodeJS.ErrnoException & { code: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error && String(error.code) in systemHints;
}

/** How an error ends a process and what a person reads: never a stack trace for a user's mistake. */
export function describeError(error: unknown): {
  exit: number;
  code: string;
  message: string;
  hint: string | null;
} {
  if (error instanceof UserError) {
    return { exit: error.exit, code: error.code, message: error.message, hint: error.hint };
  }
  if (error instanceof UpstreamError) {
    return {
      exit: error.retryable ? 75 : 69,
      code: 'upstream',
      message: `${error.service}: ${error.message}`,
      hint: error.retryable ? 'try again later; nothing was lost' : null,
    };
  }
  if (isSystemError(error)) {
    const next = systemHints[error.code] ?? 'check the path and its permissions';
    return { exit: 69, code: 'system', message: error.message, hint: next };
  }
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    exit: 70,
    code: 'bug',
    message: trace,
    hint: 'this is a bug in cdl; please report it with the text above',
  };
}
