import { approve } from './approve.ts';
import { approveData } from './approve-data.ts';
import { compare } from './compare.ts';
import { deploy } from './deploy.ts';
import { evaluate } from './evaluate.ts';
import { explain } from './explain.ts';
import { createHelp } from './help.ts';
import { lock } from './lock.ts';
import { pause, resume } from './pause.ts';
import { promote } from './promote.ts';
import { register } from './register.ts';
import { reject } from './reject.ts';
import { requestData } from './request-data.ts';
import { retrain } from './retrain.ts';
import { rollback } from './rollback.ts';
import { status } from './status.ts';
import { train } from './train.ts';
import { tune } from './tune.ts';
import type { Command, Tools } from './types.ts';

const others: readonly Command<Tools>[] = [
  approve,
  approveData,
  reject,
  requestData,
  status,
  train,
  tune,
  retrain,
  evaluate,
  register,
  compare,
  explain,
  lock,
  deploy,
  rollback,
  promote,
  pause,
  resume,
];

/** Every command, by the word after the slash. */
export const commands: readonly Command<Tools>[] = [...others, createHelp(others)];

/** The words after the slash. */
export const commandNames: readonly string[] = commands.map((command) => command.name);
