"""Checks of a request before it is read: its size, its API key, its time."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shelfrank.serve.metrics import Metrics

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Paths that need no key, for health checks."""
GUARDED = ("/v1/", "/metrics", "/openapi.json")
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


class Guard:
    """Refuses requests without a key or with too large a body, and counts every response.

    Args:
        app: The app behind it.
        keys: The accepted keys.
        max_bytes: Maximum size of a body.
        metrics: The counters.
        routes: Paths that are counted by name; others are counted together.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, max_bytes: int, metrics: Metrics, routes: frozenset[str] = frozenset()
    ) -> None:
        self.app, self.keys, self.max_bytes, self.metrics, self.routes = app, keys, max_bytes, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        route = path if path in self.routes else "other"
        status = 500

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
            await send(message)

        try:
            refused = self._refusal(scope)
            if refused:
                await _answer(counting, *refused)
            else:
                await self.app(scope, self._limited(receive), counting)
        finally:
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if path not in OPEN_PATHS and path.startswith(GUARDED) and not self.keys.accept(_given_key(headers)):
            return 401, "an API key must be given, as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return 400, "Content-Length must be a number"
        if int(length[:20]) > self.max_bytes:
            return 413, self._too_large()
        return None

    def _too_large(self) -> str:
        return f"a body must have at most {self.max_bytes} bytes"

    def _limited(self, receive: Receive) -> Receive:
        n_bytes = 0
        complete = False
        deadline = time.monotonic() + BODY_SECONDS

        async def limited() -> Message:
            nonlocal n_bytes, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.001))
            except TimeoutError as error:
                raise HTTPException(408, f"a body must arrive within {BODY_SECONDS:g} seconds") from error
            if message["type"] == "http.request":
                n_bytes += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if n_bytes > self.max_bytes:
                    raise HTTPException(413, self._too_large())
            return message

        return limited


def _given_key(headers: dict[bytes, bytes]) -> bytes | None:
    bearer = headers.get(b"authorization", b"")
    kind, _, key = bearer.partition(b" ")
    if kind.lower() == b"bearer" and key:
        return key.strip()
    return headers.get(b"x-api-key")


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
