import {
  describeError,
  type ForgeOptions,
  openForge,
  parseProject,
  plural,
  projectFile,
} from '../src/index.ts';
import { type Finding, ok, problem } from './access.ts';
import { type Environment, readNotify } from './config.ts';
import { checkMailServer, type NotifySettings } from './notify.ts';

const name = 'notify';

/** What receivers the default branch's cdl.yaml names; null when there is none that can be read, which is told elsewhere. */
async function readReceivers(options: ForgeOptions): Promise<{ webhooks: number; addresses: number } | null> {
  const forge = await openForge(options);
  const text = await forge.readFile(projectFile, await forge.defaultBranch());
  try {
    const notify = text === null ? [] : (parseProject(text).notify ?? []);
    return {
      webhooks: notify.filter((one) => one.webhook !== undefined).length,
      addresses: new Set(notify.flatMap((one) => one.email ?? [])).size,
    };
  } catch {
    return null;
  }
}

async function askServer(smtp: NonNullable<NotifySettings['smtp']>): Promise<Finding> {
  const { host } = new URL(smtp.url);
  try {
    await checkMailServer(smtp);
    return ok(name, `the mail server ${host} lets the bot in`);
  } catch (error) {
    return problem(name, describeError(error).message, 69);
  }
}

/**
 * Whether whom `notify:` names can be told, with the variables there are. `asks`: whether the mail server is asked, too.
 * Nothing where nobody is named and nothing is set. Throws UpstreamError.
 */
export async function lookAtNotify(
  env: Environment,
  options: ForgeOptions,
  asks: boolean,
): Promise<Finding[]> {
  let settings: NotifySettings;
  try {
    settings = readNotify(env);
  } catch (error) {
    return [problem(name, describeError(error).message, 3)];
  }
  const receivers = await readReceivers(options);
  if (receivers === null) return [];
  const { webhooks, addresses } = receivers;
  const findings: Finding[] = [];
  if (webhooks > 0) {
    const text = `${plural(webhooks, 'webhook')} of cdl.yaml`;
    findings.push(
      settings.secrets.length > 0
        ? ok(name, `${text}, signed`)
        : problem(name, `${text}: told nothing while CDL_NOTIFY_SECRET is not set`, 3),
    );
  }
  if (addresses > 0 && !settings.smtp) {
    const text = `${addresses} mail address${addresses === 1 ? '' : 'es'} of cdl.yaml`;
    findings.push(problem(name, `${text}: told nothing while CDL_SMTP_URL is not set`, 3));
  }
  if (settings.smtp && asks) findings.push(await askServer(settings.smtp));
  return findings;
}
