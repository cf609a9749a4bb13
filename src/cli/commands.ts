import type { CommandEntry } from './types.ts';

/** Every command that is no step. A command whose work is not in this version is not listed. */
export const commands: readonly CommandEntry[] = [
  {
    name: 'init',
    summary: 'Make a project with its pipeline from an example',
    arguments: ['<example>', '[folder]'],
    options: [
      { flags: '--validator <username...>', description: 'who may approve models (user names on the forge)' },
      {
        flags: '--components <path>',
        description: 'project of the CI components on the forge',
        default: '$CI_SERVER_FQDN/cdl/ci-components',
      },
      { flags: '--forge <name>', description: 'where it will live: gitlab or github', default: 'gitlab' },
      { flags: '--tune', description: 'with a search for hyperparameters before the training' },
    ],
    examples: [
      'cdl init fashion',
      'cdl init news',
      'cdl init fashion my-project --validator vera',
      'cdl init fashion --forge github',
      'cdl init fashion --tune',
    ],
    load: async () => (await import('./init.ts')).init,
  },
  {
    name: 'serve',
    summary: 'Serve a package on this machine (Open Inference v2, Seldon v1)',
    arguments: ['[package]'],
    options: [
      { flags: '--model <name>', description: 'serve what is in cdl.lock for this model' },
      { flags: '--environment <name>', description: 'environment of the lock entry', default: 'production' },
      { flags: '--port <number>', description: 'port; 0 takes a free one', default: '8080' },
      { flags: '--host <address>', description: 'address to listen on', default: '127.0.0.1' },
      { flags: '--scores <file>', description: 'append every scored request to this JSON Lines file' },
    ],
    examples: ['cdl serve --model fashion', 'cdl serve sha256:0f3c… --port 9000', 'cdl serve ./package'],
    load: async () => (await import('./serve.ts')).serve,
  },
  {
    name: 'status',
    summary: 'Show the lock, what is live and whether this checkout differs',
    arguments: [],
    options: [
      {
        flags: '--drift',
        description:
          'compare registry, lock, decisions and what is live instead; exit 6 when they do not agree',
      },
    ],
    examples: ['cdl status', 'cdl status --json', 'cdl status --drift'],
    load: async () => (await import('./status.ts')).status,
  },
  {
    name: 'data',
    summary: 'Versions of folders and data sets: add, compare, share, restore',
    arguments: ['<action>', '[what...]'],
    options: [
      { flags: '-m, --message <text>', description: 'add: what this version is for' },
      { flags: '--from <version...>', description: 'add: what the folder was made of' },
      {
        flags: '--ref <name>',
        description: 'add, push: the name people share it under (default: its path); checkout: that one',
      },
      { flags: '--to <folder>', description: 'checkout: into a new folder instead' },
      {
        flags: '--force',
        description: 'checkout: give up local changes; push: move the ref anyway; pin: what is pinned, too',
      },
      {
        flags: '-o, --out <path>',
        description: 'get: write to this file; analyze: write the report below this folder (.cdl/analysis)',
      },
      { flags: '-n, --number <count>', description: 'log: at most so many of each', default: '20' },
      { flags: '--store <url>', description: 'the shared store instead of CDL_WORK_STORE' },
    ],
    examples: [
      "cdl data add photos -m 'first thousand'      # writes cdl.data.lock; commit it",
      'cdl data log photos',
      'cdl data diff photos~1 photos --json',
      'cdl data checkout                            # as this commit has it',
      'cdl data ls photos holiday',
      'cdl data get 3f9a2c41 holiday/1.jpg -o 1.jpg',
      'cdl data push && cdl data pull',
      'cdl data pin                                 # writes the sha256 of sources into cdl.yaml',
      'cdl data analyze articles                    # a report with pictures in .cdl/analysis',
      'cdl data ls news                             # what cdl ingest made of a data set of cdl.yaml',
    ],
    load: async () => (await import('./data.ts')).data,
  },
  {
    name: 'models',
    summary: 'Versions of models: list, show, compare, trace, pull, verify',
    arguments: ['<action>', '[version...]'],
    options: [
      { flags: '--model <name>', description: 'model of cdl.yaml; default: the only one' },
      { flags: '-n, --number <count>', description: 'ls: at most so many of each model', default: '20' },
      { flags: '-o, --out <folder>', description: 'pull: write to this new folder' },
    ],
    examples: [
      'cdl models ls',
      'cdl models show production',
      'cdl models diff production candidate',
      'cdl models lineage 7',
      'cdl models pull previous --out before',
      'cdl models verify                            # exit 6 when a byte is not what it was',
    ],
    load: async () => (await import('./models.ts')).models,
  },
  {
    name: 'gc',
    summary: 'Say or remove what in the store nothing reaches any more',
    arguments: [],
    options: [
      { flags: '--delete', description: 'remove it; without this, only say what would go' },
      { flags: '--grace <days>', description: 'leave alone what is younger than this', default: '14' },
      { flags: '--local', description: 'the store of this machine instead of CDL_WORK_STORE' },
    ],
    examples: ['cdl gc', 'cdl gc --delete --grace 30', 'cdl gc --local --json'],
    load: async () => (await import('./gc.ts')).gc,
  },
  {
    name: 'db',
    summary: 'Back up, restore and rebuild the database',
    arguments: ['<action>', '[file]'],
    options: [
      { flags: '--force', description: 'restore: into a database that holds something, which is replaced' },
    ],
    examples: [
      'cdl db backup cdl-2026-03-01.gz',
      'cdl db backup - | ssh vault "cat > cdl.gz"',
      'cdl db restore cdl-2026-03-01.gz',
      'ssh vault cat cdl.gz | cdl db restore - --force',
      'cdl db rebuild',
    ],
    load: async () => (await import('./db.ts')).db,
  },
  {
    name: 'labels',
    summary: 'Sync labels from Label Studio; show them, history, agreement',
    arguments: ['<action>', '[item]'],
    options: [
      { flags: '--dataset <name>', description: 'data set of cdl.yaml; default: the only one' },
      {
        flags: '--side <side>',
        description: 'side of the split',
        default: 'train',
        choices: ['train', 'test'],
      },
      { flags: '--once', description: 'sync: look once and end, as a protected job does' },
      { flags: '--poll <seconds>', description: 'sync: look at least this often', default: '60' },
      { flags: '--hook-url <url>', description: 'sync: where the label server reaches our webhook receiver' },
      { flags: '--host <address>', description: 'sync: address of the receiver', default: '127.0.0.1' },
      {
        flags: '--port <number>',
        description: 'sync: port of the receiver; 0 takes a free one',
        default: '0',
      },
      { flags: '--as-of <time>', description: 'show, conflicts, agreement: as it was then' },
    ],
    examples: [
      'cdl labels sync --hook-url https://labels.example.org/hook --port 8090',
      'cdl labels sync --once --side test',
      'cdl labels history 3f9a2c41b7d6',
      'cdl labels conflicts --json',
      'cdl labels agreement --as-of 2026-03-01T12:00:00Z',
    ],
    load: async () => (await import('./labels.ts')).labels,
  },
  {
    name: 'lock',
    summary: 'Show, verify or merge cdl.lock',
    arguments: ['<action>', '[files...]'],
    options: [],
    examples: [
      'cdl lock show',
      'cdl lock verify',
      'cdl lock merge BASE OURS THEIRS      # writes OURS; whole entries only',
      "git config merge.cdl-lock.driver 'cdl lock merge %O %A %B'",
    ],
    load: async () => (await import('./lock.ts')).lock,
  },
  {
    name: 'audit',
    summary: 'Show or verify the signed decisions of every environment',
    arguments: ['<action>'],
    options: [
      {
        flags: '--since <file>',
        description: 'what cdl audit verify --json printed earlier: nothing of that may be gone',
      },
    ],
    examples: [
      'cdl audit show',
      'cdl audit verify --json > heads.json',
      'cdl audit verify --since heads.json',
    ],
    load: async () => (await import('./audit.ts')).audit,
  },
  {
    name: 'keys',
    summary: 'Sign decisions with a further key, so that an old one can go',
    arguments: ['<action>'],
    options: [
      { flags: '--key <file>', description: 'the new Ed25519 private key, PEM' },
      { flags: '--out <file>', description: 'make a key and write it to this new file' },
    ],
    examples: ['cdl keys rotate --out signing-2.pem', 'cdl keys rotate --key signing-2.pem'],
    load: async () => (await import('./keys.ts')).keys,
  },
  {
    name: 'doctor',
    summary: 'Check what this machine offers, and say why',
    arguments: [],
    options: [
      {
        flags: '--forge',
        description: 'check the bot’s forge instead: tokens, roles, branch, webhook, clock',
      },
    ],
    examples: ['cdl doctor', 'cdl doctor --forge'],
    load: async () => (await import('./doctor.ts')).doctor,
  },
  {
    name: 'bot',
    summary: 'Run the merge-request bot, install its webhook, tend its queue',
    arguments: ['[action]'],
    options: [
      { flags: '--attached', description: 'stop when standard input ends' },
      { flags: '--replay <key>', description: 'queue: do this task again now; all = every one that failed' },
      { flags: '--drop <key>', description: 'queue: forget this task and its failure' },
    ],
    examples: [
      'cdl bot',
      'cdl bot install',
      'cdl bot queue',
      "cdl bot queue --replay 'group/project change:7'",
    ],
    notes: async () => (await import('../../bot/variables.ts')).describeVariables(),
    load: async () => (await import('./bot.ts')).bot,
  },
  {
    name: 'sandbox',
    summary: 'Run a GitLab-compatible forge with runners and bot, for trying',
    arguments: [],
    options: [
      { flags: '--port <number>', description: 'port; 0 takes a free one', default: '0' },
      {
        flags: '--folder <path>',
        description: 'where to keep repositories and logs (default: a temporary folder)',
      },
    ],
    examples: ['cdl sandbox --port 8929'],
    load: async () => (await import('./sandbox.ts')).sandbox,
  },
  {
    name: 'demo',
    summary: 'Show the whole way on this machine, from a push to a prediction',
    arguments: ['[example]'],
    options: [
      {
        flags: '--data <file>',
        description: 'the archive of BBC news, when it is on this machine already (demo news)',
      },
      { flags: '--keep', description: 'leave everything running and open for a look' },
      { flags: '--port <number>', description: 'port of the sandbox; 0 takes a free one', default: '0' },
    ],
    examples: ['cdl demo', 'cdl demo news', 'cdl demo tune', 'cdl demo --keep', 'cdl demo --json'],
    load: async () => (await import('./demo.ts')).demo,
  },
];
