"""Connections as hostile or slow clients use them, over sockets."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import PATIENCE_S, body_of, get, golden_page, post, served, wait_until

from shelfrank.serve.protocol import MAX_HEADER_BYTES, SPARE_DESCRIPTORS, allow_descriptors

MAX_CONNECTIONS = 20
QUICK = """
import shelfrank.serve.protocol as protocol, shelfrank.serve.worker as worker
protocol.HEADER_SECONDS, protocol.WRITE_SECONDS, protocol.SWEEP_S = 1.0, 2.0, 0.1
protocol.MAX_UNREAD_BYTES = 20_000_000
worker.SHUTDOWN_S = 2
"""
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def running(bundle_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service with short times and few connections: its process and address."""
    with served(bundle_path, "--max-connections", str(MAX_CONNECTIONS), before=QUICK) as (process, address):
        yield process, address


@pytest.fixture
def address(running: tuple[subprocess.Popen[str], str]) -> str:
    """The address of the service."""
    return running[1]


def connect(address: str) -> socket.socket:
    """A connection to a service."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def answer(connection: socket.socket, sent: bytes = b"") -> bytes:
    """Sends, and receives until the service closes the connection."""
    received = b""
    try:
        if sent:
            connection.sendall(sent)
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def rejected(address: str, reason: str) -> float:
    """How often a service has refused for a reason."""
    found = re.search(rf'shelfrank_rejected_total\{{reason="{reason}"\}} (.+)', get(f"{address}/metrics").text)
    assert found
    return float(found[1])


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"X: " + b"a" * (MAX_HEADER_BYTES + 70_000), id="one that does not end"),
        pytest.param(b"X: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n", id="one that is too long"),
        pytest.param(b"".join(b"X%d: a\r\n" % i for i in range(5000)) + b"\r\n", id="too many"),
    ],
)
def test_headers_are_bounded(address: str, headers: bytes) -> None:
    before = rejected(address, "header_bytes")
    with connect(address) as connection:
        told = answer(connection, HEAD + headers)
    # Where much was sent, the system may drop the response with the connection.
    assert told == b"" or told.startswith(b"HTTP/1.1 431 ")
    assert rejected(address, "header_bytes") == before + 1


def test_headers_below_the_bound_are_read(address: str) -> None:
    with connect(address) as connection:
        told = answer(connection, HEAD + b"X: " + b"a" * (MAX_HEADER_BYTES - 100) + b"\r\nConnection: close\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("rest", [b"1;" + b"a" * 200_000, b"0\r\nX: " + b"a" * 200_000], ids=["extension", "trailer"])
def test_what_stands_between_parts_of_a_body_is_bounded(address: str, rest: bytes) -> None:
    head = b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = rejected(address, "header_bytes")
    with connect(address) as connection:
        told = answer(connection, head + rest)
    assert told == b"" or told.startswith(b"HTTP/1.1 4")
    assert rejected(address, "header_bytes") == before + 1


@pytest.mark.parametrize(("sent", "told"), [(b"", b""), (HEAD + b"X: ", b"HTTP/1.1 408 ")], ids=["nothing", "a part"])
def test_headers_must_arrive_in_time(address: str, sent: bytes, told: bytes) -> None:
    before = rejected(address, "header_time")
    with connect(address) as connection:
        assert answer(connection, sent)[:13] == told
    assert rejected(address, "header_time") == before + 1


def test_a_connection_is_kept_between_requests(address: str) -> None:
    with connect(address) as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"\r\n")
            received = b""
            while not received.endswith(b"\r\n\r\nok\n"):
                part = connection.recv(65536)
                assert part, received
                received += part
            assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("upgrade", [b"Upgrade: h2c", b"UPGRADE:websocket"])
def test_an_offer_of_another_protocol_is_ignored(address: str, bundle_path: Path, upgrade: bytes) -> None:
    body = json.dumps(body_of(golden_page(bundle_path))).encode()
    head = (
        b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        b"Content-Type: application/json\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n%s\r\nContent-Length: %d\r\n\r\n"
    ) % (upgrade, len(body))
    with connect(address) as connection:
        told = answer(connection, head + body)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b'"results"' in told


def test_pipelined_requests_are_answered_in_turn(address: str) -> None:
    with connect(address) as connection:
        told = answer(connection, (HEAD + b"\r\n") * 4 + HEAD + b"Connection: close\r\n\r\n")
    assert told.count(b"HTTP/1.1 200 OK") == 5


def test_a_client_that_sends_no_more_is_answered(address: str, bundle_path: Path) -> None:
    body = json.dumps(body_of(golden_page(bundle_path))).encode()
    head = b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with connect(address) as connection:
        connection.sendall(HEAD + b"\r\n" + head % len(body) + body)
        connection.shutdown(socket.SHUT_WR)
        told = answer(connection)
    assert told.count(b"HTTP/1.1 200 OK") == 2
    assert b"connection: close" in told
    assert b'"results"' in told


def test_a_part_of_a_request_is_not_waited_for_once_its_client_sends_no_more(address: str) -> None:
    with connect(address) as connection:
        connection.sendall(b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection) == b""


def test_connections_that_wait_make_room_for_new_ones(address: str, bundle_path: Path) -> None:
    before = rejected(address, "connections")
    half_open = [connect(address) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        for connection in half_open:
            connection.sendall(HEAD)
        assert post(f"{address}/v1/rank", body_of(golden_page(bundle_path))).status_code == 200
        assert rejected(address, "connections") > before
    finally:
        for connection in half_open:
            connection.close()


def many_documents() -> bytes:
    """A request whose response is larger than what the system holds for a client: half a character escapes it all."""
    documents = [{"id": "p001", "text": "é" * 950} for _ in range(950)]
    text = json.dumps({"query": "sofa", "documents": documents, "return_documents": True}, ensure_ascii=False)
    body = text.replace('"documents": [', '"documents": [{"id": "p001", "text": "\\ud800"}, ').encode()
    head = "POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    return head.format(len(body)).encode() + body


def slow_reader(address: str, request: bytes) -> socket.socket:
    """A client that sends a request and reads nothing."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_S)
    connection.connect((host, int(port)))
    connection.sendall(request)
    return connection


def test_responses_that_nobody_reads_are_dropped(address: str) -> None:
    before, request = rejected(address, "unread_responses"), many_documents()
    readers = [slow_reader(address, request) for _ in range(3)]
    try:
        wait_until(lambda: rejected(address, "unread_responses") == before + 3)
    finally:
        for reader in readers:
            reader.close()


def test_clients_that_do_not_read_do_not_keep_a_service_from_ending(bundle_path: Path) -> None:
    unlimited = QUICK.replace("1.0, 2.0, 0.1", "1.0, 3600.0, 0.1")
    with served(bundle_path, before=unlimited) as (process, address):
        reader = slow_reader(address, many_documents())
        wait_until(lambda: 'route="/v1/rerank",status="200"} 1.0' in get(f"{address}/metrics").text)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        reader.close()


def test_descriptors_are_as_many_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(256, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.append(wanted))
    assert allow_descriptors(100) == 100
    assert limits == [(256, 1024)]
    assert allow_descriptors(500) == 500
    assert allow_descriptors(5000) == 1024 - SPARE_DESCRIPTORS
    assert limits[-1] == (1024, 1024)
