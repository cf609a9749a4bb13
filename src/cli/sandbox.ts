import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { cacheFolder, npmRegistry } from '../steps/context.ts';
import { portOf } from './port.ts';
import { startRig } from './rig.ts';
import type { CommandInput } from './types.ts';

/** `cdl sandbox`: an empty project with runners and bot, ready for `git push`, until it is stopped. */
export async function sandbox(input: CommandInput): Promise<number> {
  const given = input.options.folder as string | undefined;
  const folder = given ? resolve(input.cwd, given) : await mkdtemp(join(tmpdir(), 'cdl-sandbox-'));
  await mkdir(folder, { recursive: true });
  const rig = await startRig({
    folder,
    cacheFolder: cacheFolder(input.env),
    port: portOf(input.options.port),
    npmRegistry: await npmRegistry(input.env),
    caFile: input.env.NODE_EXTRA_CA_CERTS ?? null,
    signal: input.console.signal,
    temporary: !given,
    systemPath: input.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    version: input.version,
    project: 'acme/fashion',
    log: (line) => input.console.log(line),
  });
  const people = Object.entries(rig.people).map(([role, actor]) => ({
    role,
    username: actor.user.username,
    token: actor.token,
  }));
  input.console.print(
    [
      `sandbox   ${rig.sandbox.url}`,
      `project   ${rig.repository}`,
      `bot       ${rig.bot.url}`,
      `status    ${rig.statusPage}`,
      ...people.map((one) => `${one.role.padEnd(11)} ${one.username.padEnd(6)} token ${one.token}`),
      '',
      'Try:',
      `  cdl init fashion --validator ${rig.people.validator.user.username} && cd fashion`,
      `  git remote add origin ${rig.repository.replace('://', `://${rig.people.maintainer.user.username}@`)}`,
      `  git push -u origin main        # the password is the token of ${rig.people.maintainer.user.username}`,
      'Stop with Ctrl-C.',
    ].join('\n'),
    { url: rig.sandbox.url, repository: rig.repository, bot: rig.bot.url, status: rig.statusPage, people },
  );
  await new Promise<void>((done) => {
    if (input.console.signal.aborted) done();
    input.console.signal.addEventListener('abort', () => done(), { once: true });
  });
  await rig.close();
  if (!given) await rm(folder, { recursive: true, force: true });
  return 0;
}
