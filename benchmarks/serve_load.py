"""Measures a service over HTTP under open-loop load: requests come when they are due, however slow the answers are."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shelfrank.bundle.spec import Precision, Spec
from shelfrank.bundle.store import BundleStore
from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress

READY_S = 300.0
ANSWER_S = 30.0
UNMEASURED = 20
"""Requests of each load before those that are measured."""
SAMPLES_OF_MEMORY = 10
TIMER_S = 0.004
KEPT_IDLE_S = 15.0
"""A service closes a connection that was idle for longer."""


@dataclass(frozen=True)
class BenchSettings:
    """What is measured.

    Attributes:
        store: The bundle's folder.
        candidates: Candidates of a page, one load each.
        rate: Requests a second.
        seconds: Length of each load.
        precisions: In which the graphs compute, one service each; those that the bundle lacks are left out.
        soak: Requests, one after the other on two connections, after which memory must be what it was; 0 makes none.
        deadline_ms: The service's deadline.
        poll_s: Seconds between two looks of the service at the bundle's pointer.
        seed: Decides queries, customers and candidates.
    """

    store: Path
    candidates: tuple[int, ...] = (50, 100, 200, 500, 1000)
    rate: float = 20.0
    seconds: float = 20.0
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    soak: int = 0
    deadline_ms: float = 200.0
    poll_s: float = 3600.0
    seed: int = 0


@dataclass(frozen=True)
class Load:
    """What one load showed.

    Attributes:
        precision: In which the graphs computed.
        candidates: Candidates of a page.
        requests: Requests sent.
        errors: Answers that were none, or no 200.
        degraded: Answers in the engine's own order.
        per_s: Answers a second.
        p50_ms: Median time from when a request was due to its answer.
        p95_ms: The same at 95 of 100.
        p99_ms: The same at 99 of 100.
        max_ms: The slowest.
        memory_mb: What the service held after it.
    """

    precision: str
    candidates: int
    requests: int
    errors: int
    degraded: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    memory_mb: float


@dataclass
class Bench:
    """Everything that was measured.

    Attributes:
        bundle: The version.
        label: The ranker.
        cores: Cores that the service had.
        rate: Requests a second that were sent.
        loads: One per precision and number of candidates.
        start: By precision, seconds until the service was ready and its memory then.
        soak: By precision, requests and memory as they went on.
        quality: By precision, AUC and MRR as measured when the bundle was exported.
        left_out: By precision, why the service on this processor does not compute in it, so that nothing was measured.
    """

    bundle: str
    label: str
    cores: int
    rate: float
    loads: list[Load] = field(default_factory=list)
    start: dict[str, dict[str, float]] = field(default_factory=dict)
    soak: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{self.label}, bundle {self.bundle}, {self.cores} core, {self.rate:g} requests/s sent, every query new",
            f"{'':>9} {'candidates':>10} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'max ms':>8} {'req/s':>7} "
            f"{'errors':>6} {'degraded':>8} {'MB':>6}",
        ]
        for load in self.loads:
            times = " ".join(f"{value:>8.1f}" for value in (load.p50_ms, load.p95_ms, load.p99_ms, load.max_ms))
            lines.append(
                f"{load.precision:>9} {load.candidates:>10,} {times} {load.per_s:>7.1f} {load.errors:>6} "
                f"{load.degraded:>8} {load.memory_mb:>6.0f}"
            )
        for precision, memory in self.soak.items():
            told = ", ".join(f"{mb:.0f} MB after {n:,}" for n, mb in memory)
            lines.append(f"{precision:>9} memory: {told} requests")
        for precision, found in self.quality.items():
            figures = [
                f"{measure.upper()} {task} {value:.4f}{_difference(self.quality, precision, measure, task)}"
                for measure in ("auc", "mrr@10")
                for task, value in found[measure].items()
                if value is not None
            ]
            lines.append(f"{precision:>9} {', '.join(figures)} ({found['searches']} test searches)")
        lines += [f"{precision:>9} not measured: {reason}" for precision, reason in self.left_out.items()]
        return lines


def bench(settings: BenchSettings) -> Bench:
    """Starts a service on one core for each precision, and loads it.

    Args:
        settings: What to measure.

    Returns:
        What was measured.

    Raises:
        UserError: Where the bundle cannot be read or the service does not become ready.
    """
    version = BundleStore(settings.store).open()
    spec = Spec.load(version.path)
    samples = json.loads((version.path / "samples.json").read_text(encoding="utf-8"))
    found = Bench(version.name, spec.label, 1, settings.rate, quality=version.manifest.info.get("quality") or {})
    precisions: list[Precision] = [each for each in settings.precisions if each in spec.precisions]
    if not precisions:
        raise UserError(
            f"--precision must name one that the bundle has ({', '.join(spec.precisions)}), not "
            f"{', '.join(settings.precisions)}"
        )
    for precision in precisions:
        started = time.monotonic()
        with running_service(settings, precision) as (process, port):
            ready_s = time.monotonic() - started
            fallback = _ready_lines(port)[1:]
            if fallback:
                found.left_out[precision] = " ".join(fallback)
                continue
            found.start[precision] = {"seconds": round(ready_s, 1), "memory_mb": round(_memory_mb(process.pid), 1)}
            pages = Pages(samples, settings.seed)
            for n_candidates in settings.candidates:
                asyncio.run(_open_loop(port, pages, n_candidates, UNMEASURED / settings.rate, settings.rate, "Warm-up"))
                title = f"{precision}, {n_candidates:,} candidates"
                answers, took_s = asyncio.run(
                    _open_loop(port, pages, n_candidates, settings.seconds, settings.rate, title)
                )
                found.loads.append(_load(precision, n_candidates, answers, took_s, _memory_mb(process.pid)))
            if settings.soak:
                found.soak[precision] = asyncio.run(
                    _soak(port, pages, settings.candidates[0], settings.soak, process.pid, precision)
                )
    return found


class Pages:
    """Bodies of requests: new queries, known customers and products."""

    def __init__(self, samples: Mapping[str, list[str]], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.products, self.queries, self.customers = (samples[name] for name in ("products", "queries", "customers"))
        self.words = sorted({word for query in self.queries for word in query.split()}) or ["word"]
        self.n = 0

    def body(self, n_candidates: int) -> bytes:
        """One request; its query was never asked before, and is about as long as the shop's."""
        self.n += 1
        query = self.queries[int(self.rng.integers(len(self.queries)))] if self.queries else ""
        length = max(len(query.split()), 2)
        # A number that is new makes the query new, and is one or two tokens as another word is.
        words = [self.words[int(i)] for i in self.rng.integers(0, len(self.words), length - 1)]
        chosen = self.rng.permutation(len(self.products))[:n_candidates]
        ids = [self.products[int(i)] for i in chosen]
        ids += [f"unknown-{i}" for i in range(n_candidates - len(ids))]
        customer = self.customers[int(self.rng.integers(len(self.customers)))] if self.customers else None
        page = {
            "query": " ".join([*words, str(self.n)]),
            "customer_id": customer,
            "candidates": [{"id": product, "score": float(len(ids) - i)} for i, product in enumerate(ids)],
        }
        return json.dumps(page).encode()


@dataclass
class _Answer:
    seconds: float
    ok: bool
    degraded: bool


class Connections:
    """Connections that are kept open, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def rank(self, body: bytes) -> tuple[int, bytes]:
        """Asks for a page: the answer's status and body."""
        return await self._send(
            f"POST /v1/rank HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def get(self, path: str) -> bytes:
        """The body at a path."""
        return (await self._send(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()))[1]

    async def _send(self, request: bytes) -> tuple[int, bytes]:
        reader, writer = self._kept() or await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            top = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", top, re.IGNORECASE)
            content = await reader.readexactly(int(length[1])) if length else b""
        except BaseException:
            writer.close()
            raise
        self.idle.append((reader, writer, time.monotonic()))
        return int(top.split(b" ", 2)[1]), content

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection that was used last; one that the service may be closing just now is not used again."""
        while self.idle:
            reader, writer, since = self.idle.pop()
            if time.monotonic() - since < KEPT_IDLE_S:
                return reader, writer
            writer.close()
        return None

    def close(self) -> None:
        """Closes all."""
        for _, writer, _ in self.idle:
            writer.close()


async def _open_loop(
    port: int, pages: Pages, n_candidates: int, seconds: float, rate: float, title: str
) -> tuple[list[_Answer], float]:
    # Made before, so that making them is not in the way.
    bodies = [pages.body(n_candidates) for _ in range(max(round(seconds * rate), 1))]
    connections = Connections(port)
    started = time.perf_counter() + 0.05
    answers: list[_Answer] = []
    with progress(title, total=len(bodies), unit="requests") as advance:

        async def send(due: float, body: bytes) -> None:
            await _until(due)
            try:
                status, content = await asyncio.wait_for(connections.rank(body), ANSWER_S)
                ok, degraded = status == 200, b'"degraded":true' in content
            except (OSError, EOFError, TimeoutError):
                ok = degraded = False
            answers.append(_Answer(time.perf_counter() - due, ok, degraded))
            advance(1)

        await asyncio.gather(*(send(started + i / rate, body) for i, body in enumerate(bodies)))
    took_s = time.perf_counter() - started
    connections.close()
    return answers, took_s


async def _until(due: float) -> None:
    """Waits for a moment; the loop's own timers are up to some milliseconds late, which is no fault of the service."""
    await asyncio.sleep(max(due - time.perf_counter() - TIMER_S, 0.0))
    while time.perf_counter() < due:
        await asyncio.sleep(0)


async def _soak(
    port: int, pages: Pages, n_candidates: int, n_requests: int, pid: int, precision: str
) -> list[tuple[int, float]]:
    connections = Connections(port)
    memory: list[tuple[int, float]] = [(0, round(_memory_mb(pid), 1))]
    done = 0
    step = max(n_requests // SAMPLES_OF_MEMORY, 1)
    with progress(f"{precision}, {n_requests:,} requests", total=n_requests, unit="requests") as advance:

        async def caller() -> None:
            nonlocal done
            while done < n_requests:
                done += 1
                number = done
                await connections.rank(pages.body(n_candidates))
                advance(1)
                if number % step == 0:
                    memory.append((number, round(_memory_mb(pid), 1)))

        await asyncio.gather(caller(), caller())
    connections.close()
    return memory


def _load(precision: str, n_candidates: int, answers: Sequence[_Answer], took_s: float, memory_mb: float) -> Load:
    milliseconds = np.array([answer.seconds for answer in answers if answer.ok]) * 1e3
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]) if len(milliseconds) else [float("nan")] * 3
    return Load(
        precision=precision,
        candidates=n_candidates,
        requests=len(answers),
        errors=sum(not answer.ok for answer in answers),
        degraded=sum(answer.degraded for answer in answers),
        per_s=round(len(milliseconds) / took_s, 2),
        p50_ms=round(float(p50), 2),
        p95_ms=round(float(p95), 2),
        p99_ms=round(float(p99), 2),
        max_ms=round(float(milliseconds.max()), 2) if len(milliseconds) else float("nan"),
        memory_mb=round(memory_mb, 1),
    )


@contextlib.contextmanager
def running_service(settings: BenchSettings, precision: Precision) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A service on the last core that this process may use; this process keeps to the others where there are any."""
    command = [sys.executable, "-m", "shelfrank", "serve", str(settings.store), "--port", "0", "--no-page"]
    command += ["--precision", precision]
    command += ["--deadline-ms", str(settings.deadline_ms), "--poll-s", str(settings.poll_s)]
    pins = hasattr(os, "sched_setaffinity")
    mine = os.sched_getaffinity(0) if pins else set()
    core = {max(mine)} if mine else set()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    if pins:
        os.sched_setaffinity(process.pid, core)
        if mine - core:
            os.sched_setaffinity(0, mine - core)
    try:
        yield process, _wait_for(process)
    finally:
        if pins:
            os.sched_setaffinity(0, mine)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ANSWER_S)
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def _wait_for(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            break
    else:
        raise UserError(f"the service must start, but it says: {''.join(lines).strip()[-300:]}")
    port = int(found[1])
    # A pipe that nobody reads fills up and holds the service up.
    stream = process.stderr
    threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            _ready_lines(port)
            return port
        time.sleep(0.2)
    raise UserError(f"the service must be ready within {READY_S:g} s, but it is not; look at `shelfrank serve`")


def _ready_lines(port: int) -> list[str]:
    """What a service that is ready says of itself; raises `OSError` where it is not."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        return answer.read().decode().splitlines()


def _memory_mb(pid: int) -> float:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def _difference(quality: Mapping[str, Any], precision: str, measure: str, task: str) -> str:
    if precision == "fp32" or "fp32" not in quality or quality["fp32"][measure][task] is None:
        return ""
    return f" ({quality[precision][measure][task] - quality['fp32'][measure][task]:+.4f})"
