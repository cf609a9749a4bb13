import { Command, CommanderError, Option } from 'commander';
import { UserError } from '../core/error.ts';
import { nearest } from '../core/suggest.ts';
import type { StepEntry } from '../steps/index.ts';
import { commands } from './commands.ts';
import type { CommandConsole } from './console.ts';
import { jsonOption } from './types.ts';

/** Parses the command line and runs the command. Returns the exit code; throws UserError usage for what nobody meant. */
export async function createProgram(setup: {
  argv: readonly string[];
  env: NodeJS.ProcessEnv;
  console: CommandConsole;
  steps: readonly StepEntry[];
  version: string;
}): Promise<number> {
  let code = 0;
  const wanted = setup.argv.find((arg) => !arg.startsWith('-'));
  const program = new Command('cdl').description(
    'Continuous deep learning on GitLab: train, evaluate, approve, deploy — from merge requests.',
  );
  // After a command it is the command's own: `cdl reproduce --version 3`.
  if (wanted === undefined) program.version(setup.version, '-V, --version', 'print the version');
  program
    .helpOption('-h, --help', 'show this help, or that of a command')
    .option('--json', jsonOption)
    .helpCommand(false)
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .exitOverride()
    .configureOutput({ outputError: () => {} });
  program.addHelpText(
    'after',
    '\nExit codes: 0 done, 2 usage, 3 configuration or input, 4 a gate said no, 5 not permitted,\n6 integrity, 69 not available here, 70 a bug in cdl, 75 try again later, 130 stopped.',
  );

  for (const step of setup.steps) {
    const command = program.command(step.name).summary(step.summary).description(`${step.summary}.`);
    command.helpGroup('Workflow steps (also CI components):').helpOption('-h, --help', 'show this help');
    if (step.name !== wanted) continue;
    const { addStep } = await import('./step-command.ts');
    await addStep(command, step, { ...setup, done: (exit) => (code = exit) });
  }
  for (const entry of commands) {
    const command = program.command(entry.name).summary(entry.summary).description(`${entry.summary}.`);
    command.helpGroup('Around them:').helpOption('-h, --help', 'show this help');
    for (const argument of entry.arguments) command.argument(argument);
    for (const option of entry.options) {
      const made = new Option(option.flags, option.description);
      if (option.default !== undefined) made.default(option.default);
      if (option.choices) made.choices(option.choices);
      command.addOption(made);
    }
    command.option('--json', jsonOption);
    if (entry.examples.length > 0) {
      command.addHelpText('after', `\nExamples:\n${entry.examples.map((line) => `  ${line}`).join('\n')}`);
    }
    if (entry.notes && entry.name === wanted) command.addHelpText('after', `\n${await entry.notes()}`);
    command.action(async (...given: unknown[]) => {
      const options = given.at(-2) as Record<string, unknown>;
      const args = given.slice(0, -2) as (string | undefined)[];
      const run = await entry.load();
      code = await run({ ...setup, cwd: process.cwd(), options, args });
    });
  }

  try {
    if (setup.argv.length === 0) {
      program.outputHelp();
      return 0;
    }
    await program.parseAsync([...setup.argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return 0;
    const known = [...setup.steps, ...commands].map((one) => one.name);
    const guess = error.code === 'commander.unknownCommand' && wanted ? nearest(wanted, known) : null;
    const message = error.message.replace(/^error: /, '').replace(/\s*\(Did you mean .*\)/, '');
    throw new UserError(
      'usage',
      guess ? `${message} — did you mean ${guess}?` : message,
      wanted && known.includes(wanted) ? `see cdl ${wanted} --help` : 'see cdl --help',
    );
  }
  return code;
}
