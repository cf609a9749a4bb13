import { afterEach, describe, expect, it } from 'vitest';
import { convergeChange } from '../../bot/converge.ts';
import { handleComment } from '../../bot/handle.ts';
import { readChange, readDecisions } from '../../bot/read.ts';
import { encodeLabelSet, type Vote } from '../../src/data/label-set.ts';
import { readDataChain, shortDigest } from '../../src/index.ts';
import { useDatabase } from './database.ts';
import { type BotWorld, createBotWorld, projectYaml } from './world.ts';

let world: BotWorld;
const database = useDatabase();
afterEach(async () => {
  const { violations, problems } = world.sandbox;
  await world.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

const yaml = (required: number, labels = ''): string =>
  projectYaml(`approvals: { data: { required: ${required} } }\n`)
    .replace('  validator: [vera, walt, ada]', '  validator: [vera, walt, ada]\n  data: [eve, ada, walt]')
    .replace('    shape: [2, 2]', `    shape: [2, 2]\n${labels}`);

async function settle(change: number): Promise<void> {
  for (let pass = 0; pass < 8; pass++) {
    const before = world.tasks.length;
    const [one] = await convergeChange(world.context, change, false);
    await world.sandbox.settled();
    if (world.tasks.length === before && one?.standing !== 'evaluating') return;
  }
  throw new Error('does not settle');
}

async function say(who: 'ada' | 'vera' | 'walt' | 'eve', change: number, body: string): Promise<string> {
  await handleComment(world.context, change, await world.say(who, change, body), false);
  return world.comments(change).at(-1)!;
}

async function propose(text: string, branch = 'exp/a'): Promise<number> {
  await world.push('ada', branch, { 'model.ts': text });
  const change = await world.openChange(branch);
  await settle(change);
  return change;
}

async function factsOf(change: number) {
  const read = await readChange(world.context, change, false);
  if (read.kind !== 'read') throw new Error(`change is ${read.kind}`);
  return read.models[0]!;
}

const statusOf = (change: number) => world.statuses(change)['cdl/fashion'];
const dataDecisions = async () =>
  (await readDataChain(world.trusted, world.context.keys, 'fashion', 'clothes')).decisions;
const decisions = async () =>
  (await readDecisions(world.context, 'fashion', 'fashion', 'production')).decisions;

describe('data that must be approved', () => {
  it('keeps its candidate from approval until somebody of the role data approves it; then the change goes on at once', async () => {
    world = await createBotWorld(database(), yaml(1));
    const change = await propose('good\n');
    const { data, review } = await factsOf(change);
    const line = `cdl /approve-data ${shortDigest(data!.review)}`;
    expect(statusOf(change)).toBe(`pending: waiting for approval of the data (0 of 1): ${line}`);
    expect(world.comments(change)[0]).toContain(line);
    expect(world.comments(change)[0]).not.toContain('/approve ');

    const early = await say('vera', change, `cdl /approve ${shortDigest(review!)}`);
    expect(early).toContain(line);
    expect(await decisions()).toEqual([]);
    expect(await say('ada', change, line)).toContain('You are an author of this change');
    expect(await say('vera', change, line)).toContain('does not have the role **data**');
    expect(await dataDecisions()).toEqual([]);

    const before = world.tasks.length;
    expect(await say('eve', change, line)).toContain('is approved as');
    expect(world.tasks.slice(before)).toContainEqual({ kind: 'change', change });
    await settle(change);
    expect(statusOf(change)).toBe('pending: waiting for approval (0 of 1 approval)');
    expect(world.comments(change)[0]).toContain('eve (data)');
    expect(await dataDecisions()).toMatchObject([
      {
        version: data!.evidence.version,
        evidence: data!.review,
        verdict: 'pass',
        approver: { name: 'eve', role: 'data' },
        change: `!${change}`,
        seq: 1,
      },
    ]);

    await say('vera', change, `cdl /approve ${shortDigest(review!)}`);
    await settle(change);
    expect(statusOf(change)).toBe('success: approved');
    expect((await decisions()).map((one) => one.decision)).toEqual(['approved']);
  });

  it('counts each person once, in whatever change, and takes the candidate back when the role is gone', async () => {
    world = await createBotWorld(database(), yaml(2));
    const change = await propose('good\n');
    const { data, review } = await factsOf(change);
    const line = `cdl /approve-data ${shortDigest(data!.review)}`;
    for (const who of ['eve', 'eve', 'walt'] as const) await say(who, change, line);
    expect((await dataDecisions()).map((one) => one.approver.name)).toEqual(['eve', 'walt']);
    await say('vera', change, `cdl /approve ${shortDigest(review!)}`);
    await settle(change);
    expect(statusOf(change)).toBe('success: approved');

    world.project.members.delete(world.people.eve.id);
    await settle(change);
    expect(statusOf(change)).toContain('waiting for approval of the data (1 of 2)');
    expect((await decisions()).map((one) => one.decision)).toEqual(['approved', 'revoked']);
  });

  it('asks again for another data version, and never for one whose change nobody has to approve', async () => {
    world = await createBotWorld(database(), yaml(1));
    const change = await propose('good\n');
    const first = (await factsOf(change)).data!;
    await say('eve', change, `cdl /approve-data ${shortDigest(first.review)}`);
    world.data = { count: 1999, perClass: [1000, 999] };
    await world.push('ada', 'exp/a', { 'model.ts': 'better\n' });
    await settle(change);
    const second = (await factsOf(change)).data!;
    expect(second.approvals).toEqual([]);
    expect(statusOf(change)).toContain(shortDigest(second.review));
    expect(await say('eve', change, `cdl /approve-data ${shortDigest(first.review)}`)).toContain(
      'is not the data of this change as it stands now',
    );
  });

  it('is counted again: a manifest that says something else than its files hold is refused', async () => {
    world = await createBotWorld(database(), yaml(1));
    world.held = { perClass: [1000, 7] };
    const change = await propose('liar\n');
    const { data } = await factsOf(change);
    expect(data!.refused).toBe('its manifest says 2000 items, its files hold 1007');
    expect(statusOf(change)).toContain('failed: the data cannot be approved: its manifest says 2000 items');
    const answer = await say('eve', change, `cdl /approve-data ${shortDigest(data!.review)}`);
    expect(answer).toContain('cannot be approved: its manifest says 2000 items');
    expect(await dataDecisions()).toEqual([]);

    world.held = { quarantined: { empty: 900 } };
    await world.push('ada', 'exp/a', { 'model.ts': 'hider\n' });
    await settle(change);
    expect((await factsOf(change)).data!.refused).toBe(
      'its manifest says 0 items set aside, its files hold 900',
    );
  });

  it('is refused with the reason: too few items, or labelers that agree too little, whatever its manifest claims', async () => {
    world = await createBotWorld(
      database(),
      yaml(1, '    labels: { project: Clothes, min_agreement: 0.8 }\n'),
    );
    const change = await propose('good\n');
    expect(statusOf(change)).toContain(
      'failed: the data cannot be approved: labels.min_agreement asks for 0.8',
    );

    const vote = (item: number, labeler: string, choice: string): Vote => ({
      item: `sha256:${String(item).repeat(64)}`,
      annotation: `${item}${labeler}`,
      labeler,
      choices: [choice],
      at: '2026-01-01T00:00:00.000Z',
    });
    const publish = async (votes: Vote[]) => {
      const set = { v: 1 as const, project: 'fashion', dataset: 'clothes', side: 'train' as const, votes };
      return (await world.trusted.putBlob(encodeLabelSet(set))).digest;
    };
    const quarrel = [vote(1, 'a', 'shirt'), vote(1, 'b', 'shoe'), vote(2, 'a', 'shoe'), vote(2, 'b', 'shoe')];
    const labels = { set: await publish(quarrel), unlabelled: 0, alpha: 1, refused: null };
    world.data = { labels };
    await world.push('ada', 'exp/a', { 'model.ts': 'labelled\n' });
    await settle(change);
    const { data } = await factsOf(change);
    expect(data!.refused).toMatch(/Krippendorff's alpha is .*less than labels.min_agreement 0.8/);
    expect(world.comments(change)[0]).toContain('its data cannot be approved');
    expect(await say('eve', change, `cdl /approve-data ${shortDigest(data!.review)}`)).toContain(
      'cannot be approved',
    );
    expect(await dataDecisions()).toEqual([]);

    const peace = [vote(1, 'a', 'shirt'), vote(1, 'b', 'shirt'), vote(2, 'a', 'shoe'), vote(2, 'b', 'shoe')];
    world.data = { labels: { ...labels, set: await publish(peace) } };
    await world.push('ada', 'exp/a', { 'model.ts': 'agreed\n' });
    await settle(change);
    const agreed = (await factsOf(change)).data!;
    expect(agreed).toMatchObject({ refused: null, evidence: { labels: { alpha: 1 } } });
    expect(await say('walt', change, `cdl /approve-data ${shortDigest(agreed.review)}`)).toContain(
      'is approved',
    );
  });
});

describe('data that nobody has to approve', () => {
  it('can be approved all the same, and stops nothing', async () => {
    world = await createBotWorld(database(), yaml(0));
    const change = await propose('good\n');
    expect(statusOf(change)).toBe('pending: waiting for approval (0 of 1 approval)');
    expect(world.comments(change)[0]).not.toContain('/approve-data');
    const { data } = await factsOf(change);
    expect(await say('eve', change, `cdl /approve-data ${shortDigest(data!.review)}`)).toContain(
      'did not ask for it',
    );
    expect(await dataDecisions()).toHaveLength(1);
  });

  it('/request-data opens an issue that is linked to the change', async () => {
    world = await createBotWorld(database(), yaml(0));
    const change = await propose('good\n');
    const said = await say('vera', change, 'cdl /request-data "more shoes with laces"');
    expect(said).toContain('Opened ');
    const issues = [...world.project.issues.values()];
    expect(issues).toHaveLength(1);
    expect(issues[0]!.description).toContain('more shoes with laces');
    expect(issues[0]!.description).toContain(`/-/merge_requests/${change}`);
    await settle(change);
    expect(statusOf(change)).toBe('failed: sent back to data: more shoes with laces');
  });
});
