"""Versions are opened and checked in a process of their own before they may serve.

Foreign code that reads a damaged model may end its process, take all memory or never return. So a child process opens a
version first, answers its golden pages and scores rows of odd values; the service opens only what came through. The
outcome is kept in the state folder: a version that ended its child is never opened again, by no process of the service
and after no restart, and one that passed is not checked again.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shelfrank.bundle.spec import Precision
from shelfrank.bundle.store import Version
from shelfrank.core.artifact import MANIFEST, write_atomic
from shelfrank.core.errors import UserError

log = logging.getLogger("shelfrank.serve")
CHECKED = "checked"
CPU_S = 30.0
"""Processor seconds that a child may take, besides those for the size of its files."""
BYTES_PER_CPU_S = 10_000_000
WALL_FACTOR = 10
"""Times the processor seconds that a child may take on a busy machine."""
MEMORY_BYTES = 4_000_000_000
"""Memory that a child may take, besides `MEMORY_PER_BYTE` for its files."""
MEMORY_PER_BYTE = 20
LIBRARIES = ("shelfrank", "numpy", "onnxruntime", "lightgbm", "xgboost", "catboost", "pyarrow", "tokenizers", "tantivy")
"""Another version of one of them may open what this one cannot."""
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end a child for reasons that are not its version's."""
MAX_REASON = 200


class EndedProcessError(UserError):
    """A version that ended the process that opened it."""


class VersionChecks:
    """The outcomes of one service's checks, which its processes share.

    Args:
        state: The service's state folder.
        precision: Precision in which versions are opened.
        has_page: Whether their shops are opened too.
    """

    def __init__(self, state: Path, precision: Precision, has_page: bool) -> None:
        self._folder, self._precision, self._has_page = state / CHECKED, precision, has_page
        self._child: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def refuse_known(self, name: str, folder: Path) -> None:
        """Raises an `EndedProcessError` for a version that has ended a process, before any other file of it is read."""
        outcome = self._outcome(folder)
        if outcome is not None and not outcome["passed"]:
            raise EndedProcessError(
                f"bundle {name} must not end the process that opens it, but it did: {outcome['reason']}; it is not "
                "tried again, so export the run again"
            )

    def check(self, version: Version) -> None:
        """Opens a version in a child process, unless it has passed before.

        Args:
            version: A version whose bytes are verified.

        Raises:
            EndedProcessError: If it ends a process, now or before.
            UserError: If it cannot be opened or misses its golden pages.
        """
        with self._locked():
            # Another process of the service may have checked it meanwhile.
            self.refuse_known(version.name, version.path)
            if self._outcome(version.path) is not None:
                return
            problem, reason = self._run(version)
            if problem is not None:
                raise UserError(problem)
            self._keep(version, reason)
        self.refuse_known(version.name, version.path)

    def stop(self) -> None:
        """Ends a check in progress."""
        self._is_stopped = True
        if self._child is not None:
            self._child.kill()

    def _run(self, version: Version) -> tuple[str | None, str | None]:
        """Checks a version; the problem that its child found, and how the version ended its child."""
        n_bytes = sum(entry["bytes"] for entry in version.manifest.files.values())
        cpu_s = int(CPU_S + n_bytes / BYTES_PER_CPU_S)
        memory_bytes = MEMORY_BYTES + MEMORY_PER_BYTE * n_bytes
        command = [
            *(sys.executable, "-m", __name__, str(version.path), self._precision),
            *(str(int(self._has_page)), str(cpu_s), str(memory_bytes)),
        ]
        paths = os.pathsep.join(path or os.curdir for path in sys.path)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": paths},
            # A Ctrl-C is for the service, which ends the check itself.
            start_new_session=True,
        )
        self._child = child
        if self._is_stopped:
            child.kill()
        try:
            out, errors = child.communicate(timeout=WALL_FACTOR * cpu_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None, f"no end within {WALL_FACTOR * cpu_s} s"
        finally:
            self._child = None
        with contextlib.suppress(ValueError):
            return json.loads(out)["problem"], None
        if -child.returncode in FROM_OUTSIDE:
            return f"bundle {version.name} must be checked before it serves, but its check was killed", None
        if -child.returncode == signal.SIGXCPU:
            return None, f"no end within {cpu_s} s of processor time"
        how = f"exit code {child.returncode}" if child.returncode >= 0 else signal.Signals(-child.returncode).name
        said = [line.strip() for line in errors.splitlines() if line.strip()]
        return None, f"{how}, {said[-1][:MAX_REASON]}" if said else how

    def _keep(self, version: Version, reason: str | None) -> None:
        outcome = {"bundle": version.name, "passed": reason is None, "reason": reason}
        try:
            write_atomic(self._file(version.path), json.dumps(outcome, indent=1).encode())
        except OSError as error:
            log.warning("the check of bundle %s is not kept, since it cannot be written: %s", version.name, error)
            if reason is not None:
                raise EndedProcessError(
                    f"bundle {version.name} must not end the process that opens it, but it did: {reason}"
                ) from error

    def _outcome(self, folder: Path) -> dict[str, Any] | None:
        try:
            outcome = json.loads(self._file(folder).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return outcome if isinstance(outcome, dict) and {"passed", "reason"} <= outcome.keys() else None

    def _file(self, folder: Path) -> Path:
        # Not the fingerprint, which may be the old one where a file and its entry were changed.
        versions = [_version_of(library) for library in LIBRARIES]
        settings = json.dumps([self._precision, self._has_page, versions]).encode()
        digest = hashlib.sha256(settings + b"\n" + (folder / MANIFEST).read_bytes()).hexdigest()
        return self._folder / f"{digest[:32]}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # On a full disk, each process checks by itself.
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                fcntl.flock(stack.enter_context((self._folder / "lock").open("w")), fcntl.LOCK_EX)
            yield


def end_with_parent(number: int) -> None:
    """Has the system send this process a signal when its parent ends for any reason; on Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        set_death_signal = 1
        prctl(set_death_signal, number)


def _version_of(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(folder: str, precision: Precision, has_page: str, cpu_s: str, memory_bytes: str) -> None:
    """Opens and checks a version, and prints the problem that it finds, or None, as JSON.

    Args:
        folder: The version's folder.
        precision: Precision of the graphs.
        has_page: 1 if the shop is opened too, else 0.
        cpu_s: Processor seconds after which the system ends this process.
        memory_bytes: Memory that it may take.
    """
    report = os.dup(1)
    # Foreign code prints what it likes.
    os.dup2(2, 1)
    end_with_parent(signal.SIGKILL)
    with contextlib.suppress(OSError):
        # If memory runs out, the system ends this process and not the service.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(cpu_s)),
        (resource.RLIMIT_DATA, int(memory_bytes)),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    problem = None
    try:
        _open(Path(folder), precision, has_page == "1")
    except UserError as error:
        problem = str(error)
    except BaseException as error:  # Libraries written in Rust raise errors that are no Exception.
        problem = (
            f"bundle {Path(folder).name} must load, but it fails with {type(error).__name__}: {error}; export the run "
            "again"
        )
    os.write(report, json.dumps({"problem": problem}).encode())
    # Without the destructors of foreign code, which the report would come too early for.
    os._exit(0)


def _open(folder: Path, precision: Precision, has_page: bool) -> None:
    from shelfrank.bundle.golden import open_checked, score_odd_rows

    bundle, _ = open_checked(folder, precision)
    score_odd_rows(bundle, folder)
    from shelfrank.serve.shop import Shop

    if Shop.is_in(folder):
        from shelfrank.serve.titles import Titles

        Titles(folder)
        if has_page:
            import tempfile

            with tempfile.TemporaryDirectory() as state:
                Shop(bundle, folder, Path(state))


if __name__ == "__main__":
    main(*sys.argv[1:])  # pyright: ignore[reportArgumentType]
