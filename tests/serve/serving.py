"""What tests of the service share."""

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from shelfrank.bundle.golden import load_requests
from shelfrank.bundle.store import BundleStore
from shelfrank.core.artifact import Draft
from shelfrank.features.request import PageRequest
from shelfrank.features.store import STORE_FILE, STORE_VERSION
from shelfrank.serve.app import create_app
from shelfrank.serve.journal import Journal
from shelfrank.serve.service import Service

SERVED = "mmoe_dcn_v2_text_cross"
PATIENCE_S = 60.0
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Keeps a client from loading the certificates that plain HTTP does not need, the most of what a request costs."""
HOSTILE_QUERY = "<img src=x onerror=document.title='broken'>"
HOSTILE_TITLES = (
    "<script>document.title='broken'</script>",
    "<img src=x onerror=document.title='broken'>",
    "\"><svg onload=document.title='broken'>",
    "javascript:document.title='broken'",
    "{{constructor.constructor('document.title=1')()}}",
    "\u202e\u200f reversed \u2066",
    "long " * 90,
    "&lt;b&gt; &amp; </li></ol>",
)


@contextlib.contextmanager
def ready_client(service: Service, **settings: Any) -> Iterator[TestClient]:
    """A client of an app that is ready."""
    with TestClient(create_app(service, poll_s=0.05, **settings)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@contextlib.contextmanager
def shared_client(bundle: Path, state: Path, has_page: bool = False) -> Iterator[TestClient]:
    """A client of a service that many tests call in turn.

    Only pages apply its events: the type checker draws at random, which Hypothesis forbids beside its own.
    """
    service = Service(BundleStore(bundle), Journal(state), deadline_s=30.0, has_page=has_page)
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            # It is read at the first poll, before there is a bundle.
            patch.setattr("shelfrank.serve.service.POLL_EVENTS_S", 3600.0)
            client = stack.enter_context(ready_client(service))
        yield client


def wait_until(holds: Any) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "what was waited for never came"
        time.sleep(0.02)


def golden_page(bundle: Path, number: int = 0) -> PageRequest:
    """A page of the log with at least six candidates."""
    pages = [each.page for each in load_requests(BundleStore(bundle).open().path)]
    return pages[number]


def publish_again(store: BundleStore, number: int, is_wrong: bool = False) -> str:
    """Publishes what the store's first version holds once more, perhaps with a golden score that it cannot give."""
    source = store.versions()[0].path

    def write(draft: Draft) -> None:
        shutil.copytree(source, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        if is_wrong:
            file = draft.path / "golden" / "requests.json"
            requests = json.loads(file.read_text(encoding="utf-8"))
            requests[0]["expected"]["fp32"][0][0] += 0.5
            file.write_text(json.dumps(requests), encoding="utf-8")

    return store.publish({"number": number}, write)[0]


def body_of(asked: PageRequest, **more: Any) -> dict[str, Any]:
    """A page as the body of `POST /v1/rank`."""
    return {
        "query": asked.query,
        "customer_id": asked.customer_id,
        "session_id": asked.session_id,
        "timestamp": asked.ts_us / 1e6,
        "context": dict(asked.context),
        "candidates": list(asked.product_ids),
        **more,
    }


def publish_aged(source: BundleStore, out: Path) -> str:
    """Publishes a version whose feature tables say that they are of an older layout, as an upgrade leaves them."""

    def write(draft: Draft) -> None:
        ignored = shutil.ignore_patterns("manifest.json")
        shutil.copytree(source.open().path, draft.path, dirs_exist_ok=True, ignore=ignored)
        file = draft.path / "features" / STORE_FILE
        facts = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(facts | {"version": STORE_VERSION - 1}), encoding="utf-8")

    return BundleStore(out).publish({"features": STORE_VERSION - 1}, write)[0]


@contextlib.contextmanager
def served(
    bundle: Path, *options: str, before: str = "", lines: list[str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Runs `shelfrank serve` on a free port: its process and address; `lines` takes in what it prints."""
    run = f"{before}\nfrom shelfrank.cli.commands import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", run, "serve", str(bundle), "--port", "0", "--deadline-ms", "20000", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    lines = [] if lines is None else lines
    stream = process.stderr
    assert stream is not None
    reader = threading.Thread(target=lambda: [lines.append(line) for line in stream])
    reader.start()
    try:
        wait_until(lambda: any("http://" in line for line in lines) or process.poll() is not None)
        found = re.search(r"http://\S+", "".join(lines))
        assert found, "".join(lines)
        wait_until(lambda: is_up(found[0]))
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()
        stream.close()


def get(url: str) -> httpx2.Response:
    """Gets over a connection of its own, which any process of a service may take."""
    return httpx2.get(url, verify=PLAIN)


def post(url: str, body: dict[str, Any]) -> httpx2.Response:
    """Posts JSON over a connection of its own."""
    return httpx2.post(url, json=body, timeout=PATIENCE_S, verify=PLAIN)


def is_up(address: str) -> bool:
    """Whether a service wants requests."""
    with contextlib.suppress(httpx2.HTTPError):
        return get(f"{address}/readyz").status_code == 200
    return False
