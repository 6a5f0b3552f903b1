// Sends a form's command and says what came of it, in a form's terms.
import { CommandError, ConnectionLost, NotFound } from '@neurograph/client';
import { type Faults, faultsOf } from './draft';

/** What went wrong, at its fields. */
export function faultsOfError(error: unknown): Faults {
  if (error instanceof NotFound) return { form: 'The token is gone.' };
  // The page itself ends the connection when the server asks who this is.
  if (error instanceof ConnectionLost && (error.code === 4401 || error.code === 1000)) {
    return { form: 'Not signed in: nothing was sent.' };
  }
  if (!(error instanceof CommandError)) {
    return { form: error instanceof Error ? error.message : 'It did not come through.' };
  }
  const { errors } = error.details;
  if (Array.isArray(errors) && errors.length > 0) return faultsOf(errors);
  const message = String(error.reply.payload.message);
  if (error.code === 'forbidden' || error.retryAfterMs !== null) return { form: sentence(message, error.retryAfterMs) };
  return { form: message };
}

/** Whether somebody else changed the token since the form was filled. */
export function isConflict(error: unknown): boolean {
  return error instanceof CommandError && error.code === 'conflict';
}

function sentence(message: string, retryAfterMs: number | null): string {
  const wait = retryAfterMs === null ? '' : ` Again in ${Math.ceil(retryAfterMs / 1000)} s.`;
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.${wait}`;
}
