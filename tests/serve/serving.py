"""What tests of the service share."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from shelfrank.bundle.golden import load_requests
from shelfrank.bundle.store import BundleStore
from shelfrank.online import Asked
from shelfrank.serve.app import create_app
from shelfrank.serve.service import Service

SERVED = "mmoe_dcn_v2_tinybert_cross"
PATIENCE_S = 60.0


@contextlib.contextmanager
def ready_client(service: Service, **settings: Any) -> Iterator[TestClient]:
    """A client of an app that is ready."""
    with TestClient(create_app(service, poll_s=0.05, **settings)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def wait_until(holds: Any) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "what was waited for never came"
        time.sleep(0.02)


def golden_page(bundle: Path, number: int = 0) -> Asked:
    """A page of the log with at least six candidates."""
    pages = [each.asked for each in load_requests(BundleStore(bundle).open().path)]
    return pages[number]


def body_of(asked: Asked, **more: Any) -> dict[str, Any]:
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
