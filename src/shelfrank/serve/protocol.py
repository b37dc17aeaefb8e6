"""Connections: what a client may send and hold before and beside its requests.

The server bounds none of it: headers of any size, connections that send nothing, clients that never read.
"""

import asyncio
import contextlib
import json
import re
import resource
import socket
import struct
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shelfrank.serve.admission import Clock
from shelfrank.serve.limits import ADMITTED, ARRIVED, OVERLOADED, SECURITY_HEADERS
from shelfrank.serve.metrics import Metrics

MAX_HEADER_BYTES = 32_768
"""Bytes of a request's line, headers and trailers."""
SLICE_BYTES = MAX_HEADER_BYTES // 2
"""Bytes that are parsed at a time: what the parser keeps to itself is known that closely."""
HEADER_SECONDS = 10.0
"""Time in which the headers must arrive, and in which what is left of a refused request must."""
WRITE_SECONDS = 20.0
"""Time in which a client must read a response."""
MAX_UNREAD_BYTES = 64_000_000
"""Bytes of all responses that clients have not read yet."""
SPARE_DESCRIPTORS = 128
"""Descriptors of a process for anything but connections."""
SWEEP_S = 1.0
TOO_LARGE = f"the request line and headers must have at most {MAX_HEADER_BYTES} bytes"
TOO_SLOW = f"the request line and headers must arrive within {HEADER_SECONDS:g} seconds"
TOO_MANY = "the process has as many connections as it may; try again later"
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_ANSWERED: Any = SimpleNamespace(response_started=True, response_complete=True, message_event=asyncio.Event())
"""What stands for a request that was answered by its head alone."""
_LAST_DATA_RECEIVED = 52
"""Offset of `tcpi_last_data_recv` in Linux's `struct tcp_info`: milliseconds since data arrived."""
_TCP_INFO_BYTES = 56


class Connections:
    """The open connections of a process.

    Args:
        max_connections: Number of them, at most.
        metrics: The counters.
        pages: Paths of requests that rank a page.
        refuses_page: Decides by the time of arrival whether a page to rank is refused by its head alone, and counts it.
        clock: The clock.
    """

    def __init__(
        self,
        max_connections: int,
        metrics: Metrics,
        pages: frozenset[str] = frozenset(),
        refuses_page: Callable[[float], bool] = lambda _: False,
        clock: Clock = time.monotonic,
    ) -> None:
        self.max_connections, self.metrics, self.clock = max_connections, metrics, clock
        self.refuses_page, self._pages = refuses_page, {path.encode(): path for path in pages}
        self.open: dict[LimitedProtocol, None] = {}
        self.idle: dict[LimitedProtocol, None] = {}
        """Those whose next request has not arrived as far as its headers, the longest idle first."""
        self.unread: dict[LimitedProtocol, None] = {}
        """Those whose client has much to read, the oldest first."""
        self.is_leaving = False
        """Whether the process is about to end, so that no connection is kept for a further request."""
        self._swept_s = clock()

    def leave(self) -> None:
        """Ends every connection after the response to its next request, or to the one that it is at."""
        self.is_leaving = True
        for each in self.open:
            each.leave()

    def page_path(self, url: bytes) -> str | None:
        """The path of a request that ranks a page if it is posted; None for any other."""
        return self._pages.get(url.partition(b"?")[0])

    def is_refused(self, path: str, arrived_s: float) -> bool:
        """Decides whether a page is refused by its head alone, and counts it then."""
        if not self.refuses_page(arrived_s):
            return False
        self.metrics.requests.labels(path, str(OVERLOADED.status)).inc()
        self.metrics.seconds.labels(path).observe(0.0)
        return True

    def make_room(self) -> None:
        """Closes the connection that is idle for the longest, possibly the newest itself, if there are too many."""
        if len(self.open) > self.max_connections:
            # A client that sends its request at once is hardly ever the one that has been idle for the longest.
            next(iter(self.idle)).end(503, TOO_MANY, "connections")

    def bound_unread(self) -> None:
        """Closes the connections with much to read, the oldest first, until all together are within the bound."""
        unread = sum(each.unread_bytes for each in self.unread)
        for oldest in list(self.unread):
            if unread <= MAX_UNREAD_BYTES:
                return
            unread -= oldest.unread_bytes
            oldest.abort("unread_responses")

    def sweep(self) -> None:
        """Closes the connections whose time is over; called often, it looks every `SWEEP_S` seconds."""
        now_s = self.clock()
        if now_s - self._swept_s < SWEEP_S:
            return
        self._swept_s = now_s
        self.metrics.connections.set(len(self.open))
        for each in list(self.open):
            each.check(now_s)


def without_upgrade(data: bytes) -> bytes:
    r"""Renames the `Upgrade` of a request's head, which a server may ignore: the parser would drop the body.

    Java's client, for one, offers HTTP/2 with its first request.

    Args:
        data: What arrived, from the start of a head on.

    Returns:
        As many bytes.

    Example:
        >>> without_upgrade(b"POST / HTTP/1.1\r\nupgrade: h2c\r\n\r\nbody")
        b'POST / HTTP/1.1\r\nignored: h2c\r\n\r\nbody'
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(b"\r\nignored:", head) + end + rest


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with limits on headers, time and unread responses; it notes when a request arrived."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self._socket: socket.socket | None = None
        self._due_s: float | None = None
        self._unread_since_s: float | None = None
        self._header_bytes = self._silent_bytes = 0
        self._has_begun = self._has_headers = self._is_over = self._is_refused = self._ends = False
        self._arrived_s = 0.0

    @property
    def unread_bytes(self) -> int:
        """Bytes that the client has not read yet."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: Any) -> None:
        """Takes in a connection."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        self._all.open[self] = None
        self._wait_for_headers()
        self._all.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        super().connection_lost(exc)
        for each in (self._all.open, self._all.idle, self._all.unread):
            each.pop(self, None)

    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] (asyncio reads what it returns)
        """Answers what a client has asked that sends no more, and closes the connection then."""
        is_whole = self._is_over and self.cycle is not None and not self.cycle.response_complete
        if is_whole:
            self.cycle.keep_alive = False
        return is_whole

    def leave(self) -> None:
        """Keeps the connection for no request after the one that it is at."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Takes in data; headers, trailers and chunk extensions without an end are refused."""
        if self._is_refused:
            return
        if not self._has_headers and self._due_s is None:
            self._due_s = self._all.clock() + HEADER_SECONDS
        self._arrived_s = self._all.clock() - self._waited_s()
        if not self._has_headers or self._is_over:
            data = without_upgrade(data)
        for start in range(0, len(data), SLICE_BYTES):
            part = data[start : start + SLICE_BYTES]
            self._silent_bytes += len(part)
            super().data_received(part)
            if self._is_refused or self.transport.is_closing():
                return
            if self._silent_bytes > MAX_HEADER_BYTES:
                # A header, trailer or chunk extension without an end.
                self.end(431, TOO_LARGE, "header_bytes")
                return

    def on_message_begin(self) -> None:
        """Begins a request."""
        super().on_message_begin()
        self._header_bytes = self._silent_bytes = 0
        self._has_begun, self._has_headers, self._is_over = True, False, False
        self.scope.setdefault("state", {})[ARRIVED] = self._arrived_s

    def on_url(self, url: bytes) -> None:
        """Takes in a part of the path."""
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes in a header or trailer."""
        self._count_header(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begins to answer."""
        self._silent_bytes = 0
        self._has_headers, self._due_s = True, None
        parser = self.parser
        assert parser is not None, "it is gone only after the connection"
        is_alone = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
        page = self._all.page_path(self.url) if is_alone and parser.get_method() == b"POST" else None
        if page is not None and self._all.is_refused(page, self._arrived_s):
            # Under ten times the load that can be ranked, a task for each of these would cost a third of the processor.
            is_last = parser.get_http_version() == "1.0" or not parser.should_keep_alive()
            self._ends = is_last or self._all.is_leaving
            self.cycle = _ANSWERED
            self.transport.write(REFUSED_AND_CLOSED if self._ends else REFUSED)
            self._wait_for_rest()
            return
        self.scope.setdefault("state", {})[ADMITTED] = page is not None
        self._all.idle.pop(self, None)
        super().on_headers_complete()
        if self._all.is_leaving:
            self.leave()

    def on_body(self, body: bytes) -> None:
        """Takes in a part of the body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request."""
        self._silent_bytes = 0
        self._is_over = True
        super().on_message_complete()
        if self._ends:
            self.transport.close()
        elif self.cycle.response_complete:
            self._wait_for_headers()

    def on_response_complete(self) -> None:
        """Waits for the next request, or for the rest of this one."""
        super().on_response_complete()
        if not self.cycle.response_complete or self.transport.is_closing():
            return
        if self._is_over:
            self._wait_for_request()
        else:
            self._wait_for_rest()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request."""
        if self._is_refused:
            return
        if self._header_bytes > MAX_HEADER_BYTES:
            self.end(431, TOO_LARGE, "header_bytes")
        elif self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Notes that the client has much to read."""
        super().pause_writing()
        self._all.unread[self] = None
        self._all.bound_unread()

    def resume_writing(self) -> None:
        """Notes that the client has read enough."""
        super().resume_writing()
        self._all.unread.pop(self, None)

    def check(self, now_s: float) -> None:
        """Closes the connection if its time is over."""
        if not self.unread_bytes:
            self._unread_since_s = None
        elif self._unread_since_s is None:
            self._unread_since_s = now_s
        elif now_s - self._unread_since_s > WRITE_SECONDS:
            self.abort("unread_responses")
            return
        if self._due_s is not None and now_s >= self._due_s:
            self.end(408, TOO_SLOW, "header_time")

    def end(self, status: int, detail: str, reason: str) -> None:
        """Closes the connection, with a response if a request has begun and has none yet."""
        self._all.metrics.rejected.labels(reason).inc()
        self._is_refused = True
        self._all.idle.pop(self, None)
        self._due_s = None
        has_response = self.cycle is not None and self.cycle.response_started
        if (self._has_begun and not self._has_headers) or (self._has_headers and not has_response):
            content = f'{{"detail":"{detail}"}}'.encode()
            phrase = {408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}[
                status
            ]
            head = (
                f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
                "connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()

    def abort(self, reason: str) -> None:
        """Closes the connection without waiting until its client has read what was written."""
        self._all.metrics.rejected.labels(reason).inc()
        self._all.unread.pop(self, None)
        self.transport.abort()

    def _wait_for_headers(self) -> None:
        self._has_begun = self._has_headers = False
        self._due_s = self._all.clock() + HEADER_SECONDS
        self._all.idle[self] = None

    def _wait_for_rest(self) -> None:
        # What is left of an answered request is read, so that its client can read the response.
        self._due_s = self._all.clock() + HEADER_SECONDS
        self._all.idle[self] = None

    def _wait_for_request(self) -> None:
        # The server's own timer ends a connection on which nothing comes; one that sends something begins its headers.
        self._has_begun = self._has_headers = False
        self._due_s = None
        self._all.idle[self] = None

    def _count_header(self, n_bytes: int) -> None:
        self._silent_bytes = 0
        self._header_bytes += n_bytes
        if self._header_bytes > MAX_HEADER_BYTES:
            raise httptools.HttpParserError(TOO_LARGE)

    def _waited_s(self) -> float:
        """Seconds for which the newest data has waited to be read; 0 where the system does not say."""
        if self._socket is None:
            return 0.0
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            return struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)[0] / 1e3
        except (OSError, AttributeError, struct.error):
            return 0.0


def _refused(*more: bytes) -> bytes:
    content = json.dumps({"detail": OVERLOADED.detail}).encode()
    headers = [
        b"HTTP/1.1 503 Service Unavailable",
        b"content-type: application/json",
        f"content-length: {len(content)}".encode(),
        *(f"{name}: {value}".encode() for name, value in OVERLOADED.headers.items()),
        *(name + b": " + value for name, value in SECURITY_HEADERS),
        *more,
    ]
    return b"\r\n".join(headers) + b"\r\n\r\n" + content


REFUSED = _refused()
REFUSED_AND_CLOSED = _refused(b"connection: close")


def allow_descriptors(max_connections: int) -> int:
    """Raises the process's limit of descriptors for its connections, as far as it may.

    Args:
        max_connections: Number of connections that are wanted.

    Returns:
        Number of connections that are possible.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return max_connections
    return max(min(max_connections, soft - SPARE_DESCRIPTORS), 1)
