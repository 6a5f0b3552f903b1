// biome-ignore-all lint: a user's program as they wrote it, import paths aside.
// biome-ignore-all format: see above.
import { useEffect, useState } from 'react';
import { useNeuroGraphWebSocket, useWebSocketMessage } from '../../src/react/index.ts';

export function TokenMonitor() {
  const [tokens, setTokens] = useState([]);
  const { isConnected, subscribe, listTokens, ws } = useNeuroGraphWebSocket('ws://localhost:8000/ws');
  useEffect(() => { if (isConnected) { subscribe('tokens'); } }, [isConnected]);
  useWebSocketMessage(ws, 'token.created', (msg) => {
    console.log('Token created:', msg.payload);
    listTokens(); // Refresh list
  });
  useWebSocketMessage(ws, 'token.list', (msg) => { setTokens(msg.payload.tokens); });
  return (
    <div>
      <h2>Token Monitor {isConnected ? '🟢' : '🔴'}</h2>
      <button onClick={() => listTokens()}>Refresh</button>
      <ul>{tokens.map(token => (<li key={token.token_id}>{token.type} - {token.weight}</li>))}</ul>
    </div>
  );
}
