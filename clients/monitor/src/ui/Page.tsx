// Makes the monitor, and makes it anew when somebody else is to look at the page.
import { createWebSocket } from '@neurograph/client';
import { useEffect, useState } from 'react';
import { Keeper } from '../state/keeper';
import { Monitor } from '../state/monitor';
import { Board } from './Board';
import { MonitorContext } from './hooks';

export function Page() {
  const [keeper] = useState(() => new Keeper());
  const [round, setRound] = useState(0);
  const [monitor, setMonitor] = useState<Monitor | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another round is another monitor
  useEffect(() => {
    const ws = createWebSocket({ token: () => keeper.token });
    const made = new Monitor(ws, keeper, () => setRound((before) => before + 1));
    setMonitor(made);
    made.open();
    return () => made.close();
  }, [keeper, round]);
  if (!monitor) return null;
  return (
    <MonitorContext value={monitor}>
      <Board key={round} />
    </MonitorContext>
  );
}
