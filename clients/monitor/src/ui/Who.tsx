// Who the server takes this page for, until when, and what can be done about it.

import type { Identity } from '../state/monitor';
import { until } from './format';
import { useMonitor, useNow } from './hooks';
import { Icon } from './Icon';

/** So long before it expires the page says so by itself. */
const SOON_MS = 120_000;

export function Who({ identity }: { identity: Identity }) {
  const monitor = useMonitor();
  useNow(1000);
  const soon = identity.expiresAtMs - Date.now() < SOON_MS;
  const end = until(identity.expiresAtMs);
  return (
    <details className="who" data-soon={soon}>
      <summary>
        <span className="unseen">Signed in as </span>
        <span className="name">{identity.subject}</span> <span className="until">until {end}</span>
        <Icon name="down" />
      </summary>
      <div className="who-more">
        <p>
          Signed in as <b>{identity.subject}</b>
        </p>
        <p className="aside">
          The token is good until {end}. When it ends, what is shown stays, and goes on with a new one.
        </p>
        <p className="acts">
          <button
            type="button"
            onClick={(event) => {
              event.currentTarget.closest('details')?.removeAttribute('open');
              monitor.askToRenew(true);
            }}
          >
            Renew
          </button>
          <button type="button" onClick={() => monitor.signOut()}>
            Sign out
          </button>
        </p>
      </div>
    </details>
  );
}
