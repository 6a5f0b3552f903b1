import type { EventEnvelope, TokenListed } from '@neurograph/client';
import { useNeuroGraphWebSocket, useWebSocketSubscription } from '@neurograph/client/react';
import { useEffect, useState } from 'react';

type Rows = readonly TokenListed['tokens'][number][];

const CHANGES = ['token.created', 'token.updated', 'token.deleted'] as const;

export function Tokens({ url }: { url: string }) {
  const { ws, isConnected, error, createToken } = useNeuroGraphWebSocket(url);
  const { subscribed, gap } = useWebSocketSubscription(ws, 'tokens');
  const [rows, setRows] = useState<Rows>([]);

  // Once the topic is followed, and after each hole in it: list what there is, then go on with what comes.
  // biome-ignore lint/correctness/useExhaustiveDependencies: another gap is another list.
  useEffect(() => {
    if (!subscribed) return;
    let early: EventEnvelope<'tokens'>[] | null = [];
    const hear = (message: EventEnvelope<'tokens'>) => {
      if (message.topic === undefined) return; // the reply to a command: its event comes too
      if (early) early.push(message);
      else setRows((before) => apply(before, message));
    };
    const offs = CHANGES.map((type) => ws.on(type, hear));
    const list = async () => {
      const { tokens, position } = await ws.listTokens({ limit: 100 });
      const late = (early ?? []).filter(({ seq = 0 }) => seq > position.seq);
      early = null;
      setRows(late.reduce(apply, tokens));
    };
    list().catch(console.warn);
    return () => {
      for (const off of offs) off();
    };
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
