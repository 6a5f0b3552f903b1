"""What a request may do: its token where tokens are asked for, else where it comes from.

Routes ask here first. What is decided from a request alone, without a token, is in `guard`.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen
from werkzeug.datastructures import Headers

from ngos.auth.grants import Family, Identity
from ngos.gateway.access import Access
from ngos.gateway.door import Door
from ngos.protocol.faults import ClientError
from ngos.web import guard
from ngos.web.guard import Rejection

_ASK: Final = {"WWW-Authenticate": 'Bearer realm="ngos"'}
_INVALID: Final = {"WWW-Authenticate": 'Bearer realm="ngos", error="invalid_token"'}


@frozen(eq=False)
class Gate:
    """Who is let through to what. Every method raises Rejection: 401 with WWW-Authenticate, 403, or 429."""

    _access: Access
    _door: Door

    def count(self, request: Any) -> None:
        """Count a request over HTTP against its address."""
        if not self._door.may_request(self.address_of(request)):
            raise Rejection(429, "too many requests from this address: wait", {"Connection": "close"})

    def address_of(self, request: Any) -> str:
        """Where a request comes from, behind the proxies that the settings name."""
        return self._door.client_of(request.remote_addr or "", ",".join(request.headers.getlist("X-Forwarded-For")))

    def let_in(self, websocket: Any) -> tuple[str, bool]:
        """Where a WebSocket comes from, and whether by such a proxy: then it is only here that its address counts."""
        address = self.address_of(websocket)
        by_proxy = self._door.is_proxy(websocket.remote_addr or "")
        if by_proxy and not self._door.has_room(address):
            raise Rejection(429, "too many connections from this address")
        return address, by_proxy

    async def identify(self, headers: Headers) -> Identity | None:
        """Whose request it is; None: it has no token, or nobody has to say who he is."""
        values = headers.getlist("Authorization")
        if self._access.verifier is None or not values:
            return None
        scheme, _, token = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer":
            raise Rejection(401, "Authorization must be Bearer, and one", _ASK)
        try:
            return await self._access.identify(token.strip(" "))
        except ClientError as exc:
            raise Rejection(401, exc.message, _INVALID) from None

    async def let_connect(self, headers: Headers) -> Identity | None:
        """For /ws: who does not show a token yet has to do so by `authenticate`."""
        identity = await self.identify(headers)
        if identity is not None:
            try:
                self._access.check_room(identity.subject)
            except ClientError as exc:
                raise Rejection(429, exc.message) from None
        return identity

    async def let_administer(self, request: Any) -> None:
        """For the routes of administrators; without tokens, those are who is on this machine."""
        if self._access.verifier is None:
            guard.check_loopback(request.headers, request.remote_addr)
        elif not (await self._proved(request.headers)).grant.may(Family.ADMIN):
            raise Rejection(403, "the token is not an administrator's")

    async def let_read(self, request: Any) -> None:
        """For what tells how the server is used."""
        if self._access.verifier is not None and not (await self._proved(request.headers)).grant.may(Family.READ):
            raise Rejection(403, "the token does not allow to read")

    async def let_publish(self, request: Any, topic: str, size_bytes: int) -> None:
        """For an event of so many bytes on a topic."""
        if self._access.verifier is None:
            return
        identity = await self._proved(request.headers)
        if not identity.grant.may_publish(topic):
            raise Rejection(403, f"the token does not allow to publish to {topic}")
        self._access.charge(identity.subject, size_bytes)

    async def _proved(self, headers: Headers) -> Identity:
        identity = await self.identify(headers)
        if identity is None:
            raise Rejection(401, "a token is needed: Authorization: Bearer", _ASK)
        return identity
