import { UserError } from '../core/error.ts';

/** The CI job this process runs in, as the forge describes it. */
export interface CiInfo {
  kind: 'gitlab' | 'github';
  /** Path of the project, e.g. `acme/fashion`. */
  project: string;
  sha: string;
  /** Branch or tag name; the source branch in pipelines of a change. */
  ref: string;
  /** Set when the ref is a branch. */
  branch: string | null;
  protectedRef: boolean;
  /** Number of the merge or pull request. */
  change: number | null;
  sourceBranch: string | null;
  pipeline: string;
  job: string;
  jobUrl: string | null;
  serverUrl: string;
  apiUrl: string;
  defaultBranch: string;
  /** What started the pipeline, in the forge's words: `push`, `merge_request_event`, `api`, `pull_request` … */
  source: string;
  /** User name of who started it; null where the forge does not say. */
  user: string | null;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** GitLab's predefined variables (doc: ci/variables/predefined_variables). */
function readGitlab(env: Environment): CiInfo {
  const get = (name: string): string => env[name] ?? '';
  const change = Number(env.CI_MERGE_REQUEST_IID);
  const isChange = Number.isInteger(change) && change > 0;
  // CI_COMMIT_BRANCH is not there in merge request pipelines.
  const sourceBranch = isChange ? get('CI_MERGE_REQUEST_SOURCE_BRANCH_NAME') : null;
  return {
    kind: 'gitlab',
    project: get('CI_PROJECT_PATH'),
    sha: get('CI_COMMIT_SHA'),
    ref: sourceBranch || get('CI_COMMIT_REF_NAME'),
    branch: env.CI_COMMIT_BRANCH || sourceBranch || null,
    protectedRef: env.CI_COMMIT_REF_PROTECTED === 'true',
    change: isChange ? change : null,
    sourceBranch: sourceBranch || null,
    pipeline: get('CI_PIPELINE_ID'),
    job: get('CI_JOB_ID'),
    jobUrl: env.CI_JOB_URL || null,
    serverUrl: get('CI_SERVER_URL'),
    apiUrl: get('CI_API_V4_URL'),
    defaultBranch: get('CI_DEFAULT_BRANCH') || 'main',
    source: get('CI_PIPELINE_SOURCE'),
    user: env.GITLAB_USER_LOGIN || null,
  };
}

/** GitHub's default variables (docs.github.com, Actions, variables reference). */
function readGithub(env: Environment): CiInfo {
  const get = (name: string): string => env[name] ?? '';
  const change = /^refs\/pull\/(\d+)\//.exec(get('GITHUB_REF'))?.[1];
  const sourceBranch = change ? get('GITHUB_HEAD_REF') || null : null;
  const branch = change ? sourceBranch : get('GITHUB_REF_TYPE') === 'branch' ? get('GITHUB_REF_NAME') : null;
  const server = get('GITHUB_SERVER_URL');
  const project = get('GITHUB_REPOSITORY');
  const run = get('GITHUB_RUN_ID');
  return {
    kind: 'github',
    project,
    // For a pull request GitHub names a test merge; the workflow passes on the head it checked out.
    sha: env.CDL_SHA || get('GITHUB_SHA'),
    ref: branch ?? get('GITHUB_REF_NAME'),
    branch,
    protectedRef: env.GITHUB_REF_PROTECTED === 'true',
    change: change ? Number(change) : null,
    sourceBranch,
    pipeline: run,
    job: get('GITHUB_JOB'),
    jobUrl: server && project && run ? `${server}/${project}/actions/runs/${run}` : null,
    serverUrl: server,
    apiUrl: get('GITHUB_API_URL'),
    // Not among GitHub's variables; the workflow passes it on (github.event.repository.default_branch).
    defaultBranch: env.CDL_DEFAULT_BRANCH || 'main',
    source: get('GITHUB_EVENT_NAME'),
    user: env.GITHUB_TRIGGERING_ACTOR || env.GITHUB_ACTOR || null,
  };
}

/** The CI job described by an environment; null outside of CI. Pure. */
export function readCi(env: Environment): CiInfo | null {
  if (env.GITHUB_ACTIONS === 'true') return readGithub(env);
  // gitlab-ci-local sets GITLAB_CI to "false" but the other variables as GitLab does.
  if (env.CI_PROJECT_PATH && env.CI_JOB_ID) return readGitlab(env);
  return null;
}

/** Most jobs of one `parallel:` (GitLab doc: ci/yaml#parallel). */
const mostNodes = 200;

/**
 * Which of how many like jobs this is, by `CI_NODE_INDEX` (from 1) and `CI_NODE_TOTAL` (GitLab doc: ci/yaml#parallel); one of
 * one without them. `index` counts from 0. Throws UserError config-invalid when the two do not fit each other.
 */
export function readNode(env: Environment): { index: number; total: number } {
  // GitLab sets the total to 1, and no index, in jobs that are not parallel.
  const { CI_NODE_INDEX: given, CI_NODE_TOTAL: of } = env;
  if (!given) return { index: 0, total: 1 };
  const [index, total] = [Number(given), Number(of || 1)];
  if (
    Number.isInteger(index) &&
    Number.isInteger(total) &&
    index >= 1 &&
    index <= total &&
    total <= mostNodes
  )
    return { index: index - 1, total };
  throw new UserError(
    'config-invalid',
    `CI_NODE_INDEX ${given} of CI_NODE_TOTAL ${of ?? ''} is no job of 1 to ${mostNodes} parallel ones`,
    'both are whole numbers, the index counts from 1',
  );
}
