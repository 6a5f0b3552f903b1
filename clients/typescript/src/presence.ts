/** Tells when the program is back: in the foreground, awake, or on the network. Browsers only; elsewhere silent. */

/**
 * Call `back` when a page is shown, thawed or online again, and `away` when the network says that it is gone. Returns what
 * ends it. None of these is proof of anything; they are reasons to look.
 */
export function watchPresence(back: () => void, away: () => void): () => void {
  const page = typeof document === 'undefined' ? null : document;
  if (page === null || typeof addEventListener !== 'function') return () => {};
  const shown = () => {
    if (page.visibilityState === 'visible') back();
  };
  page.addEventListener('visibilitychange', shown);
  page.addEventListener('resume', back);
  addEventListener('pageshow', back);
  addEventListener('online', back);
  addEventListener('offline', away);
  return () => {
    page.removeEventListener('visibilitychange', shown);
    page.removeEventListener('resume', back);
    removeEventListener('pageshow', back);
    removeEventListener('online', back);
    removeEventListener('offline', away);
  };
}
