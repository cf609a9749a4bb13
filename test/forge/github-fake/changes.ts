import { diff, git, log, resolveRef, updateRef } from '../../../src/sandbox/git.ts';
import type { Call, FakeComment, FakePull, FakeState, Handler } from './state.ts';
import { absent, created, noContent, ok, paged, simpleUser } from './state.ts';

const repositoryId = 1000;
const forkId = 2000;

/** A merge commit of a branch and a commit, on no branch yet; null when they conflict. */
export async function mergeCommit(
  repository: string,
  branch: string,
  head: string,
  message: string,
): Promise<string | null> {
  const tree = await git(repository, ['merge-tree', '--write-tree', branch, head]).catch(() => null);
  if (!tree) return null;
  const who = ['-c', 'user.name=GitHub', '-c', 'user.email=noreply@github.com'];
  const args = ['commit-tree', tree.toString().trim(), '-p', branch, '-p', head, '-m', message];
  return (await git(repository, [...who, ...args])).toString().trim();
}

/** A pull request as GitHub shows it. */
export function presentPull(state: FakeState, pull: FakePull): object {
  const repo = { id: repositoryId, full_name: `${state.owner}/${state.name}`, name: state.name };
  return {
    number: pull.number,
    title: pull.title,
    body: pull.body,
    draft: pull.draft,
    state: pull.state,
    user: simpleUser(pull.author),
    head: { ref: pull.source, sha: pull.head, repo: { ...repo, id: pull.fork ? forkId : repositoryId } },
    base: { ref: pull.target, sha: pull.base, repo },
    merged_at: pull.mergedAt,
    merged: pull.mergedAt !== null,
    merge_commit_sha: pull.mergeCommit ?? 'f'.repeat(40),
    updated_at: pull.updatedAt,
    html_url: `${state.web}/${state.owner}/${state.name}/pull/${pull.number}`,
  };
}

export function presentComment(state: FakeState, comment: FakeComment): object {
  const page = `${state.web}/${state.owner}/${state.name}`;
  return {
    id: comment.id,
    body: comment.body,
    user: simpleUser(comment.author),
    created_at: comment.createdAt,
    updated_at: comment.updatedAt,
    html_url: `${page}/pull/${comment.issue}#issuecomment-${comment.id}`,
    issue_url: `${state.web}/api/v3/repos/${state.owner}/${state.name}/issues/${comment.issue}`,
  };
}

const find = ({ state, values }: Call): FakePull | undefined =>
  state.pulls.find((one) => one.number === Number(values.pull_number));

const invalid = (message: string) => ({
  status: 422,
  body: { message: 'Validation Failed', errors: [{ message }] },
});

/** A comment is written: by a person in a test, or by the API. */
export function addComment(
  call: Pick<Call, 'state' | 'emit'>,
  author: FakeComment['author'],
  issue: number,
  body: string,
): FakeComment {
  const { state } = call;
  const comment: FakeComment = {
    id: state.nextId(),
    issue,
    author,
    body,
    createdAt: state.now(),
    updatedAt: state.now(),
    reactions: [],
  };
  state.comments.push(comment);
  call.emit('issue_comment', {
    action: 'created',
    issue: { number: issue, pull_request: {} },
    comment: { id: comment.id, user: simpleUser(author) },
  });
  return comment;
}

const longestComment = 65_536;

export const changeRoutes: Record<string, Handler> = {
  'GET /repos/{owner}/{repo}/pulls': ({ state, query }) => {
    const wanted = query.get('state') ?? 'open';
    const head = query.get('head')?.split(':')[1];
    const found = state.pulls.filter(
      (one) =>
        (wanted === 'all' || one.state === wanted) &&
        (head === undefined || one.source === head) &&
        (!query.has('base') || one.target === query.get('base')),
    );
    if (query.get('sort') === 'updated') found.sort((a, b) => b.updatedAt.localeCompare(a.updatedAt));
    return ok(paged(query, found).map((one) => presentPull(state, one)));
  },
  'GET /repos/{owner}/{repo}/pulls/{pull_number}': (call) => {
    const pull = find(call);
    return pull ? ok(presentPull(call.state, pull)) : absent;
  },
  'POST /repos/{owner}/{repo}/pulls': async (call) => {
    const { state, body, actor } = call;
    // `owner:branch` is a branch of that owner's fork, of which only the name is another here.
    const [source, fork, target] = [
      String(body.head).replace(/^.*:/, ''),
      String(body.head).includes(':'),
      String(body.base),
    ];
    if (state.pulls.some((one) => one.state === 'open' && one.source === source && one.target === target)) {
      return invalid(`A pull request already exists for ${state.owner}:${source}.`);
    }
    const heads = await Promise.all(
      [source, target].map((one) => log(state.repository, ['-1', `refs/heads/${one}`])),
    );
    const [head, base] = heads.map((commits) => commits[0]?.id);
    if (!head || !base) return invalid('head: invalid');
    const pull: FakePull = {
      number: state.nextNumber(),
      title: String(body.title),
      body: String(body.body ?? ''),
      draft: body.draft === true,
      author: actor,
      source,
      target,
      head,
      base,
      fork,
      state: 'open',
      mergedAt: null,
      mergeCommit: null,
      updatedAt: state.now(),
    };
    state.pulls.push(pull);
    call.emit('pull_request', {
      action: 'opened',
      number: pull.number,
      pull_request: presentPull(state, pull),
    });
    return created(presentPull(state, pull));
  },
  'GET /repos/{owner}/{repo}/pulls/{pull_number}/files': async (call) => {
    const pull = find(call);
    if (!pull) return absent;
    const files = await diff(call.state.repository, pull.base, pull.head);
    const shown = files.map((file) => ({ filename: file.newPath, sha: 'a'.repeat(40), status: 'modified' }));
    return ok(paged(call.query, shown));
  },
  'GET /repos/{owner}/{repo}/pulls/{pull_number}/commits': async (call) => {
    const pull = find(call);
    if (!pull) return absent;
    const commits = await log(call.state.repository, ['--reverse', `${pull.base}..${pull.head}`]);
    return ok(
      paged(
        call.query,
        commits.slice(0, 250).map((one) => presentCommit(call.state, one)),
      ),
    );
  },
  'GET /repos/{owner}/{repo}/compare/{basehead}': async ({ state, values, query }) => {
    const [base, head] = String(values.basehead).split('...');
    const commits = await log(state.repository, ['--reverse', `${base}..${head}`]);
    return ok({ commits: paged(query, commits).map((one) => presentCommit(state, one)) });
  },
  'GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews': (call) => {
    const pull = find(call);
    if (!pull) return absent;
    const mine = call.state.reviews.filter((one) => one.pull === pull.number);
    return ok(
      paged(call.query, mine).map((one) => ({
        id: one.id,
        user: simpleUser(one.user),
        state: one.state,
        submitted_at: one.at,
        commit_id: one.commit,
      })),
    );
  },
  'POST /repos/{owner}/{repo}/pulls/{pull_number}/reviews': (call) => {
    const pull = find(call);
    if (!pull) return absent;
    const { state, body, actor } = call;
    const commit = String(body.commit_id ?? pull.head);
    const said = { APPROVE: 'APPROVED', REQUEST_CHANGES: 'CHANGES_REQUESTED', COMMENT: 'COMMENTED' };
    const word = said[body.event as keyof typeof said];
    const review = {
      id: state.nextId(),
      pull: pull.number,
      user: actor,
      state: word,
      at: state.now(),
      commit,
    };
    state.reviews.push(review);
    call.emit('pull_request_review', { action: 'submitted', pull_request: { number: pull.number } });
    return ok({ id: review.id, user: simpleUser(actor), state: word, commit_id: commit });
  },
  'PUT /repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/dismissals': (call) => {
    const review = call.state.reviews.find((one) => one.id === Number(call.values.review_id));
    if (!review) return absent;
    review.state = 'DISMISSED';
    return ok({
      id: review.id,
      user: simpleUser(review.user),
      state: review.state,
      commit_id: review.commit,
    });
  },
  'PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge': async (call) => {
    const pull = find(call);
    if (!pull) return absent;
    const made = await mergeCommit(call.state.repository, pull.target, pull.head, `Merge #${pull.number}`);
    if (made === null) return { status: 405, body: { message: 'Pull Request is not mergeable' } };
    const ref = `refs/heads/${pull.target}`;
    await updateRef(call.state.repository, ref, made, await resolveRef(call.state.repository, ref));
    const at = call.state.now();
    Object.assign(pull, { state: 'closed', mergedAt: at, updatedAt: at, mergeCommit: made });
    const number = pull.number;
    call.emit('pull_request', { action: 'closed', number, pull_request: presentPull(call.state, pull) });
    call.emit('push', { ref: `refs/heads/${pull.target}`, after: made, deleted: false });
    return ok({ sha: made, merged: true, message: 'Pull Request successfully merged' });
  },
  'GET /repos/{owner}/{repo}/issues/{issue_number}/comments': ({ state, values, query }) => {
    const all = state.comments.filter((one) => one.issue === Number(values.issue_number));
    return ok(paged(query, all).map((one) => presentComment(state, one)));
  },
  'POST /repos/{owner}/{repo}/issues/{issue_number}/comments': (call) => {
    const body = String(call.body.body);
    if (body.length > longestComment) return invalid('Body is too long (maximum is 65536 characters)');
    const comment = addComment(call, call.actor, Number(call.values.issue_number), body);
    return created(presentComment(call.state, comment));
  },
  'GET /repos/{owner}/{repo}/issues/comments/{comment_id}': ({ state, values }) => {
    const comment = state.comments.find((one) => one.id === Number(values.comment_id));
    return comment ? ok(presentComment(state, comment)) : absent;
  },
  'PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}': ({ state, values, body, actor }) => {
    const comment = state.comments.find((one) => one.id === Number(values.comment_id));
    if (!comment) return absent;
    if (comment.author !== actor) return { status: 403, body: { message: 'Forbidden' } };
    if (String(body.body).length > longestComment) return invalid('Body is too long');
    comment.body = String(body.body);
    comment.updatedAt = state.now();
    return ok(presentComment(state, comment));
  },
  'DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}': ({ state, values }) => {
    const at = state.comments.findIndex((one) => one.id === Number(values.comment_id));
    if (at < 0) return absent;
    state.comments.splice(at, 1);
    return noContent;
  },
  'POST /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions': ({ state, values, body, actor }) => {
    const comment = state.comments.find((one) => one.id === Number(values.comment_id));
    if (!comment) return absent;
    const content = String(body.content);
    const given = comment.reactions.some((one) => one.author === actor && one.content === content);
    if (!given) comment.reactions.push({ author: actor, content });
    return { status: given ? 200 : 201, body: { user: simpleUser(actor), content } };
  },
  'GET /repos/{owner}/{repo}/issues': ({ state, query }) => {
    const issues = state.issues.filter(
      (one) =>
        one.state === (query.get('state') ?? 'open') &&
        (!query.has('creator') || one.author.login === query.get('creator')),
    );
    return ok(paged(query, issues).map((one) => presentIssue(state, one)));
  },
  'POST /repos/{owner}/{repo}/issues': ({ state, body, actor }) => {
    const issue = {
      number: state.nextNumber(),
      title: String(body.title),
      body: String(body.body ?? ''),
      labels: (body.labels ?? []) as string[],
      author: actor,
      state: 'open' as 'open' | 'closed',
    };
    state.issues.push(issue);
    return created(presentIssue(state, issue));
  },
  'PATCH /repos/{owner}/{repo}/issues/{issue_number}': ({ state, values, body }) => {
    const issue = state.issues.find((one) => one.number === Number(values.issue_number));
    if (!issue) return absent;
    if (body.title !== undefined) issue.title = String(body.title);
    if (body.body !== undefined) issue.body = String(body.body);
    if (body.state !== undefined) issue.state = body.state === 'closed' ? 'closed' : 'open';
    return ok(presentIssue(state, issue));
  },
};

function presentIssue(state: FakeState, issue: FakeState['issues'][number]): object {
  return {
    number: issue.number,
    title: issue.title,
    body: issue.body,
    state: issue.state,
    user: simpleUser(issue.author),
    labels: issue.labels.map((name) => ({ name })),
    html_url: `${state.web}/${state.owner}/${state.name}/issues/${issue.number}`,
  };
}

function presentCommit(state: FakeState, commit: Awaited<ReturnType<typeof log>>[number]): object {
  // GitHub links a commit to the account that owns the address; here, the account named before the @.
  const accountOf = (email: string) => {
    // Its own address for what is done on its pages.
    if (email === 'noreply@github.com') return { login: 'web-flow', id: 19864447, type: 'User' };
    const account = state.users.find((one) => one.login === email.split('@')[0]);
    return account ? simpleUser(account) : null;
  };
  const { author, committer } = commit;
  return {
    sha: commit.id,
    commit: {
      author: { name: author.name, email: author.email },
      committer: { name: committer.name, email: committer.email },
    },
    author: accountOf(author.email),
    committer: accountOf(committer.email),
  };
}
