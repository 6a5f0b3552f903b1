/** Timers that wait as long as they are told. */

export type Timer = ReturnType<typeof setTimeout>;

/** The longest that platforms can wait, 24 days; what is told to wait longer, they call at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** As `setTimeout`; Infinity is the longest there is. */
export function startTimer(call: () => void, ms: number): Timer {
  return setTimeout(call, Math.min(ms, LONGEST_MS));
}
