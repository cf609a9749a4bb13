import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseCommands } from '../../src/sandbox/git-http.ts';
import { openRig, type Rig } from './forge-rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await openRig();
});
afterAll(() => rig.close());

async function commit(clone: string, file: string, content: string, message = `change ${file}`) {
  await writeFile(join(clone, file), content);
  await rig.git(clone, 'add', '.');
  await rig.git(clone, 'commit', '--quiet', '-m', message);
  return (await rig.git(clone, 'rev-parse', 'HEAD')).trim();
}

describe('git over HTTP', () => {
  it('clones, pushes a branch, and asks the engine for its pipeline', async () => {
    const clone = await rig.clone('developer');
    await rig.git(clone, 'checkout', '--quiet', '-b', 'exp/one');
    const sha = await commit(clone, 'a.txt', 'a\n');
    await rig.git(clone, 'push', '--quiet', 'origin', 'exp/one');
    await rig.sandbox.settled();
    const again = await rig.clone('reporter');
    expect(await rig.git(again, 'rev-parse', 'origin/exp/one')).toBe(sha);
    expect(rig.asked.at(-1)).toMatchObject({ ref: 'exp/one', sha, source: 'push', tag: false });
  });

  it('takes a push with a large, gzip-encoded body', async () => {
    const clone = await rig.clone('developer');
    await rig.git(clone, 'checkout', '--quiet', '-b', 'exp/large');
    await writeFile(join(clone, 'big.bin'), randomBytes(3 * 1024 * 1024));
    await rig.git(clone, 'add', '.');
    await rig.git(clone, 'commit', '--quiet', '-m', 'big');
    await rig.git(clone, 'push', '--quiet', 'origin', 'exp/large');
    const other = await rig.clone('developer');
    await rig.git(other, 'checkout', '--quiet', 'exp/large');
    expect(await rig.git(other, 'rev-parse', 'HEAD')).toBe(await rig.git(clone, 'rev-parse', 'HEAD'));
  });

  it('refuses a push to a protected branch before the ref moves', async () => {
    const clone = await rig.clone('developer');
    const before = await rig.git(clone, 'rev-parse', 'origin/main');
    await commit(clone, 'b.txt', 'b\n');
    await expect(rig.git(clone, 'push', 'origin', 'HEAD:main')).rejects.toThrow(
      /not allowed to push code to protected/,
    );
    await rig.git(clone, 'fetch', '--quiet');
    expect(await rig.git(clone, 'rev-parse', 'origin/main')).toBe(before);
  });

  it('lets a maintainer fast-forward a protected branch, but not rewrite it', async () => {
    const clone = await rig.clone('maintainer');
    const good = await commit(clone, 'c.txt', 'c\n');
    await rig.git(clone, 'push', '--quiet', 'origin', 'main');
    await rig.git(clone, 'commit', '--quiet', '--amend', '-m', 'other');
    await expect(rig.git(clone, 'push', '--force', 'origin', 'main')).rejects.toThrow(
      /not allowed to force push/,
    );
    await expect(rig.git(clone, 'push', 'origin', ':main')).rejects.toThrow(
      /default branch of a project cannot be deleted/,
    );
    expect((await rig.call('owner', 'GET', '/projects/1/repository/branches/main')).json.commit.id).toBe(
      good,
    );
  });

  it('refuses the whole push when one of its refs is refused', async () => {
    const clone = await rig.clone('developer');
    await commit(clone, 'd.txt', 'd\n');
    await expect(rig.git(clone, 'push', 'origin', 'HEAD:main', 'HEAD:exp/half')).rejects.toThrow(/protected/);
    expect((await rig.call('owner', 'GET', '/projects/1/repository/branches/exp%2Fhalf')).status).toBe(404);
  });

  it('hides the project from strangers, and keeps reporters from pushing', async () => {
    await expect(rig.clone('stranger')).rejects.toThrow(/not found|could not be found/i);
    const clone = await rig.clone('reporter');
    await commit(clone, 'e.txt', 'e\n');
    await expect(rig.git(clone, 'push', 'origin', 'HEAD:exp/reporter')).rejects.toThrow(/403/);
    const anonymous = await fetch(`${rig.sandbox.url}/team/demo.git/info/refs?service=git-upload-pack`);
    expect([anonymous.status, anonymous.headers.get('www-authenticate')]).toEqual([
      401,
      'Basic realm="GitLab"',
    ]);
  });

  it('refuses to move refs that are its own', async () => {
    const clone = await rig.clone('maintainer');
    await expect(rig.git(clone, 'push', 'origin', 'HEAD:refs/merge-requests/99/head')).rejects.toThrow();
    expect(await rig.git(rig.project.repository, 'for-each-ref', 'refs/merge-requests/99')).toBe('');
  });

  it('opens a merge request from a push option', async () => {
    const clone = await rig.clone('developer');
    await commit(clone, 'f.txt', 'f\n', 'Tune lr');
    await rig.git(
      clone,
      'push',
      '--quiet',
      '-o',
      'merge_request.create',
      '-o',
      'merge_request.title=Tuned',
      'origin',
      'HEAD:exp/option',
    );
    const found = await rig.call('developer', 'GET', '/projects/1/merge_requests?source_branch=exp%2Foption');
    expect(found.json).toMatchObject([{ title: 'Tuned', state: 'opened', target_branch: 'main' }]);
  });

  it('makes no pipeline for a commit that says so', async () => {
    const clone = await rig.clone('developer');
    const sha = await commit(clone, 'g.txt', 'g\n', 'quiet [skip ci]');
    await rig.git(clone, 'push', '--quiet', 'origin', 'HEAD:exp/quiet');
    await rig.sandbox.settled();
    expect(rig.asked.filter((request) => request.sha === sha)).toEqual([]);
  });
});

describe('the commands at the start of a push', () => {
  it('wait for the flush packet and leave the pack alone', () => {
    const line = `${'0'.repeat(40)} ${'a'.repeat(40)} refs/heads/x\0 report-status push-options\n`;
    const packet = `${(line.length + 4).toString(16).padStart(4, '0')}${line}`;
    const whole = Buffer.from(`${packet}00000009opt=a0000PACK`);
    for (let cut = 0; cut < packet.length + 4 + 9; cut += 7)
      expect(parseCommands(whole.subarray(0, cut))).toBeNull();
    expect(parseCommands(whole)).toEqual({
      commands: [{ old: '0'.repeat(40), new: 'a'.repeat(40), ref: 'refs/heads/x' }],
      options: ['opt=a'],
    });
  });
});
