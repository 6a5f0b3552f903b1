"""One suite for all clients of ngos: what must be alike in each of them, tried through *actors*.

An actor is a program that holds clients of its language and does with them what the suite says. It reads one JSON
object a line on its standard input (orders) and writes one a line on its standard output (reports); whatever else it
has to say goes to standard error. It ends when its input ends. Many clients live in one actor at once. Orders are
begun in the order they come and go on beside each other: one that waits holds up no other. One process per kind of
actor serves the whole session of tests. `tests.conformance.actors` says how each is started.

The first report, when orders can be taken; `tells_refusals` is whether this platform tells the client of a refused
handshake's status and headers, which browsers keep to themselves:

    {"ready": {"client": "trio", "version": "0.1.0", "tells_refusals": true}}

An order, and its one answer; `n` is unique, `client` is the name of a client in this actor:

    {"n": 7, "do": OP, "client": "a", …}
    {"n": 7, "ok": VALUE}    or    {"n": 7, "error": {"kind": KIND, "message": "…", …}}

KIND, and what comes with it:

| kind | fields |
|---|---|
| ConnectFailed | `status`: the HTTP status, or null |
| ConnectionLost | `code` |
| CommandError | `code`, `retryable`, `details`, `retry_after_s`: or null |
| NotFound | `token_id` |
| RequestTimeout, RequestTooBig, QueueFull | |
| GapError | `topic`, `seq`, `epoch`, `now`: `{epoch, seq}` or null |
| BadArgument | what the language raises for an argument that can't be |
| NotHere | this actor does not have it; the suite skips |

OP:

- `connect {url, client_id?, token?, tokens?, reconnect? (true), dice? (0.0), request_s? (30), connect_s? (10),
  queue_bytes?}` → `{connection_id, client_id}`. `dice` is the fraction of the longest wait that this client's backoff
  draws: 0.0 comes back at once, 1.0 waits the longest. With `wait: false`, `{}` at once. `tokens` makes the token a
  function that returns one of them after the other when it is asked, and the last for ever; each time it reports
  `asked`.
- `disconnect {}` → `{}`: the client is over.
- `state {}` → `"connected"`, `"reconnecting"` or `"ended"`.
- `request {type, payload?, id?}` → the reply's whole envelope.
- `call {method, args}` → what the typed method returns, as JSON in the wire's shape (protocol.md section 3); null for
  none. `method` and `args` have the names of `ngos.client.api`. `ping` returns seconds.
- `subscribe {sub, topic, since?, epoch?}` → `{durable, epoch, seq, recovered, replay}`.
- `unsubscribe {sub}` → `{}`.
- `read {sub, hold}` → `{}`: while held, the actor does not read this subscription.

Reports that nobody asked for:

    {"client": "a", "sub": "s", "event": {type, topic, seq, epoch, sender_id, payload}}
    {"client": "a", "sub": "s", "ended": {"kind": …}}
    {"client": "a", "callback": "connected", "connection_id": "…"}
    {"client": "a", "callback": "disconnected", "code": 1006, "next_s": 0.0}    null: it will not come back
    {"client": "a", "callback": "resumed", "topic": "tokens", "replay": 12}     per durable topic, after a break
    {"client": "a", "callback": "asked"}
    {"client": "a", "callback": "gap", "topic": "tokens", "seq": 5, "epoch": "…", "now": {"epoch": "…", "seq": 9}}

A client that is told to disconnect need not report `disconnected`. After a gap a subscription may end, or go on with
what is live; what counts is that no event after the hole comes before the gap was told. Where the platforms differ
(browsers set no headers, see no HTTP status, and close with 1000 or 3000 to 4999 alone) a scenario says who it is for.

    .venv/bin/python -m pytest tests/conformance      the suite
    .venv/bin/python -m tests.conformance             the same, as a table: scenario by actor
"""
