import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Command, Option } from 'commander';
import { describeError, UserError } from '../core/error.ts';
import { createRedactor, environmentSecrets } from '../core/redact.ts';
import { encodeStepFailure, stepFailurePath } from '../core/step-failure.ts';
import { renderTerminal } from '../report/terminal.ts';
import { createContext, parameterVariables } from '../steps/context.ts';
import type { StepEntry } from '../steps/index.ts';
import { parametersOf, parseParameters } from '../steps/parameters.ts';
import { runStep, type StepResult } from '../steps/run-step.ts';
import type { CommandConsole } from './console.ts';
import { jsonOption } from './types.ts';

const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** Gives a command the flags of a step's parameters and runs it: flags win over the `CDL_PARAM_…` variables of a component. */
export async function addStep(
  command: Command,
  entry: StepEntry,
  setup: { env: NodeJS.ProcessEnv; console: CommandConsole; done(exit: number): void },
): Promise<void> {
  const step = await entry.load();
  const parameters = parametersOf(step.params);
  const first = parameters[0];
  if (first) command.argument(`[${first.name}]`, first.description);
  for (const parameter of parameters) {
    const flag = `--${parameter.name.replaceAll('_', '-')} <${parameter.type === 'string' ? 'text' : parameter.type}>`;
    const stated = parameter.default === undefined || parameter.default === '' ? null : parameter.default;
    // Said in the text, not set: a flag that was not given must leave the component's variable alone.
    const more = parameter.required ? ' (required)' : stated === null ? '' : ` (default: ${String(stated)})`;
    const option = new Option(flag, `${parameter.description}${more}`);
    if (parameter.options) option.choices(parameter.options);
    command.addOption(option);
  }
  command.option('--json', jsonOption);
  command.action(async (...given: unknown[]) => {
    const options = given.at(-2) as Record<string, unknown>;
    const positional = first ? (given[0] as string | undefined) : undefined;
    const names = parameters.map((one) => one.name);
    const values = parameterVariables(setup.env, names);
    for (const name of names) {
      const flag = options[camel(name)];
      if (flag !== undefined) values[name] = String(flag);
    }
    if (first && positional !== undefined) {
      const flag = options[camel(first.name)];
      if (flag !== undefined && flag !== positional) {
        throw new UserError('usage', `${first.name} is given twice: ${positional} and ${String(flag)}`);
      }
      values[first.name] = positional;
    }
    const started = performance.now();
    const params = parseParameters(step.params, values);
    const result = await tellingFailure(step.name, setup.env, async () => {
      const ctx = await createContext(process.cwd(), setup.env, setup.console);
      return runStep(step, ctx, params);
    });
    const seconds = (performance.now() - started) / 1000;
    const how = result.cached ? `cached, ${seconds.toFixed(2)} s` : `${seconds.toFixed(1)} s`;
    const text = renderTerminal(result.report, setup.console);
    const outputs = Object.entries(result.outputs).map(([name, value]) => `  ${name.padEnd(12)} ${value}`);
    setup.console.print(`${text}\n${outputs.join('\n')}\n${step.name} ${result.subject}: ${how}`, {
      step: step.name,
      subject: result.subject,
      cached: result.cached,
      verdict: result.report.verdict,
      summary: result.report.summary,
      outputs: result.outputs,
      seconds: Number(seconds.toFixed(3)),
    });
    setup.done(result.report.verdict === 'fail' ? 4 : 0);
  });
}

/**
 * Runs a step; in CI it leaves what it failed of where the bot finds it among the job's artifacts, to be told in the report
 * of the change.
 */
async function tellingFailure(
  step: string,
  env: NodeJS.ProcessEnv,
  work: () => Promise<StepResult>,
): Promise<StepResult> {
  if (!env.CI) return work();
  const path = join(process.cwd(), stepFailurePath);
  const redact = createRedactor(environmentSecrets(env));
  const tell = async (message: string, hint: string | null) => {
    // It comes beside the failure itself, which must not be lost over it.
    await mkdir(dirname(path), { recursive: true }).catch(() => {});
    await writeFile(
      path,
      encodeStepFailure({ step, message: redact(message), hint: hint && redact(hint) }),
    ).catch(() => {});
  };
  await rm(path, { force: true }).catch(() => {});
  try {
    const result = await work();
    if (result.report.verdict === 'fail') await tell(result.report.summary, null);
    return result;
  } catch (error) {
    const { message, hint } = describeError(error);
    await tell(message, hint);
    throw error;
  }
}
