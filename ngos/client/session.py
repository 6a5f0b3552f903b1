"""The client's side of the protocol without I/O: messages in, messages out, and who waits for which reply.

Never waits, never reads a clock, knows no event loop: the shells (`ngos.client.trio`) do. It outlives connections:
a shell brings it one after another and asks it, each time one ends, whether and when to bring the next. Feeding it
what the server sends never raises; a failure is a state that everyone who waits hears of. May import the rest of this
package except the shells, and the protocol.

A shell's duties, for each connection: `receive` each message, send what `take_output` returns whenever `on_output`
was called, end the connection when there is a `verdict`, then call `disconnected`; or `refused`, where there came to
be none. Both return the seconds to wait before the next, or None: no more. After each of these, `tell`: what the
program is to hear waits until nothing here is half done.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final

from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import CommandError, ConnectFailed, ConnectionLost, GapError, RequestTooBig, SessionError
from ngos.client.feed import Feed
from ngos.client.proof import Proof
from ngos.client.requests import QUEUE_BYTES, Outcome, Requests
from ngos.client.topics import Topics
from ngos.protocol import PROTOCOL_VERSION
from ngos.protocol.close import CloseCode
from ngos.protocol.codec import Envelope, MessageError, parse, structure
from ngos.protocol.commands import Authenticate, Command
from ngos.protocol.messages import (
    Authenticated,
    ConnectionEstablished,
    ErrorReply,
    SystemDraining,
)
from ngos.protocol.rules import INT64_MAX

GOOD_S: Final = 5.0
"""A connection that lasted so long proved good, if nothing else did."""
PAUSE_S: Final = 1.0
"""The least wait after 4429, "too many messages for too long"."""
LONGEST_WISH_S: Final = 300.0
"""Of what a server asks a client to wait, no more than this is obeyed: a slip there must not end clients here."""

_WORTH_ANOTHER_TRY: Final = frozenset({408, 425, 429})
_EPOCH: Final = re.compile("[0-9a-f]{8}")
_CODES: Final = {401: CloseCode.UNAUTHENTICATED, 403: CloseCode.FORBIDDEN}


class State(Enum):
    """Whether a client has a connection: it has; it has not, and seeks one; it never will again."""

    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Session:
    """A client's state, over all its connections.

    `reconnect` is whether the first connection may have a successor; `queue_bytes` bounds the commands that have no
    reply; `callbacks` are the program's, called by `tell`. `on_output` is called when there is something to
    send, `on_state` when `state` has changed; both must not call back.
    """

    def __init__(
        self,
        *,
        proof: Proof | None = None,
        reconnect: bool = True,
        backoff: Backoff | None = None,
        queue_bytes: int = QUEUE_BYTES,
        callbacks: Callbacks | None = None,
        on_output: Callable[[], object] = lambda: None,
        on_state: Callable[[], object] = lambda: None,
    ) -> None:
        self.state = State.RECONNECTING
        self.established: ConnectionEstablished | None = None
        """The latest connection's greeting."""
        self.verdict: ConnectionLost | None = None
        """Why the connection that is there is to be ended from this side."""
        self.ended: ConnectionLost | None = None
        """Why there will be no connection any more."""
        self.proof = proof or Proof()
        """Who this client says that it is."""
        self._reconnect = reconnect
        self._backoff = backoff or Backoff()
        self._on_output = on_output
        self._on_state = on_state
        self._callbacks = callbacks or Callbacks()
        self._calls: deque[Callable[[], object]] = deque()
        self._requests = Requests(queue_bytes)
        self._topics = Topics(
            self._requests,
            on_output=on_output,
            on_refused=self._refused,
            on_resumed=self._resumed,
            on_gap=self._gap,
            reconnect=reconnect,
        )
        self._proved_good = False
        self._wish_s = 0.0

    # Requests

    def request(
        self,
        command: Command | str,
        payload: dict[str, Any] | None,
        on_done: Callable[[Outcome], None],
        *,
        id_: str | None = None,
    ) -> str:
        """Queue a command and return its id; `on_done` is called once with what it comes to.

        It is sent when there is a connection and its turn has come, and again, under the same id, on the next
        connection where one breaks before the reply.

        Raises ConnectionLost; RequestTooBig, QueueFull, ValueError (no server takes such an id, or it waits for a reply
        already) and TypeError (a value that JSON does not have, or a boolean in a number's place), which are the
        caller's fault. Then nothing was queued.
        """
        if self.ended is not None:
            raise self.ended.again()
        # The server could not say which command its error is about, and who asked would wait in vain.
        if id_ is not None and not (1 <= len(id_) <= 128 and "\0" not in id_):
            raise ValueError(f"not an id, which has 1 to 128 characters and no NUL: {id_[:140]!r}")
        if (command if isinstance(command, str) else command.TYPE) == Authenticate.TYPE:
            token = command.token if isinstance(command, Authenticate) else (payload or {}).get("token")
            on_done = self._remembering(token, on_done)
        id_ = self._requests.add(command, payload, on_done, id_=id_)
        self._on_output()
        return id_

    def forget(self, id_: str) -> None:
        """Nobody waits for this reply any more. What was not taken yet is never sent."""
        self._requests.forget(id_)
        self._on_output()  # there may be room on the wire now

    # Subscriptions

    def attach(self, feed: Feed) -> None:
        """Let a feed follow its topic from its position, or all broadcasts if that is None.

        `feed.opening` is set, or the feed ended, later; without a connection, when there is one again. Raises
        ConnectionLost, and ValueError for what can't be a position, or text: the caller's fault.
        """
        if self.ended is not None:
            raise self.ended.again()
        start = feed.position
        # The server would refuse it, and with it the others of this topic that are asked for together.
        known = start is None or start.epoch is None or _EPOCH.fullmatch(start.epoch)
        if start is not None and not (known and 0 <= start.seq <= INT64_MAX):
            raise ValueError(f"not a position: since {start.seq}, epoch {start.epoch!r}")
        (feed.topic or "").encode()  # it raises ValueError for what is no text
        self._topics.attach(feed)

    def detach(self, feed: Feed) -> None:
        """Stop a feed. The last one of a topic queues `unsubscribe`, whose reply nobody waits for."""
        self._topics.detach(feed)

    # Connections

    def prove(self, token: str | None) -> bool:
        """Show this token to the next connection. False: it was refused already, and the session has ended."""
        if self.ended is None and not self.proof.show(token):
            self.end(ConnectionLost(CloseCode.UNAUTHENTICATED, "the token was refused, and there is no other"))
        return self.ended is None

    def receive(self, data: str | bytes) -> None:
        """Take one message from the server, bytes where it is a binary one; a connection's first is its greeting.

        Never raises: what can't be read is a verdict, 1002, and ends the session.
        """
        if self.ended is not None or self.verdict is not None:
            return
        try:
            if isinstance(data, bytes):
                raise MessageError("a binary message")
            envelope = parse(data)
            if self.state is State.RECONNECTING:
                self._greet(envelope)
            elif envelope.reply_to is not None:
                self._proved_good |= self._requests.answer(envelope)
            elif envelope.topic is not None or envelope.type != ErrorReply.TYPE:
                self._proved_good = True
                if envelope.type == SystemDraining.TYPE and envelope.topic == SystemDraining.TOPIC:
                    self._wish(structure(envelope.payload, SystemDraining).reconnect_after_ms / 1000)
                self._topics.deliver(envelope, len(data))
        except MessageError as exc:
            self.end_connection(ConnectionLost(CloseCode.PROTOCOL_ERROR, str(exc)))
        self._on_output()

    def take_output(self) -> str | None:
        """Return the next message to send, in the order of the calls that caused them, or None: nothing for now."""
        return self._requests.take() if self.has_output() else None

    def has_output(self) -> bool:
        """Whether `take_output` would return a message now."""
        return self.state is State.CONNECTED and self.verdict is None and self._requests.has_output

    @property
    def goodbye(self) -> CloseCode | None:
        """The code to close the connection with that is there; None where nobody is left to hear it."""
        if self.verdict is not None and self.verdict.code == CloseCode.NO_SIGN_OF_LIFE:
            return None
        wrong = self.verdict is not None and self.verdict.code == CloseCode.PROTOCOL_ERROR
        return CloseCode.PROTOCOL_ERROR if wrong else CloseCode.NORMAL

    def end_connection(self, error: ConnectionLost) -> None:
        """Set the verdict, if there is none: the shell is to end this connection. `disconnected` comes after it."""
        if self.verdict is None:
            self.verdict = error
        if not self._may_return(error):
            self.end(error)

    def disconnected(self, error: ConnectionLost, up_s: float = 0.0) -> float | None:
        """The connection is over, `up_s` seconds after its greeting; an earlier verdict is the reason, else `error`.

        Returns the seconds to wait before the next, or None: the session has ended.
        """
        if self.ended is not None:
            return None
        reason, self.verdict = self.verdict or error, None
        self._heed(reason)
        if not self._may_return(reason):
            self.end(reason)
            return None
        if self._proved_good or up_s >= GOOD_S:
            self._backoff.reset()
        self._proved_good = False
        self._requests.disconnect()
        self._topics.disconnect()
        self._change(State.RECONNECTING)
        if reason.code == CloseCode.TOO_MANY_MESSAGES:
            self._wish(PAUSE_S)
        return self._next_s(reason)

    def refused(self, error: ConnectFailed) -> float | None:
        """There came to be no connection. Returns the seconds to wait before the next try, or None: no more."""
        if self.ended is not None:
            return None
        lost = error.lost
        if error.status is not None and error.status < 500 and error.status not in _WORTH_ANOTHER_TRY:
            lost = ConnectionLost(_CODES.get(error.status, CloseCode.POLICY), str(error))
        if lost is not None:
            self._heed(lost)
        if lost is not None and not self._may_return(lost):
            self.end(lost)
            return None
        self._wish(error.retry_after_s or 0.0)
        return self._next_s(error)

    def end(self, error: ConnectionLost) -> None:
        """No more connections: everyone who waits hears `error`. The first end counts."""
        if self.ended is not None:
            return
        self.ended = error
        self._requests.fail(error)
        self._topics.end(error)
        self._change(State.ENDED)
        if self.established is not None:
            self._call(self._callbacks.disconnected, error, None)

    def leave(self) -> None:
        """The program leaves: as `end`, and it hears no more, for it knows."""
        self._calls.clear()
        self.end(ConnectionLost(CloseCode.NORMAL, "closed by this client"))
        self._calls.clear()

    def tell(self) -> None:
        """Call the program's callbacks for what has happened since. Raises what one raises; then `leave`."""
        while self._calls:
            self._calls.popleft()()

    # Inside

    def _greet(self, envelope: Envelope) -> None:
        if envelope.type != ConnectionEstablished.TYPE:
            raise MessageError(f"the first message is {envelope.type!r}, not {ConnectionEstablished.TYPE!r}")
        established = structure(envelope.payload, ConnectionEstablished)
        if established.server.protocol != PROTOCOL_VERSION:
            spoken = established.server.protocol
            raise MessageError(f"the server speaks protocol {spoken}, this client {PROTOCOL_VERSION}")
        self.established = established
        self._wish_s = 0.0
        self._change(State.CONNECTED)
        self._call(self._callbacks.connected, established)
        # In this order: who we are, or the ids that follow would be another's; then the subscriptions, or what our
        # commands cause would be missed on ephemeral topics; then the commands.
        again = self._requests.connect(established.limits)
        if (token := self.proof.in_band) is not None:
            try:
                self._requests.add(Authenticate(token=token), None, self._proven, ours=True)
            except RequestTooBig as exc:
                self.end_connection(ConnectionLost(CloseCode.MESSAGE_TOO_BIG, str(exc)))
                return
        self._topics.connect()
        self._requests.resend(again)

    def _refused(self, error: SessionError) -> None:
        """Subscriptions that were followed can't go on here, which is not yet for their consumers to hear."""
        if isinstance(error, CommandError):
            self._wish(error.retry_after_s or 0.0)
        self.end_connection(ConnectionLost(CloseCode.TRY_AGAIN_LATER, str(error)))

    def _remembering(self, token: object, on_done: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Keep a proof that was accepted: later connections are nobody's until they have shown it too."""

        def done(outcome: Outcome) -> None:
            if isinstance(token, str) and isinstance(outcome, Envelope) and outcome.type == Authenticated.TYPE:
                self.proof.accept(token)
            on_done(outcome)

        return done

    def _proven(self, outcome: Outcome) -> None:
        if isinstance(outcome, CommandError):
            code = CloseCode.TRY_AGAIN_LATER if outcome.retryable else CloseCode.UNAUTHENTICATED
            self._wish(outcome.retry_after_s or 0.0)
            self.end_connection(ConnectionLost(code, str(outcome)))

    def _may_return(self, error: ConnectionLost) -> bool:
        # 4401 wants another token, which only the program could have.
        renewable = self.proof.renewable or error.code != CloseCode.UNAUTHENTICATED
        return self._reconnect and error.may_reconnect and renewable

    def _heed(self, error: ConnectionLost) -> None:
        if error.code == CloseCode.UNAUTHENTICATED:
            self.proof.refuse()

    def _wish(self, seconds: float) -> None:
        self._wish_s = max(self._wish_s, min(seconds, LONGEST_WISH_S))

    def _next_s(self, error: ConnectionLost | ConnectFailed) -> float:
        wish_s, self._wish_s = self._wish_s, 0.0
        next_s = self._backoff.next_s(at_least_s=wish_s)
        self._call(self._callbacks.disconnected, error, next_s)
        return next_s

    def _resumed(self, topic: str, replay: int) -> None:
        self._call(self._callbacks.resumed, topic, replay)

    def _gap(self, error: GapError) -> None:
        self._call(self._callbacks.gap, error)

    def _call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is not None:
            self._calls.append(partial(callback, *arguments))

    def _change(self, state: State) -> None:
        self.state = state
        self._on_state()
