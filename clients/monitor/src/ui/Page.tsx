// Makes the monitor, and makes it anew with another token where the server asks for one.
import { createWebSocket } from '@neurograph/client';
import { useEffect, useState } from 'react';
import { Monitor } from '../state/monitor';
import { Board } from './Board';
import { MonitorContext } from './hooks';

export function Page() {
  const [token, setToken] = useState<string | null>(null);
  const [monitor, setMonitor] = useState<Monitor | null>(null);
  useEffect(() => {
    const made = new Monitor(createWebSocket(token ? { token } : {}));
    setMonitor(made);
    made.open();
    return () => made.close();
  }, [token]);
  if (!monitor) return null;
  return (
    <MonitorContext value={monitor}>
      <Board onToken={setToken} />
    </MonitorContext>
  );
}
