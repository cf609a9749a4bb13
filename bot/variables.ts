/** The process environment. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** A forge the bot can work on. */
export type ForgeKind = 'gitlab' | 'github';

/** One variable of the environment that the bot reads. */
export interface Variable {
  readonly name: string;
  /** One sentence of markdown without its full stop; no line breaks, no `|`. */
  readonly meaning: string;
  /** What counts while it is not set, as the variable would say it; null for nothing. */
  readonly standard: string | null;
  /** Forges on which the bot does not start without it. */
  readonly required: readonly ForgeKind[];
  /** The one forge it is about; null for both. */
  readonly only: ForgeKind | null;
  /** Its value is masked in every line of the log. */
  readonly secret: boolean;
}

const both = ['gitlab', 'github'] as const;
const plain = { standard: null, required: [], only: null, secret: false } as const;

/**
 * Every variable the bot reads: configuration, `cdl bot --help` and the table in bot/README.md are made of this. Plain data
 * that imports nothing, because the command line's help reads it too.
 */
export const variables = [
  { ...plain, name: 'CDL_FORGE', meaning: '`gitlab` or `github`', standard: 'gitlab' },
  {
    ...plain,
    name: 'CDL_PROJECT',
    meaning: 'full path of the project; several separated by commas',
    required: both,
  },
  {
    ...plain,
    name: 'CDL_GITLAB_URL',
    meaning: 'where GitLab is; a sub-path is fine',
    required: ['gitlab'],
    only: 'gitlab',
  },
  {
    ...plain,
    name: 'CDL_GITHUB_URL',
    meaning: 'base of the REST API; `https://HOST/api/v3` on a server of your own',
    standard: 'https://api.github.com',
    only: 'github',
  },
  {
    ...plain,
    name: 'CDL_GITHUB_APP_ID',
    meaning: 'the GitHub App the bot speaks as',
    only: 'github',
  },
  {
    ...plain,
    name: 'CDL_GITHUB_PRIVATE_KEY',
    meaning: 'private key of the app, PEM or a path; needed with `CDL_GITHUB_APP_ID`',
    only: 'github',
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_BOT_TOKEN',
    meaning:
      'GitLab: project access token, scope `api`. GitHub: an account’s fine-grained token, in place of an app',
    required: ['gitlab'],
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_EVALUATION_TOKEN',
    meaning: 'token of another identity, which starts evaluations on the default branch',
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_SIGNING_TOKEN',
    meaning:
      '`whsec_…`, with which GitLab 19.0 and newer sign webhooks; two, separated by a space, while one is replaced',
    required: ['gitlab'],
    only: 'gitlab',
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_WEBHOOK_SECRET',
    meaning:
      'what GitHub signs deliveries with; on GitLab the secret token of one older than 19.0, without which deliveries that are not signed are refused',
    required: ['github'],
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_GITHUB_WORKFLOW',
    meaning: 'the workflow whose runs count, a file below `.github/workflows`',
    standard: 'cdl.yml',
    only: 'github',
  },
  {
    ...plain,
    name: 'CDL_SIGNING_KEY',
    meaning: 'Ed25519 private key for decisions, PEM or a path (`openssl genpkey -algorithm ed25519`)',
    required: both,
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_TRUSTED_KEYS',
    meaning: 'further public keys whose decisions count, PEM or a path',
  },
  {
    ...plain,
    name: 'CDL_WORK_STORE',
    meaning: 'URL of the zone that change pipelines write',
    required: both,
  },
  {
    ...plain,
    name: 'CDL_WORK_ACCESS_KEY',
    meaning: 'its credentials, together with `CDL_WORK_SECRET_KEY`',
    secret: true,
  },
  { ...plain, name: 'CDL_WORK_SECRET_KEY', meaning: 'the secret half of them', secret: true },
  {
    ...plain,
    name: 'CDL_TRUSTED_STORE',
    meaning: 'URL of the zone that only protected jobs and the bot write',
    required: both,
  },
  {
    ...plain,
    name: 'CDL_TRUSTED_ACCESS_KEY',
    meaning: 'its credentials, together with `CDL_TRUSTED_SECRET_KEY`',
    secret: true,
  },
  { ...plain, name: 'CDL_TRUSTED_SECRET_KEY', meaning: 'the secret half of them', secret: true },
  {
    ...plain,
    name: 'CDL_STORE_CA',
    meaning: 'certificates to trust besides the usual ones on the way to the stores, PEM',
  },
  {
    ...plain,
    name: 'CDL_FORGE_CA',
    meaning: 'the same on the way to the forge, of its API and of git; PEM or a path',
  },
  {
    ...plain,
    name: 'HTTPS_PROXY',
    meaning:
      'the way to the forge, of its API and of git, and to the webhooks of `notify:`; a user and password may stand in the URL',
  },
  { ...plain, name: 'HTTP_PROXY', meaning: 'the same for `http://`, and for both when it is alone' },
  {
    ...plain,
    name: 'NO_PROXY',
    meaning: 'hosts that are asked directly: names, `.suffixes` and `*`, separated by commas',
  },
  {
    ...plain,
    name: 'CDL_DATABASE',
    meaning: 'URL of a PostgreSQL; unset starts one of our own below `CDL_BOT_FOLDER`',
  },
  {
    ...plain,
    name: 'CDL_BOT_FOLDER',
    meaning: 'mirrors of the repositories; all of it can be lost except an embedded database',
    required: both,
  },
  {
    ...plain,
    name: 'CDL_BOT_HOST',
    meaning: 'the address it listens on; `0.0.0.0` in a container',
    standard: '127.0.0.1',
  },
  { ...plain, name: 'CDL_BOT_PORT', meaning: 'the port; 0 takes any free one', standard: '8080' },
  {
    ...plain,
    name: 'CDL_BOT_URL',
    meaning:
      'how the forge reaches it: the webhook is installed and looked after then; `auto` is where it listens',
  },
  {
    ...plain,
    name: 'CDL_RECONCILE_SECONDS',
    meaning: 'how often it looks by itself for what no webhook told',
    standard: '60',
  },
  {
    ...plain,
    name: 'CDL_DRIFT_HOURS',
    meaning: 'how often registry, lock and what is live are compared',
    standard: '24',
  },
  {
    ...plain,
    name: 'CDL_STATUS_TOKEN',
    meaning:
      'who says it may look at `/status` and `/status.json`; at least 16 characters; unset there are no such pages',
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_BUCKET_TOKEN',
    meaning:
      'what MinIO sends with notifications of the work bucket to `/webhooks/bucket`, so that a version registered from outside is looked at right away; at least 16 characters; unset they are not taken',
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_NOTIFY_SECRET',
    meaning:
      '`whsec_…`, with which events for the webhooks of `notify:` are signed; two, separated by a space, while one is replaced',
    secret: true,
  },
  {
    ...plain,
    name: 'CDL_SMTP_URL',
    meaning:
      'the server that mails of `notify:` go through, `smtps://user:password@host` or `smtp://…` (with a password only over STARTTLS)',
  },
  { ...plain, name: 'CDL_SMTP_FROM', meaning: 'the address they come from; needed with `CDL_SMTP_URL`' },
  {
    ...plain,
    name: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    meaning:
      'where an OpenTelemetry collector takes OTLP over HTTP; traces are sent to `/v1/traces` below it, unset sends none',
  },
  {
    ...plain,
    name: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    meaning: 'the whole URL for traces, in place of the one above',
  },
  {
    ...plain,
    name: 'OTEL_EXPORTER_OTLP_HEADERS',
    meaning: 'headers for the collector, `name=value` separated by commas, percent-encoded',
    secret: true,
  },
  { ...plain, name: 'OTEL_SERVICE_NAME', meaning: 'what traces call the bot', standard: 'cdl-bot' },
  { ...plain, name: 'PATH', meaning: 'where git is found', standard: '/usr/local/bin:/usr/bin:/bin' },
  {
    ...plain,
    name: 'CDL_LOG',
    meaning: 'the least that is logged: `debug`, `info`, `warn`, `error` or `silent`',
    standard: 'info',
  },
] as const satisfies readonly Variable[];

/** Name of a variable that the bot may read. */
export type VariableName = (typeof variables)[number]['name'];

/** The row of the table. */
export function variableNamed(name: VariableName): Variable {
  return variables.find((one) => one.name === name) as Variable;
}

/** Its value, or what counts without one; null for neither. An empty one is not set. */
export function readVariable(env: Environment, name: VariableName): string | null {
  // A file that became a variable ends in a newline, which no token has.
  return env[name]?.trim() || variableNamed(name).standard;
}

const forgeNames = { gitlab: 'GitLab', github: 'GitHub' };

/** When it has to be set, in words; empty when it need not be. */
function need({ required, only }: Variable): string {
  if (required.length === 0) return only === null ? '' : `${forgeNames[only]} only`;
  if (required.length === 2) return 'required';
  const [one] = required as [ForgeKind];
  return only === one ? `required, ${forgeNames[one]} only` : `required on ${forgeNames[one]}`;
}

/** The table in bot/README.md: markdown. */
export function renderVariables(): string {
  const rows = variables.map((one: Variable) => {
    const standard = one.standard === null ? '' : `\`${one.standard}\``;
    const notes = [need(one), one.secret ? 'secret' : ''].filter(Boolean).join(', ');
    return `| \`${one.name}\` | ${one.meaning} | ${standard} | ${notes} |`;
  });
  return ['| variable | meaning | default | |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

/** Breaks a text at spaces into lines of at most `width` characters, as far as its words allow. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  return [...lines, line];
}

/** What `cdl bot --help` says of the environment: lines of at most 100 characters. */
export function describeVariables(): string {
  const width = Math.max(...variables.map((one) => one.name.length));
  const lines = variables.flatMap((one: Variable) => {
    const notes = [need(one), one.standard && `default: ${one.standard}`, one.secret && 'secret'];
    const said = notes.filter(Boolean).join(', ');
    const meaning = one.meaning.replaceAll('`', '') + (said === '' ? '' : ` (${said})`);
    return wrap(meaning, 100 - width - 4).map(
      (line, index) => `  ${(index === 0 ? one.name : '').padEnd(width)}  ${line}`,
    );
  });
  return ['Environment:', ...lines].join('\n');
}
