/** The greeting `connection.established` (protocol.md section 1), checked. No I/O. */

import { check, type Envelope, isObject, Nonsense } from './envelope.js';
import { type ConnectionEstablished, PROTOCOL_VERSION } from './protocol.js';

/** What a connection's first message says. Throws Nonsense: the server's fault, or it is another protocol's. */
export function readGreeting({ type, payload }: Envelope): ConnectionEstablished {
  check(type === 'connection.established', `'${type}' as the first message`);
  const { server, limits, heartbeat, connection_id: connectionId, client_id: clientId } = payload;
  check(isObject(server) && isObject(limits) && isObject(heartbeat), type);
  const numbers = [limits.message_bytes, limits.in_flight, heartbeat.interval_ms, heartbeat.timeout_ms];
  check(typeof connectionId === 'string' && typeof clientId === 'string', type);
  check(
    numbers.every((value) => typeof value === 'number'),
    type,
  );
  const { protocol } = server;
  if (protocol !== PROTOCOL_VERSION) {
    throw new Nonsense(`the server speaks protocol ${String(protocol)}, this client ${PROTOCOL_VERSION}`);
  }
  return payload as unknown as ConnectionEstablished;
}
