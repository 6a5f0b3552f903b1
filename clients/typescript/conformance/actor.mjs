/**
 * The actor of the conformance suite, all but its pipes: orders in, reports out. The same code in Node and in a page, so
 * it imports nothing; `tests/conformance` says what the orders mean.
 */

const EVENT = ['type', 'topic', 'seq', 'epoch', 'sender_id', 'payload'];
const OPENING = ['durable', 'epoch', 'seq', 'recovered', 'replay'];

/** The typed methods by the names that Python has for them, with arguments by Python's names. */
const METHODS = {
  create_token: (ws, fields) => ws.createToken(fields),
  get_token: (ws, { token_id }) => ws.getToken(token_id),
  list_tokens: (ws, options) => ws.listTokens(options),
  update_token: (ws, { token_id, ...fields }) => ws.updateToken(token_id, fields),
  delete_token: (ws, { token_id }) => ws.deleteToken(token_id),
  connect_tokens: (ws, { source_id, target_id, ...options }) => ws.connectTokens(source_id, target_id, options),
  disconnect_tokens: (ws, options) => ws.disconnectTokens(options),
  neighbors: (ws, { token_id, ...options }) => ws.getNeighbors(token_id, options),
  degree: (ws, { token_id }) => ws.getDegree(token_id),
  path: (ws, { source_id, target_id, ...options }) => ws.findPath(source_id, target_id, options),
  record_experience: (ws, { event_type, ...fields }) => ws.recordExperience(event_type, fields),
  list_experiences: (ws, options) => ws.listExperiences(options),
  publish: (ws, { topic, type, payload }) => ws.publish(topic, type, payload),
  authenticate: (ws, { token }) => ws.authenticate(token),
  ping: async (ws) => (await ws.ping()) / 1000,
};

/** Returns what takes one order, a line of JSON; `report` takes each report, an object. */
export function createActor(createWebSocket, report) {
  const clients = new Map();

  const orders = {
    async connect({ client, url, wait = true, dice = 0, ...options }) {
      const ws = createWebSocket(
        defined({
          url,
          clientId: options.client_id,
          token: options.tokens ? asked(client, options.tokens) : options.token,
          reconnect: options.reconnect,
          requestTimeoutMs: milliseconds(options.request_s),
          connectTimeoutMs: milliseconds(options.connect_s),
          queueBytes: options.queue_bytes,
          random: () => dice,
        }),
      );
      clients.set(client, { ws, subscriptions: new Map() });
      tell(client, ws);
      if (!wait) {
        ws.connect({ retry: true });
        return {};
      }
      const greeting = await ws.connect({ retry: false });
      return { connection_id: greeting.connection_id, client_id: greeting.client_id };
    },

    async disconnect({ client }) {
      await the(client).ws.disconnect();
      clients.delete(client);
      return {};
    },

    state({ client }) {
      const { state } = the(client).ws;
      return state === 'connected' || state === 'ended' ? state : 'reconnecting';
    },

    request({ client, type, payload, id }) {
      return the(client).ws.request(type, payload ?? {}, defined({ id }));
    },

    call({ client, method, args }) {
      return METHODS[method](the(client).ws, args);
    },

    async subscribe({ client, sub, topic, since, epoch }) {
      const { ws, subscriptions } = the(client);
      const events = ws.events(topic, defined({ since, epoch }));
      const followed = { events, released: Promise.resolve(), release: () => {} };
      subscriptions.set(sub, followed);
      const opening = await events.opened();
      // After the answer to this order.
      setTimeout(() => follow(client, sub, followed));
      return picked(opening, OPENING);
    },

    async unsubscribe({ client, sub }) {
      await the(client).subscriptions.get(sub).events.return();
      return {};
    },

    read({ client, sub, hold }) {
      const followed = the(client).subscriptions.get(sub);
      followed.release();
      if (hold) {
        followed.released = new Promise((resolve) => {
          followed.release = resolve;
        });
      }
      return {};
    },
  };

  function the(name) {
    const held = clients.get(name);
    if (held === undefined) throw new Error(`no client ${name}`);
    return held;
  }

  function tell(client, ws) {
    const callback = (name, fields) => report({ client, callback: name, ...fields });
    ws.onEvent('connected', ({ connection_id }) => callback('connected', { connection_id }));
    ws.onEvent('disconnected', ({ code, nextMs }) =>
      callback('disconnected', { code, next_s: nextMs === null ? null : nextMs / 1000 }),
    );
    ws.onEvent('resumed', (resumed) => callback('resumed', resumed));
    ws.onEvent('gap', (gap) => callback('gap', gap));
  }

  /** A function that has one token after the other, and the last for ever. */
  function asked(client, tokens) {
    return async () => {
      report({ client, callback: 'asked' });
      return tokens.length > 1 ? tokens.shift() : tokens[0];
    };
  }

  async function follow(client, sub, followed) {
    try {
      while (true) {
        await followed.released;
        const { done, value } = await followed.events.next();
        if (done) return;
        report({ client, sub, event: picked(value, EVENT) });
      }
    } catch (error) {
      report({ client, sub, ended: described(error) });
    }
  }

  return async (line) => {
    const order = JSON.parse(line);
    try {
      report({ n: order.n, ok: (await orders[order.do](order)) ?? null });
    } catch (error) {
      report({ n: order.n, error: described(error) });
    }
  };
}

const FIELDS = {
  ConnectFailed: ({ status }) => ({ status }),
  ConnectionLost: ({ code }) => ({ code }),
  CommandError: ({ code, retryable, details, retryAfterMs }) => ({
    code,
    retryable,
    details,
    retry_after_s: retryAfterMs === null ? null : retryAfterMs / 1000,
  }),
  NotFound: ({ tokenId }) => ({ token_id: tokenId }),
  GapError: ({ topic, seq, epoch, now }) => ({ topic, seq, epoch, now }),
};

function described(error) {
  const bad = error instanceof TypeError || error instanceof RangeError;
  return { kind: bad ? 'BadArgument' : error.name, message: error.message, ...FIELDS[error.name]?.(error) };
}

/** Without what is null or missing: the defaults. */
function defined(options) {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value != null));
}

function milliseconds(seconds) {
  return seconds == null ? undefined : seconds * 1000;
}

function picked(from, names) {
  return Object.fromEntries(names.map((name) => [name, from[name] ?? null]));
}
