// Does again what may go better later: no answer in time, a database that is away.
import { CommandError, RequestTimeout } from '@neurograph/client';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export type PauseFor = (ms: number) => Promise<void>;

const inTime: PauseFor = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The answer of `act`, however often it takes; rejects with what will not go better. */
export async function persist<Answer>(act: () => Promise<Answer>, pauseFor: PauseFor = inTime): Promise<Answer> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await act();
    } catch (error) {
      if (!mayPass(error)) throw error;
      await pauseFor(Math.max(pauseMs, (error instanceof CommandError && error.retryAfterMs) || 0));
    }
  }
}

function mayPass(error: unknown): boolean {
  return error instanceof RequestTimeout || (error instanceof CommandError && error.retryable);
}
