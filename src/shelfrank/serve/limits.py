"""Checks of a request before it is read: its host, its API key, its size, its time, and whether it fits."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shelfrank.serve.admission import ARRIVED_S
from shelfrank.serve.metrics import Metrics

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Paths that need no key, for health checks."""
GUARDED = ("/v1/", "/openapi.json")
"""Starts of paths that need a key although they are no route; every other route does too."""
SECURITY_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
"""Headers that keep a browser from running anything that the service did not send."""
BODY_SECONDS = 10.0
"""Time in which a body must arrive."""
MAX_BODIES_BYTES = 64_000_000
"""Bytes of all bodies that a process holds at a time."""
RANKING = ("/rank", "/rerank")
"""Ends of the paths that rank pages."""
WRITING = frozenset({"/v1/events", "/v1/admin/reload", "/v1/shop/actions"})
"""Paths that change something, which a page of another site must not be able to."""
ARRIVED = "arrived_s"
"""Key of a request's state: when its head arrived, by the monotonic clock."""
ADMITTED = "is_admitted"
"""Key of a request's state: whether it was decided already that a page is not refused."""
RETRY_AFTER = "1"


def is_loopback(host: str) -> bool:
    """Checks whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Keys:
    """API keys, compared in constant time.

    Args:
        keys: The accepted keys; without any, every request is accepted.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        # Digests have one length, so that the time of a comparison does not depend on that of a key.
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, given: bytes | None) -> bool:
        """Checks whether a given key is one of them."""
        if not self._digests:
            return True
        digest = hashlib.sha256(given or b"").digest()
        # Every key is compared, also after a match.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused unread.

    Attributes:
        status: The status of the response.
        reason: The reason, as the metrics count it.
        detail: What must hold.
    """

    status: int
    reason: str
    detail: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to the status."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": RETRY_AFTER} if self.status == 503 else {}


OVERLOADED = Refusal(
    503,
    "overload",
    "the service has more requests than it can answer in time; send this one again later, or use another one",
)


class Guard:
    """Refuses requests that should not be read or cannot be answered, and counts every response.

    Args:
        app: The app behind it.
        keys: The accepted keys.
        max_bytes: Maximum size of a body.
        metrics: The counters.
        routes: Paths that are counted by name; others are counted together.
        hosts: Names in the `Host` header that are served, without ports; None serves every name.
        refuses_page: Decides by the time of arrival whether a page to rank is refused unread, and counts it then.
        forget_page: Called for a page that `refuses_page` did not refuse before, but that is refused nevertheless.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        max_bytes: int,
        metrics: Metrics,
        routes: frozenset[str] = frozenset(),
        hosts: frozenset[str] | None = None,
        refuses_page: Callable[[float], bool] = lambda _: False,
        forget_page: Callable[[], None] = lambda: None,
    ) -> None:
        self.app, self.keys, self.max_bytes, self.metrics, self.routes = app, keys, max_bytes, metrics, routes
        self.hosts, self._refuses_page, self._forget_page = hosts, refuses_page, forget_page
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        route = path if path in self.routes else "other"
        is_page = scope["method"] == "POST" and route.endswith(RANKING)
        state = scope.get("state", {})
        arrived_s = state.get(ARRIVED, time.monotonic())
        ARRIVED_S.set(arrived_s)
        body = _Body(self, receive)
        status = 500

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
            await send(message)

        self.metrics.in_flight.inc()
        try:
            refusal = self._refusal(scope, route)
            if refusal is not None:
                self.metrics.rejected.labels(refusal.reason).inc()
                if state.get(ADMITTED):
                    # Else pages that come without the key would take the time of others.
                    self._forget_page()
            elif is_page and not state.get(ADMITTED) and self._refuses_page(arrived_s):
                refusal = OVERLOADED
            if refusal is not None:
                await _answer(counting, refusal)
            else:
                await self.app(scope, body.receive, counting)
        finally:
            self._held_bytes -= body.n_bytes
            self.metrics.in_flight.dec()
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def holds(self, n_bytes: int) -> bool:
        """Takes in bytes of a body; returns whether all bodies together are still small enough."""
        self._held_bytes += n_bytes
        return self._held_bytes <= max(MAX_BODIES_BYTES, self.max_bytes)

    def _refusal(self, scope: Scope, route: str) -> Refusal | None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if path in OPEN_PATHS:
            return None
        # Of several, a proxy in front may have read another one.
        given = {host_name(value) for name, value in scope["headers"] if name == b"host"} or {""}
        if self.hosts is not None and not given <= self.hosts:
            return Refusal(
                421,
                "host",
                f"Host must be {', '.join(sorted(self.hosts))}: a service without an API key answers no other name, "
                "which a web page could have pointed here; call it by one of these, start it with --allowed-host, or "
                "set an API key",
            )
        if (route in self.routes or path.startswith(GUARDED)) and not self.keys.accept(_given_key(headers)):
            return Refusal(401, "key", "an API key must be given, as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        if route in WRITING and scope["method"] == "POST" and not is_json(headers.get(b"content-type", b"")):
            # A form of another site can send anything but this without the browser asking first.
            return Refusal(415, "content_type", "Content-Type must be application/json")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return Refusal(400, "content_length", "Content-Length must be a number")
        if int(length[:20]) > self.max_bytes:
            return self.too_large()
        return None

    def too_large(self) -> Refusal:
        """The refusal of a body."""
        return Refusal(413, "body_bytes", f"a body must have at most {self.max_bytes} bytes")


class _Body:
    """A request's body as it arrives: bounded in size and time, alone and with all others.

    Args:
        guard: The bounds.
        receive: Receives the next part.
    """

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.n_bytes = 0
        self._guard, self._receive = guard, receive
        self._due_s, self._is_complete = time.monotonic() + BODY_SECONDS, False

    async def receive(self) -> Message:
        """Receives the next part."""
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(self._due_s - time.monotonic(), 0.001)):
                message = await self._receive()
        except TimeoutError:
            self._refuse(Refusal(408, "body_time", f"a body must arrive within {BODY_SECONDS:g} seconds"))
        if message["type"] != "http.request":
            return message
        n_bytes = len(message.get("body", b""))
        self.n_bytes += n_bytes
        self._is_complete = not message.get("more_body", False)
        if not self._guard.holds(n_bytes):
            self._refuse(Refusal(503, "bodies", OVERLOADED.detail))
        if self.n_bytes > self._guard.max_bytes:
            self._refuse(self._guard.too_large())
        return message

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._guard.metrics.rejected.labels(refusal.reason).inc()
        raise HTTPException(refusal.status, refusal.detail, refusal.headers)


def host_name(host: bytes) -> str:
    """Reads the name in a `Host` header, without its port.

    Args:
        host: The header.

    Returns:
        The name in lower case.

    Example:
        >>> host_name(b"LocalHost:8000"), host_name(b"[::1]:8000")
        ('localhost', '[::1]')
    """
    name = host.decode("latin-1").strip().lower()
    before, colon, port = name.rpartition(":")
    return before.rstrip(".") if colon and port.isdigit() else name.rstrip(".")


def served_hosts(host: str, allowed: Sequence[str]) -> frozenset[str]:
    """Lists the names by which a service on a loopback address may be called.

    Args:
        host: The address that is bound.
        allowed: Further names.

    Returns:
        The names, as they stand in a `Host` header without a port.
    """
    names = ("localhost", "127.0.0.1", "::1", host, *allowed)
    return frozenset(f"[{name}]" if ":" in name else name.lower() for name in names)


def _given_key(headers: dict[bytes, bytes]) -> bytes | None:
    bearer = headers.get(b"authorization", b"")
    kind, _, key = bearer.partition(b" ")
    if kind.lower() == b"bearer" and key:
        return key.strip()
    return headers.get(b"x-api-key")


def is_json(content_type: bytes) -> bool:
    """Checks whether a `Content-Type` header declares JSON."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
