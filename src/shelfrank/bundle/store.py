"""Versions of a bundle side by side, and the pointer to the current one.

BUNDLE/versions/000001-5f0c.../   complete or absent
BUNDLE/current                    the name of a version, replaced in one step and written last
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shelfrank.bundle.spec import KIND
from shelfrank.core.artifact import Draft, Manifest, fingerprint, publish, read_manifest, verify_files, write_atomic
from shelfrank.core.errors import UserError

log = logging.getLogger("shelfrank.bundle")
VERSIONS = "versions"
CURRENT = "current"
_NAME = re.compile(r"\d{6}-[0-9a-f]{12}")
_DRAFT = re.compile(r"\..*\.(?:tmp|old)-(\d+)")
_warned: set[tuple[Path, str]] = set()


@dataclass(frozen=True)
class Version:
    """One complete version.

    Attributes:
        path: Its folder.
        manifest: Its manifest.
    """

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Its number and the start of its inputs' fingerprint."""
        return self.path.name


class BundleStore:
    """The versions under one folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self) -> list[Version]:
        """Every version whose manifest can be read and whose files have their sizes, the oldest first."""
        versions = []
        for name in self._names():
            try:
                versions.append(self._read(name))
            except UserError as error:
                _warn_once(self.folder(name), str(error))
        return versions

    def current(self) -> str | None:
        """The name in the pointer; None without a pointer."""
        try:
            name = (self.path / CURRENT).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if _NAME.fullmatch(name) else None

    def open(self) -> Version:
        """Verifies and returns the pointer's version or, if that is not complete, the newest that is.

        Returns:
            The version.

        Raises:
            UserError: If no version is complete; the text has the reason for the first that was tried.
        """
        problem: UserError | None = None
        for name in self.candidates():
            try:
                return self.verified(name)
            except UserError as error:
                problem = problem or error
        reason = f"has none: {problem}" if problem else f"has none; run `shelfrank export RUN --out {self.path}`"
        raise UserError(f"{self.path} must hold a complete bundle, but it {reason}") from problem

    def candidates(self) -> list[str]:
        """Names of the versions in the order in which they are tried: the pointer's, then the newest first."""
        current = self.current()
        others = [name for name in reversed(self._names()) if name != current]
        return [*([current] if current else []), *others]

    def folder(self, name: str) -> Path:
        """The folder of a version, which need not exist."""
        return self.path / VERSIONS / name

    def stamp(self, name: str) -> tuple[tuple[str, int, int], ...]:
        """Path, size and time of each file of a version: another value once a file has come or changed."""
        found = []
        for file in self.folder(name).rglob("*"):
            # Files come and go while a version is copied.
            with contextlib.suppress(OSError):
                about = file.stat()
                found.append((str(file), about.st_size, about.st_mtime_ns))
        return tuple(sorted(found))

    def verified(self, name: str) -> Version:
        """Returns one version with every byte checked; a missing, partial or damaged one is a `UserError`."""
        version = self._read(name)
        verify_files(version.path, version.manifest)
        return version

    def publish(self, inputs: dict[str, Any], write: Callable[[Draft], None]) -> tuple[str, bool]:
        """Writes a version of the next number and points at it.

        If a version of the same inputs exists already, the pointer is set to it instead.

        Args:
            inputs: Plain data that determines the content.
            write: Fills the draft.

        Returns:
            The version's name, and whether it was written now.

        Raises:
            UserError: If the folder holds something else, or another process is writing the same version.
        """
        self._refuse_foreign()
        (self.path / VERSIONS).mkdir(parents=True, exist_ok=True)
        self._clear_after_crashes()
        digest = fingerprint(inputs)[:12]
        for version in reversed(self.versions()):
            if version.name.endswith(digest) and self._is_whole(version):
                self._write_pointer(version.name)
                return version.name, False
        number = max((int(name.partition("-")[0]) for name in self._names()), default=0) + 1
        name = f"{number:06d}-{digest}"
        with publish(self.folder(name), KIND, inputs) as draft:
            write(draft)
        self._write_pointer(name)
        return name, True

    def point(self, name: str) -> None:
        """Points at a complete version."""
        self.verified(name)
        self._write_pointer(name)

    def rollback(self, to: str | None = None) -> str:
        """Points at an older version.

        Args:
            to: Its name; None takes the newest complete one before the current one.

        Returns:
            Its name.

        Raises:
            UserError: If there is no such version.
        """
        known = [version.name for version in self.versions()]
        if to is not None:
            if to not in known:
                raise UserError(
                    f"a rollback must be to a version of {self.path} ({', '.join(known) or 'none'}), not to {to!r}"
                )
            self.point(to)
            return to
        current = self.current() or self.open().name
        for name in reversed([name for name in known if name < current]):
            with contextlib.suppress(UserError):
                self.point(name)
                return name
        raise UserError(f"{self.path} must have a complete version before {current} to roll back to, but it has none")

    def _write_pointer(self, name: str) -> None:
        write_atomic(self.path / CURRENT, f"{name}\n".encode())

    def _names(self) -> list[str]:
        folder = self.path / VERSIONS
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        # Drafts, locks and what file managers leave are hidden.
        for entry in entries:
            if not entry.name.startswith(".") and not (_NAME.fullmatch(entry.name) and entry.is_dir()):
                _warn_once(entry, f"{entry} is no version of a bundle")
        return [entry.name for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir()]

    def _read(self, name: str) -> Version:
        return Version(self.folder(name), read_manifest(self.folder(name), KIND))

    def _is_whole(self, version: Version) -> bool:
        with contextlib.suppress(UserError):
            verify_files(version.path, version.manifest)
            return True
        return False

    def _refuse_foreign(self) -> None:
        entries = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if entries and VERSIONS not in entries:
            raise UserError(
                f"{self.path} must be new or hold versions of a bundle, but it holds something else; "
                "write to another folder"
            )

    def _clear_after_crashes(self) -> None:
        for entry in (self.path / VERSIONS).iterdir():
            found = _DRAFT.fullmatch(entry.name)
            if found and not _is_alive(int(found[1])):
                shutil.rmtree(entry, ignore_errors=True)


def _warn_once(path: Path, problem: str) -> None:
    """Warns of an entry of a store that is passed over, once in this process."""
    if (path, problem) not in _warned:
        _warned.add((path, problem))
        log.warning("%s; it is passed over", problem)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:
        # No process has such a number.
        return False
    return True
