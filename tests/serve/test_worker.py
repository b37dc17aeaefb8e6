"""Processes as they are run: signals, several of them, and what they import."""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serving import (
    PATIENCE_S,
    body_of,
    get,
    golden_page,
    is_up,
    post,
    publish_again,
    publish_aged,
    served,
    wait_until,
)

from shelfrank.bundle.store import BundleStore
from shelfrank.core.errors import UserError
from shelfrank.serve.worker import ServeSettings, serve

SLOW = """
import time, shelfrank.bundle.loaded as loaded
score = loaded.Bundle.score
loaded.Bundle.score = lambda self, asked: (time.sleep(1.0 if asked.query == "slow" else 0), score(self, asked))[1]
"""
LINGERING = "import shelfrank.serve.worker as worker; worker.LINGER_S = 10.0"
ENDED_EARLY = """
import os, signal, uvicorn
run = uvicorn.Server.run
uvicorn.Server.run = lambda self, **sockets: (os.kill(os.getpid(), signal.SIGTERM), run(self, **sockets))
"""
HANGING_UP = """
import os, signal, threading, time
def hang_up():
    while signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        time.sleep(0.01)
    while True:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.05)
threading.Thread(target=hang_up, daemon=True).start()
"""
ROLLED_BACK_AFTER_THE_LOAD = """
import os, signal
from shelfrank.serve import app, worker
create_app = app.create_app
def create_later(service, *settings):
    service.store.rollback()
    os.kill(os.getpid(), signal.SIGHUP)
    return create_app(service, *settings)
app.create_app = create_later
worker._supervise = lambda settings, listening, _: worker.run_worker(settings, listening)
"""


def pids(address: str) -> list[int]:
    """The processes that have answered for the metrics."""
    text = get(f"{address}/metrics").text
    return [int(pid) for pid in re.findall(r'shelfrank_memory_bytes\{pid="(\d+)"\}', text)]


@dataclass(frozen=True)
class TwoProcesses:
    """A running service of two processes on a bundle that tests may change, as long as both serve again."""

    address: str
    bundle: BundleStore
    lines: list[str]
    pid: int


@pytest.fixture(scope="module")
def two_processes(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProcesses]:
    folder = tmp_path_factory.mktemp("two_processes")
    bundle = BundleStore(Path(shutil.copytree(bundle_path, folder / "bundle")))
    options = ("--workers", "2", "--poll-s", "0.2", "--state", str(folder / "state"))
    lines: list[str] = []
    with served(bundle.path, *options, lines=lines) as (process, address):
        wait_until(lambda: len(pids(address)) == 2)
        yield TwoProcesses(address, bundle, lines, process.pid)
        assert process.poll() is None


def test_sigterm_answers_what_is_in_flight(bundle_path: Path) -> None:
    with served(bundle_path, before=SLOW) as (process, address):
        answers: list[httpx2.Response] = []
        body = body_of(golden_page(bundle_path), query="slow")
        caller = threading.Thread(target=lambda: answers.append(post(f"{address}/v1/rank", body)))
        caller.start()
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        caller.join()
        assert answers[0].status_code == 200
        assert not answers[0].json()["degraded"]
        assert process.wait(PATIENCE_S) == 0
        assert not is_up(address)


def test_a_request_on_its_way_is_answered_after_sigterm(bundle_path: Path) -> None:
    with served(bundle_path, before=LINGERING) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as early:
            # Once another connection is answered, the service has accepted this one.
            assert is_up(address)
            process.send_signal(signal.SIGTERM)
            # A service that does not wait has closed it by now.
            time.sleep(1.5)
            with socket.create_connection((host, int(port)), PATIENCE_S) as late:
                for connection in (early, late):
                    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    received = b""
                    while part := connection.recv(65536):
                        received += part
                    assert received.startswith(b"HTTP/1.1 200 ")
                    assert b"connection: close" in received
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_draining_says_no_before_it_stops(bundle_path: Path, workers: int) -> None:
    with served(bundle_path, "--drain-s", "3", "--workers", str(workers)) as (process, address):
        if workers > 1:
            wait_until(lambda: len(pids(address)) == workers)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(f"{address}/readyz").status_code == 503)
        body = body_of(golden_page(bundle_path))
        assert post(f"{address}/v1/rank", body).status_code == 200
        assert process.wait(PATIENCE_S) == 0


def test_a_signal_before_the_server_listens_ends_it(bundle_path: Path) -> None:
    run = f"{ENDED_EARLY}\nfrom shelfrank.cli.commands import main\nmain()"
    process = subprocess.run(
        [sys.executable, "-c", run, "serve", str(bundle_path), "--port", "0"],
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 0


def test_sighup_ends_no_process_that_still_loads(bundle_path: Path) -> None:
    with served(bundle_path, "--workers", "2", before=HANGING_UP) as (process, address):
        body = body_of(golden_page(bundle_path))
        assert post(f"{address}/v1/rank", body).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_sighup_between_the_load_and_the_first_request_is_not_lost(own_bundle: BundleStore) -> None:
    (first,) = own_bundle.versions()
    assert publish_again(own_bundle, 1) != first.name
    options = ("--workers", "2", "--poll-s", "3600")
    with served(own_bundle.path, *options, before=ROLLED_BACK_AFTER_THE_LOAD) as (_, address):
        body = body_of(golden_page(own_bundle.path))
        wait_until(lambda: post(f"{address}/v1/rank", body).json()["bundle"] == first.name)


def test_several_processes_share_a_port_events_and_counts(two_processes: TwoProcesses) -> None:
    address, asked = two_processes.address, golden_page(two_processes.bundle.path)
    body = {**body_of(asked), "customer_id": "c03", "timestamp": "2025-02-01T12:00:00Z"}
    event = {
        "action_name": "click",
        "timestamp": "2025-02-01T11:59:00Z",
        "user_id": "c03",
        "user_query": asked.query,
        "event_attributes": {"object": {"object_id": asked.product_ids[1]}},
    }

    def rank() -> list[Any]:
        return post(f"{address}/v1/rank", body).json()["results"]

    def count() -> float:
        text = get(f"{address}/metrics").text
        counted = re.search(r'shelfrank_requests_total\{route="/v1/rank",status="200"\} (.+)', text)
        return float(counted[1]) if counted else 0.0

    counted = count()
    before = [rank() for _ in range(6)]
    assert all(page == before[0] for page in before)
    assert post(f"{address}/v1/events", {"events": [event]}).json() == {"accepted": 1, "passed_over": {}}
    after = [rank() for _ in range(6)]
    assert all(page == after[0] for page in after)
    assert after[0] != before[0]
    assert count() - counted == 12


GAUGES = ("memory_bytes", "in_flight", "connections", "saturated", "event_lag_seconds", "bundle_age_seconds")


def test_gauges_are_true_for_each_process(two_processes: TwoProcesses) -> None:
    address = two_processes.address

    def values(name: str) -> dict[str, float]:
        text = get(f"{address}/metrics").text
        found = re.findall(rf'shelfrank_{name}\{{(?:lane="pages",)?pid="(\d+)"\}} (.+)', text)
        return {pid: float(value) for pid, value in found}

    processes = set(map(str, pids(address)))
    assert len(processes) == 2
    for name in (*GAUGES, "waiting"):
        wait_until(lambda name=name: set(values(name)) == processes)
    # Also of the process that does not answer for the metrics.
    wait_until(lambda: all(value > 1e7 for value in values("memory_bytes").values()))
    wait_until(lambda: all(value > 0 for value in values("bundle_age_seconds").values()))


def test_a_process_that_died_is_gone_from_the_metrics(two_processes: TwoProcesses) -> None:
    address, bundle = two_processes.address, two_processes.bundle

    def versions() -> dict[str, str]:
        text = get(f"{address}/metrics").text
        return dict(re.findall(r'shelfrank_bundle_info\{version="(.+)"\} (.+)', text))

    old = bundle.current()
    assert versions() == {old: "1.0"}
    died = pids(address)[0]
    os.kill(died, signal.SIGKILL)
    wait_until(lambda: died not in pids(address))
    new = publish_again(bundle, 1)
    wait_until(lambda: versions() == {old: "0.0", new: "1.0"})
    wait_until(lambda: len(pids(address)) == 2)


def test_a_process_that_ends_while_it_starts_is_counted_too(two_processes: TwoProcesses) -> None:
    address = two_processes.address

    def processes() -> set[int]:
        text = Path(f"/proc/{two_processes.pid}/task/{two_processes.pid}/children").read_text(encoding="ascii")
        return set(map(int, text.split()))

    def restarts() -> float:
        return float(re.findall(r"\nshelfrank_worker_restarts_total (.+)", get(f"{address}/metrics").text)[0])

    wait_until(lambda: len(pids(address)) == 2)
    counted, known = restarts(), processes()
    died = pids(address)[0]
    os.kill(died, signal.SIGKILL)
    wait_until(lambda: processes() - known)
    (early,) = processes() - known
    os.kill(early, signal.SIGKILL)
    wait_until(lambda: restarts() == counted + 2)
    wait_until(lambda: len(pids(address)) == 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_that_can_open_no_version_says_why_and_ends(bundle_path: Path, tmp_path: Path, workers: int) -> None:
    name = publish_aged(BundleStore(bundle_path), tmp_path / "bundle")
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "shelfrank",
            "serve",
            str(tmp_path / "bundle"),
            "--port",
            "0",
            "--workers",
            str(workers),
        ],
        timeout=PATIENCE_S,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 2
    first, said = process.stderr.splitlines()
    assert first.startswith("serving ")
    assert re.fullmatch(rf"error: \S+/{name}/features must hold online features of version .*; export again", said)


def test_a_process_that_dies_while_others_serve_waits_for_a_good_version(two_processes: TwoProcesses) -> None:
    address, bundle = two_processes.address, two_processes.bundle
    body = body_of(golden_page(bundle.path))
    files = [version.path / "schema.yaml" for version in bundle.versions()]
    content = files[0].read_bytes()
    for file in files:
        file.write_bytes(content + b"#")
    os.kill(pids(address)[0], signal.SIGKILL)
    wait_until(lambda: any("no bundle is loaded: " in line for line in two_processes.lines))
    assert post(f"{address}/v1/rank", body).status_code == 200
    for file in files:
        file.write_bytes(content)
    wait_until(lambda: len(pids(address)) == 2)


def test_processes_end_with_their_supervisor_however_it_ends(bundle_path: Path) -> None:
    with served(bundle_path, "--workers", "2") as (process, address):
        wait_until(lambda: len(pids(address)) == 2)
        process.kill()
        wait_until(lambda: not is_up(address))


def test_a_serving_process_loads_no_training_stack() -> None:
    code = (
        "import sys, shelfrank.serve.app, shelfrank.serve.worker, onnxruntime, tokenizers\n"
        "print([name for name in ('torch', 'transformers', 'ibis', 'duckdb', 'pandas') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert told.stdout.strip() == "[]"


def test_a_second_service_on_one_state_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    settings = ServeSettings(bundle_path, port=0, state=tmp_path)
    with (tmp_path / "service.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="must be a folder that no other service uses"):
            serve(settings)


def test_a_state_that_holds_no_journal_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"no database, though long enough for one's head" * 100)
    with pytest.raises(UserError, match="must be a journal of events"):
        serve(ServeSettings(bundle_path, port=0, state=tmp_path))
