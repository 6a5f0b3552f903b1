// Sends a form's command and says what came of it, in a form's terms.
import { CommandError } from '../standin';
import { type Faults, faultsOf } from './draft';

/** What went wrong, at its fields. */
export function faultsOfError(error: unknown): Faults {
  if (!(error instanceof CommandError)) {
    return { form: error instanceof Error ? error.message : 'It did not come through.' };
  }
  const errors = error.details?.errors;
  if (Array.isArray(errors) && errors.length > 0) return faultsOf(errors);
  return { form: error.message };
}

/** Whether somebody else changed the token since the form was filled. */
export function isConflict(error: unknown): boolean {
  return error instanceof CommandError && error.code === 'conflict';
}
