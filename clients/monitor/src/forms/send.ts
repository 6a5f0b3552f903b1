// Sends a form's command and says what came of it, in a form's terms.
import { CommandError, NotFound } from '@neurograph/client';
import { type Faults, faultsOf } from './draft';

/** What went wrong, at its fields. */
export function faultsOfError(error: unknown): Faults {
  if (error instanceof NotFound) return { form: 'The token is gone.' };
  if (!(error instanceof CommandError)) {
    return { form: error instanceof Error ? error.message : 'It did not come through.' };
  }
  const { errors } = error.details;
  if (Array.isArray(errors) && errors.length > 0) return faultsOf(errors);
  return { form: String(error.reply.payload.message) };
}

/** Whether somebody else changed the token since the form was filled. */
export function isConflict(error: unknown): boolean {
  return error instanceof CommandError && error.code === 'conflict';
}
