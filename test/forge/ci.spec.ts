import { describe, expect, it } from 'vitest';
import { readCi } from '../../src/forge/ci.ts';

const gitlab = {
  CI: 'true',
  CI_PROJECT_PATH: 'acme/fashion',
  CI_COMMIT_SHA: 'a'.repeat(40),
  CI_COMMIT_REF_NAME: 'main',
  CI_COMMIT_BRANCH: 'main',
  CI_COMMIT_REF_PROTECTED: 'true',
  CI_PIPELINE_ID: '31',
  CI_PIPELINE_SOURCE: 'push',
  CI_JOB_ID: '380',
  CI_JOB_URL: 'https://gitlab.example.com/acme/fashion/-/jobs/380',
  CI_SERVER_URL: 'https://gitlab.example.com',
  CI_API_V4_URL: 'https://gitlab.example.com/api/v4',
  CI_DEFAULT_BRANCH: 'main',
  GITLAB_USER_LOGIN: 'dana',
};

describe('the CI job a process runs in', () => {
  it('is read from GitLab’s variables, on a branch and for a merge request', () => {
    expect(readCi(gitlab)).toEqual({
      kind: 'gitlab',
      project: 'acme/fashion',
      sha: 'a'.repeat(40),
      ref: 'main',
      branch: 'main',
      protectedRef: true,
      change: null,
      sourceBranch: null,
      pipeline: '31',
      job: '380',
      jobUrl: 'https://gitlab.example.com/acme/fashion/-/jobs/380',
      serverUrl: 'https://gitlab.example.com',
      apiUrl: 'https://gitlab.example.com/api/v4',
      defaultBranch: 'main',
      source: 'push',
      user: 'dana',
    });
    const change = {
      ...gitlab,
      CI_COMMIT_BRANCH: undefined,
      CI_COMMIT_REF_PROTECTED: 'false',
      CI_PIPELINE_SOURCE: 'merge_request_event',
      CI_COMMIT_REF_NAME: 'refs/merge-requests/16/head',
      CI_MERGE_REQUEST_IID: '16',
      CI_MERGE_REQUEST_SOURCE_BRANCH_NAME: 'exp/lr',
    };
    expect(readCi(change)).toMatchObject({
      change: 16,
      ref: 'exp/lr',
      branch: 'exp/lr',
      sourceBranch: 'exp/lr',
      protectedRef: false,
    });
  });

  it('has no branch on a tag', () => {
    expect(
      readCi({ ...gitlab, CI_COMMIT_BRANCH: undefined, CI_COMMIT_TAG: 'v1', CI_COMMIT_REF_NAME: 'v1' }),
    ).toMatchObject({
      branch: null,
      ref: 'v1',
    });
  });

  it('is read from GitHub’s variables', () => {
    const github = {
      GITHUB_ACTIONS: 'true',
      GITHUB_REPOSITORY: 'acme/fashion',
      GITHUB_SHA: 'b'.repeat(40),
      GITHUB_REF: 'refs/pull/7/merge',
      GITHUB_REF_NAME: '7/merge',
      GITHUB_HEAD_REF: 'exp/lr',
      GITHUB_REF_PROTECTED: 'false',
      GITHUB_RUN_ID: '99',
      GITHUB_ACTOR: 'dana',
      GITHUB_JOB: 'train',
      GITHUB_SERVER_URL: 'https://github.com',
      GITHUB_API_URL: 'https://api.github.com',
      GITHUB_EVENT_NAME: 'pull_request',
    };
    expect(readCi(github)).toMatchObject({
      kind: 'github',
      change: 7,
      branch: 'exp/lr',
      pipeline: '99',
      user: 'dana',
      jobUrl: 'https://github.com/acme/fashion/actions/runs/99',
      sha: 'b'.repeat(40),
    });
    // GITHUB_SHA is a test merge there; the workflow says which head it checked out.
    expect(readCi({ ...github, CDL_SHA: 'c'.repeat(40) })).toMatchObject({ sha: 'c'.repeat(40) });
  });

  it('is none on a person’s machine', () => {
    expect(readCi({})).toBeNull();
    expect(readCi({ CI: 'true' })).toBeNull();
  });
});
