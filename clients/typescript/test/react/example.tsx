import type { EventEnvelope, TokenListed } from '@neurograph/client';
import { useNeuroGraphWebSocket, useWebSocketSubscription } from '@neurograph/client/react';
import { useEffect, useState } from 'react';

type Rows = TokenListed['tokens'];

export function Tokens({ url }: { url: string }) {
  const { ws, isConnected, error, createToken } = useNeuroGraphWebSocket(url);
  const { subscribed, gap } = useWebSocketSubscription(ws, 'tokens');
  const [rows, setRows] = useState<Rows>([]);

  // Once the topic is followed, and after each hole in it: list what there is, then go on with what comes.
  // biome-ignore lint/correctness/useExhaustiveDependencies: another gap is another list.
  useEffect(() => {
    if (!subscribed) return;
    let early: EventEnvelope<'tokens'>[] | null = [];
    const off = ws.on('*', (message) => {
      if (message.topic !== 'tokens') return;
      const event = message as EventEnvelope<'tokens'>;
      if (early) early.push(event);
      else setRows((before) => apply(before, event));
    });
    const list = async () => {
      const { tokens, position } = await ws.listTokens({ limit: 100 });
      const late = (early ?? []).filter(({ seq = 0 }) => seq > position.seq);
      early = null;
      setRows(late.reduce(apply, tokens));
    };
    list().catch(console.warn);
    return off;
  }, [ws, subscribed, gap]);

  return (
    <section>
      <p role="status">{isConnected ? `${rows.length} tokens` : (error?.message ?? 'connecting')}</p>
      <button type="button" onClick={() => createToken({ type: 'demo' })}>
        Create
      </button>
      <ul>
        {rows.map((row) => (
          <li key={row.token_id}>{row.type}</li>
        ))}
      </ul>
    </section>
  );
}

function apply(rows: Rows, { type, payload }: EventEnvelope<'tokens'>): Rows {
  const others = rows.filter((row) => row.token_id !== payload.token_id);
  if (type === 'token.created') return [payload, ...others];
  if (type === 'token.updated') return rows.map((row) => (row.token_id === payload.token_id ? payload : row));
  return others;
}
