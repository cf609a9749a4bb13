import { z } from 'zod';

/** Path among a job's artifacts of what its step failed of; absent when it did not. */
export const stepFailurePath = '.cdl/failure.json';

/** Most characters of a message that are kept: whoever wants more reads the job's log. */
const most = 2000;

/** See {@link stepFailurePath}. A job writes it, so that it is a claim like everything else a job says. */
export const stepFailureSchema = z.object({
  v: z.literal(1),
  step: z.string().max(100),
  /** What and where, as on the terminal. */
  message: z.string().max(most),
  /** What to do next. */
  hint: z.string().max(most).nullable(),
});

/** See {@link stepFailureSchema}. */
export type StepFailure = z.infer<typeof stepFailureSchema>;

/** The bytes of {@link stepFailurePath}. */
export function encodeStepFailure({ step, message, hint }: Omit<StepFailure, 'v'>): string {
  const cut = (text: string) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  return `${JSON.stringify({ v: 1, step, message: cut(message), hint: hint === null ? null : cut(hint) })}\n`;
}

/** What {@link encodeStepFailure} made; null for anything else. */
export function decodeStepFailure(bytes: Uint8Array): StepFailure | null {
  try {
    return stepFailureSchema.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data ?? null;
  } catch {
    return null;
  }
}
