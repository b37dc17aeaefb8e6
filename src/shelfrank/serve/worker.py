"""Processes: one per core, started together, drained together."""

import asyncio
import contextlib
import fcntl
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from shelfrank.bundle.loaded import CACHED_QUERIES
from shelfrank.bundle.spec import Precision
from shelfrank.bundle.store import BundleStore
from shelfrank.core.errors import UserError
from shelfrank.serve.limits import is_loopback, served_hosts
from shelfrank.serve.version_checks import end_with_parent

log = logging.getLogger("shelfrank.serve")
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2048
IDLE_CONNECTION_S = 30
POLL_PROCESSES_S = 0.2
RESTART_AFTER_S = 1.0
LOCK = "service.lock"
COUNTS = "metrics-"
CLAIM = "written-by-shelfrank"
LINGER_S = 0.5
"""Seconds of a graceful shutdown in which requests that are on their way still arrive and are answered."""
SHUTDOWN_S = 10
"""Seconds on SIGTERM in which requests in flight are completed and clients must read their responses."""
KILL_AFTER_S = 20.0
"""Seconds beyond the graceful shutdown after which the supervisor kills a process."""
GC_THRESHOLD = 50_000
"""Newly allocated objects after which the collector runs."""


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a service.

    Attributes:
        store: The bundle's folder.
        host: The address to bind.
        port: The port; 0 takes a free one.
        workers: Number of processes.
        precision: Precision of the graphs.
        keys: API keys.
        deadline_s: Seconds after which the engine's own order is returned.
        max_body_bytes: Maximum size of a body.
        poll_s: Seconds between two reads of the bundle's pointer.
        drain_s: Seconds on SIGTERM in which requests are still answered while /readyz answers 503.
        state: Folder of the recent events; None deletes them when the service ends.
        cached: Size of each process's cache of query vectors.
        has_page: Whether the page is served.
        overload: What a page gets that cannot be ranked in time: 503, or the engine's own order.
        max_connections: Connections of each process.
        allowed_hosts: Further names in the `Host` header that a service on a loopback address without keys answers.
    """

    store: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    precision: Precision = "fp32"
    keys: tuple[str, ...] = ()
    deadline_s: float = 0.2
    max_body_bytes: int = 2_000_000
    poll_s: float = 2.0
    drain_s: float = 0.0
    state: Path | None = None
    cached: int = CACHED_QUERIES
    has_page: bool = False
    overload: Literal["refuse", "engine_order"] = "refuse"
    max_connections: int = 1000
    allowed_hosts: tuple[str, ...] = ()


def serve(settings: ServeSettings) -> None:
    """Serves until SIGTERM or SIGINT, with a graceful shutdown. SIGHUP reads the bundle's pointer at once.

    Args:
        settings: The settings.

    Raises:
        UserError: If no version of the bundle can be opened, the address cannot be bound, other machines could reach
            it without a key, or the state's folder is in use or holds no readable journal.
    """
    if not is_loopback(settings.host) and not settings.keys:
        raise UserError(
            f"a service on {settings.host} must have an API key because other machines can reach it; set "
            "SHELFRANK_API_KEY or --api-key-file, or bind 127.0.0.1"
        )
    store = BundleStore(settings.store)
    if not store.versions():
        # It says what is wrong. The bytes of a version are read by the process that loads it, and only once.
        store.open()
    with _bound(settings) as listening, _state(settings) as state:
        host, port = listening.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        print(f"serving {settings.store} at http://{address}", file=sys.stderr, flush=True)
        settings = replace(settings, state=state)
        if settings.workers == 1:
            run_worker(settings, listening)
        else:
            _supervise(settings, listening, state)


def run_worker(settings: ServeSettings, listening: socket.socket, report: Connection | None = None) -> None:
    """Runs one process of the service until it has drained.

    Args:
        settings: The settings.
        listening: The bound socket.
        report: Gets None once a version is loaded, or the reason why none can be opened, from one of several processes.
            Without it another process serves already, and this one waits for a version that can be opened.

    Raises:
        UserError: If this is the only process and no version can be opened.
    """
    early: list[int] = []
    # Until the server handles signals, SIGHUP would end the process.
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    import uvicorn

    from shelfrank.serve.app import create_app
    from shelfrank.serve.journal import Journal
    from shelfrank.serve.protocol import Connections, LimitedProtocol, allow_descriptors
    from shelfrank.serve.service import Service

    # A page or an event allocates and frees many objects, none of them in a cycle: frequent collections are wasted.
    gc.set_threshold(GC_THRESHOLD)
    assert settings.state is not None, "the supervisor names the folder of the recent events"
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    service = Service(
        BundleStore(settings.store),
        Journal(settings.state),
        precision=settings.precision,
        deadline_s=settings.deadline_s,
        cached=settings.cached,
        has_page=settings.has_page,
        overload=settings.overload,
    )
    if settings.workers > 1:
        end_with_parent(signal.SIGTERM)
        # The processes share a port: one that is not ready must not take requests that another could answer.
        while (problem := asyncio.run(_first_load(service))) is not None:
            if report is not None:
                report.send(problem)
                return
            log.error("no bundle is loaded: %s", problem)
            time.sleep(settings.poll_s)
        if report is not None:
            report.send(None)
    problems: list[UserError] = []

    def give_up(problem: UserError) -> None:
        problems.append(problem)
        server.should_exit = True

    hosts = None if settings.keys else served_hosts(settings.host, settings.allowed_hosts)
    app = create_app(service, settings.keys, settings.max_body_bytes, settings.poll_s, give_up, hosts)
    connections = Connections(
        allow_descriptors(settings.max_connections), service.metrics, app.state.pages, service.refuses_page
    )
    config = uvicorn.Config(
        app,
        http=partial(LimitedProtocol, connections=connections),  # pyright: ignore[reportArgumentType] (only called)
        loop="uvloop",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_CONNECTION_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )

    class Draining(uvicorn.Server):
        """Answers 503 at /readyz before it stops listening, so that a load balancer can react first."""

        def handle_exit(self, sig: int, frame: Any) -> None:
            """Handles SIGTERM and SIGINT; a second signal ends the server at once."""
            if service.draining or settings.drain_s <= 0:
                service.draining = True
                super().handle_exit(sig, frame)
                return
            service.draining = True
            asyncio.get_running_loop().call_later(settings.drain_s, super().handle_exit, sig, frame)

        async def on_tick(self, counter: int) -> bool:
            """Closes the connections whose time is over, several times a second."""
            connections.sweep()
            return await super().on_tick(counter)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Starts to listen, and handles SIGHUP."""
            await super().startup(sockets)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
            if signal.SIGHUP in early:
                # The pointer may have changed after it was read.
                self._reload()
            for number in early:
                if number != signal.SIGHUP:
                    self.handle_exit(number, None)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Stops to listen once what was sent is read: the system resets connections that it holds unread."""
            connections.leave()
            for each in sockets or []:
                # New clients wait or are refused, and those that wait already are accepted.
                each.listen(0)
            await asyncio.sleep(LINGER_S / 2)
            for server in self.servers:
                server.close()
            await asyncio.sleep(LINGER_S / 2)
            await super().shutdown(sockets)

        def _reload(self) -> None:
            self.reloading = asyncio.create_task(_reload_quietly(service))

    # The server raises the signal again after draining, which would end the process with a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: early.append(number))
    server = Draining(config)
    server.run(sockets=[listening])
    if problems:
        raise problems[0]


async def _first_load(service: Any) -> str | None:
    """Loads a version; returns why none can be opened."""
    try:
        await service.start()
    except UserError as error:
        return str(error)
    return None


async def _reload_quietly(service: Any) -> None:
    with contextlib.suppress(UserError):
        await service.reload()


def _supervise(settings: ServeSettings, listening: socket.socket, state: Path) -> None:
    """Starts the processes, restarts those that die, forwards signals.

    Args:
        settings: The settings.
        listening: The bound socket.
        state: Folder in which the processes' counts get a folder.

    Raises:
        UserError: If no version can be opened before any process has served.
    """
    with _counts_folder(state) as counts:
        os.environ[MULTIPROCESS] = str(counts)
        _supervise_counted(settings, listening)


def _supervise_counted(settings: ServeSettings, listening: socket.socket) -> None:
    from shelfrank.serve.metrics import forget_process, restart_counter

    # A process that counted its own start would not count one that ends before it gets so far.
    count_restart = restart_counter()
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    reports: list[Connection] = []
    ending: list[int] = []
    signalled: set[int] = set()
    has_served = False
    problem: str | None = None

    def start() -> BaseProcess:
        report = None
        if not has_served:
            receiving, report = context.Pipe(duplex=False)
            reports.append(receiving)  # pyright: ignore[reportArgumentType] (of Windows, where no service runs)
        process = context.Process(target=run_worker, args=(settings, listening, report))
        # The process inherits this, so that no SIGHUP arrives before it can handle one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            if report is not None:
                # Only the process holds it now, so that the end of the process is an end of file here.
                report.close()
        return process

    def forward(number: int, _: Any) -> None:
        if number != signal.SIGHUP:
            ending.append(number)
        for worker in workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, number)
                if number != signal.SIGHUP:
                    signalled.add(worker.pid)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    workers.extend(start() for _ in range(settings.workers))
    while not ending:
        time.sleep(POLL_PROCESSES_S)
        reasons = _received(reports)
        has_served = has_served or None in reasons
        if reasons and not has_served:
            problem = reasons[0]
            break
        for place, worker in enumerate(workers):
            if not worker.is_alive() and not ending:
                log.error("process %s ended with exit code %s and is restarted", worker.pid, worker.exitcode)
                assert worker.pid is not None
                forget_process(worker.pid)
                time.sleep(RESTART_AFTER_S)
                workers[place] = start()
                count_restart()
    for worker in workers:
        if worker.is_alive() and worker.pid is not None and worker.pid not in signalled:
            # It was started when the signal arrived. A second signal would end the others at once.
            os.kill(worker.pid, signal.SIGTERM)
        worker.join(settings.drain_s + SHUTDOWN_S + KILL_AFTER_S)
        if worker.is_alive():
            log.error("process %s does not end and is killed", worker.pid)
            worker.kill()
            worker.join()
    if problem is not None:
        raise UserError(problem)


def _received(reports: list[Connection]) -> list[str | None]:
    """Removes the reports that have arrived: None from a process that serves, else why it can open no version."""
    reasons: list[str | None] = []
    for report in [each for each in reports if each.poll()]:
        reports.remove(report)
        # A process that was killed while loading sends nothing.
        with contextlib.suppress(EOFError), report:
            reasons.append(report.recv())
    return reasons


@contextlib.contextmanager
def _bound(settings: ServeSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise UserError(
                f"{settings.host}:{settings.port} must be an address of this machine with a free port, but it cannot "
                f"be bound: {error.strerror or error}; choose another --host or --port"
            ) from error
        listening.set_inheritable(True)
        yield listening


@contextlib.contextmanager
def _state(settings: ServeSettings) -> Iterator[Path]:
    if settings.state is None:
        with tempfile.TemporaryDirectory(prefix="shelfrank-") as folder:
            yield Path(folder)
        return
    settings.state.mkdir(parents=True, exist_ok=True)
    # The system drops the lock when this process ends, however it ends.
    with (settings.state / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--state must be a folder that no other service uses, but a running service uses {settings.state}; "
                "end that one, or name another folder"
            ) from error
        from shelfrank.serve.journal import Journal

        # What is wrong with it is said here, once, and not by each process.
        Journal(settings.state).close()
        yield settings.state


@contextlib.contextmanager
def _counts_folder(state: Path) -> Iterator[Path]:
    """Makes a folder in which the processes share their counts, and clears those of services that were killed."""
    for stale in state.glob(f"{COUNTS}*"):
        # A folder without the mark is not ours, whatever its name, and a file in it that we do not write is kept.
        if (stale / CLAIM).is_file():
            _clear_counts(stale)
    folder = Path(tempfile.mkdtemp(prefix=COUNTS, dir=state))
    (folder / CLAIM).touch()
    try:
        yield folder
    finally:
        _clear_counts(folder)


def _clear_counts(folder: Path) -> None:
    for file in (*folder.glob("*_*.db"), folder / CLAIM):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
