"""Measures a bundle's service on one core over HTTP, in float32 and in 8-bit integers.

    python benchmarks/serve_load.py BUNDLE --candidates 200 --seconds 60

The load is open-loop: requests come when they are due, however slow the answers are, and every query is new. The
service has the last core of this process, and the load the others.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shelfrank.bundle.spec import PRECISIONS, Precision, Spec
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
LAST_LINES = 20
"""Lines of the service's output that are kept for an error."""


@dataclass(frozen=True)
class LoadSettings:
    """What is measured.

    Attributes:
        store: The bundle's folder.
        candidates: Candidates of a page, one load each.
        rate: Requests a second.
        seconds: Length of each load.
        precisions: Precisions of the graphs, one service each; those that the bundle lacks are left out.
        soak: Requests of the memory test, one after the other on two connections; 0 skips it.
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
    """The figures of one load.

    Attributes:
        precision: Precision of the graphs.
        candidates: Candidates of a page.
        requests: Requests sent.
        errors: Requests without an answer, or with a status other than 200.
        degraded: Answers in the engine's own order.
        per_s: Answers a second.
        p50_ms: Median time from when a request was due to its answer.
        p95_ms: 95th percentile of the same.
        p99_ms: 99th percentile of the same.
        max_ms: Maximum of the same.
        memory_mb: Resident memory of the service after the load.
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
class LoadReport:
    """Every figure that was measured.

    Attributes:
        bundle: The version.
        label: The ranker.
        cores: Cores of the service.
        rate: Requests sent a second.
        loads: One per precision and number of candidates.
        start: By precision, seconds until the service was ready and its memory then.
        soak: By precision, pairs of requests so far and memory then.
        quality: By precision, AUC and MRR as measured when the bundle was exported.
        left_out: By precision that was not measured, why the service does not compute in it on this processor.
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
            steps = ", ".join(f"{mb:.0f} MB after {n:,}" for n, mb in memory)
            lines.append(f"{precision:>9} memory: {steps} requests")
        for precision, measured in self.quality.items():
            figures = [
                f"{measure.upper()} {task} {value:.4f}{_difference(self.quality, precision, measure, task)}"
                for measure in ("auc", "mrr@10")
                for task, value in measured[measure].items()
                if value is not None
            ]
            lines.append(f"{precision:>9} {', '.join(figures)} ({measured['searches']} test searches)")
        lines += [f"{precision:>9} not measured: {reason}" for precision, reason in self.left_out.items()]
        return lines


def measure(settings: LoadSettings) -> LoadReport:
    """Starts a service on one core for each precision, and puts it under load.

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
    quality = version.manifest.info.get("quality") or {}
    report = LoadReport(version.name, spec.label, 1, settings.rate, quality=quality)
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
                report.left_out[precision] = " ".join(fallback)
                continue
            report.start[precision] = {"seconds": round(ready_s, 1), "memory_mb": round(_memory_mb(process.pid), 1)}
            pages = Pages(samples, settings.seed)
            for n_candidates in settings.candidates:
                asyncio.run(_open_loop(port, pages, n_candidates, UNMEASURED / settings.rate, settings.rate, "Warm-up"))
                title = f"{precision}, {n_candidates:,} candidates"
                answers, took_s = asyncio.run(
                    _open_loop(port, pages, n_candidates, settings.seconds, settings.rate, title)
                )
                report.loads.append(_load(precision, n_candidates, answers, took_s, _memory_mb(process.pid)))
            if settings.soak:
                report.soak[precision] = asyncio.run(
                    _soak(port, pages, settings.candidates[0], settings.soak, process.pid, precision)
                )
    return report


class Pages:
    """Bodies of requests: new queries, known customers and products."""

    def __init__(self, samples: Mapping[str, list[str]], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.products, self.queries, self.customers = (samples[name] for name in ("products", "queries", "customers"))
        self.words = sorted({word for query in self.queries for word in query.split()}) or ["word"]
        self.n = 0

    def body(self, n_candidates: int) -> bytes:
        """Makes one request, whose query is new and about as long as the shop's."""
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
class _Timing:
    seconds: float
    ok: bool
    degraded: bool


class Connections:
    """Connections that stay open, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def rank(self, body: bytes) -> tuple[int, bytes]:
        """Sends a page; returns the answer's status and body."""
        return await self._send(
            f"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def get(self, path: str) -> bytes:
        """Returns the body at a path."""
        return (await self._send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()))[1]

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
        """Takes the connection that was used last; one that the service may be closing just now is not used again."""
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
) -> tuple[list[_Timing], float]:
    # Before the load, so that making them delays no request.
    bodies = [pages.body(n_candidates) for _ in range(max(round(seconds * rate), 1))]
    connections = Connections(port)
    started = time.perf_counter() + 0.05
    answers: list[_Timing] = []
    with progress(title, total=len(bodies), unit="requests") as advance:

        async def send(due: float, body: bytes) -> None:
            await _until(due)
            try:
                status, content = await asyncio.wait_for(connections.rank(body), ANSWER_S)
                ok, degraded = status == 200, b'"degraded":true' in content
            except (OSError, EOFError, TimeoutError):
                ok = degraded = False
            answers.append(_Timing(time.perf_counter() - due, ok, degraded))
            advance(1)

        await asyncio.gather(*(send(started + i / rate, body) for i, body in enumerate(bodies)))
    took_s = time.perf_counter() - started
    connections.close()
    return answers, took_s


async def _until(due: float) -> None:
    """Waits until a time; the loop's own timers are up to some milliseconds late, which is no fault of the service."""
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


def _load(precision: str, n_candidates: int, answers: Sequence[_Timing], took_s: float, memory_mb: float) -> Load:
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
def running_service(settings: LoadSettings, precision: Precision) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs a service on the last core that this process may use; this process keeps to the others if there are any."""
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
    """Waits until a service is ready; returns its port."""
    assert process.stderr is not None
    stream = process.stderr
    lines: deque[str] = deque(maxlen=LAST_LINES)
    port: int | None = None
    for line in stream:
        lines.append(line.strip())
        if match := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            port = int(match[1])
            break
    # A full pipe would stop the service.
    reader = threading.Thread(target=lambda: lines.extend(line.strip() for line in stream), daemon=True)
    reader.start()
    deadline = time.monotonic() + READY_S
    while port is not None and time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            _ready_lines(port)
            return port
        time.sleep(0.2)
    if port is None or process.poll() is not None:
        process.wait(ANSWER_S)
        reader.join(ANSWER_S)
        raise UserError(f"the service must start, but it ends: {(lines or ['without a word'])[-1]}")
    raise UserError(f"the service must be ready within {READY_S:g} s, but it is not; its last line is: {lines[-1]}")


def _ready_lines(port: int) -> list[str]:
    """Reads the lines of `/readyz`; raises `OSError` where the service is not ready."""
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


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument(
        "--candidates", type=_at_least(1, int, 1000), action="append", help="candidates of a page; may be repeated"
    )
    parser.add_argument("--rate", type=_at_least(0.1, float), default=20.0, help="requests a second")
    parser.add_argument("--seconds", type=_at_least(0.1, float), default=20.0, help="length of each load")
    parser.add_argument("--precision", choices=PRECISIONS, help="precision to measure; default: both")
    parser.add_argument("--soak", type=_at_least(0, int), default=0, help="requests of the memory test; 0 skips it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _at_least(low: float, kind: Callable[[str], float], high: float = math.inf) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"must be a number of {limits}, not {text!r}")
        return value

    return number


def main() -> None:
    given = options().parse_args()
    defaults = LoadSettings(given.bundle)
    settings = LoadSettings(
        store=given.bundle,
        candidates=tuple(given.candidates or defaults.candidates),
        rate=given.rate,
        seconds=given.seconds,
        precisions=(given.precision,) if given.precision else defaults.precisions,
        soak=given.soak,
    )
    try:
        report = measure(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(report.as_dict()) if given.json else "\n".join(report.lines()))


if __name__ == "__main__":
    main()
