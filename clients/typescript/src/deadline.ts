/** Promises that wait no longer than they may. */

import { quiet } from './deferred.js';
import { type NgosError, RequestTimeout } from './errors.js';
import { startTimer } from './timer.js';

/**
 * A promise of what `ask` comes to, within the time, or until the signal. `ask` is given what to call when it is `done`, at
 * once or later, and returns what stops it. `command` is what a RequestTimeout names.
 */
export function within<Answer>(
  command: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  ask: (done: (outcome: Answer | NgosError) => void) => () => void,
): Promise<Answer> {
  const promise = new Promise<Answer>((resolve, reject) => {
    signal?.throwIfAborted();
    let forget = () => {};
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const giveUp = (reason: unknown) => {
      settle();
      forget();
      reject(reason);
    };
    const abort = () => giveUp(signal?.reason);
    signal?.addEventListener('abort', abort);
    const timer = startTimer(() => giveUp(new RequestTimeout(command, timeoutMs)), timeoutMs);
    try {
      forget = ask((outcome) => {
        settle();
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      });
    } catch (error) {
      settle();
      reject(error);
    }
  });
  return quiet(promise);
}
