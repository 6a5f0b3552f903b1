/** The value of the last committed render, for callbacks that outlive renders. */

import { useInsertionEffect, useRef } from 'react';

/**
 * What `current` says is from a render that was committed, never from one that React threw away.
 *
 * Written in the earliest phase of a commit, so that no effect of the same commit can see the value before.
 */
export function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value);
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
