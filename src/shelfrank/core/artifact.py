"""Folders on disk that are either complete or absent.

Every step of the pipeline writes one folder with a `manifest.json`. The folder is written under a temporary
name, its files are hashed and synced, and it is renamed into place; the manifest names the step's inputs, so that a
finished step that is run again can be recognised and skipped.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shelfrank import __version__
from shelfrank.core.errors import UserError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1

_EXPORTED = "bundle"
"""The kind of folder that an export writes, which chooses the folder's name itself."""


@dataclass(frozen=True)
class Manifest:
    """Content and origin of a folder.

    Attributes:
        kind: Kind of the folder, for example `search_log`.
        inputs: Everything that decides the content: parents' fingerprints, resolved config, seeds.
        info: Facts about the content: row counts, left-out rows, cost of the step.
        files: For every file, its size in bytes and its sha256.
        fingerprint: Hash over kind, inputs and files.
    """

    kind: str
    inputs: dict[str, Any]
    info: dict[str, Any]
    files: dict[str, dict[str, Any]]
    fingerprint: str


@contextlib.contextmanager
def publish(path: Path, kind: str, inputs: dict[str, Any]) -> Iterator["Draft"]:
    """Opens a temporary folder that becomes `path` when the block ends without an error.

    Args:
        path: Where the finished folder goes; an older one there is replaced.
        kind: Kind of the folder.
        inputs: Plain data that decides the content.

    Yields:
        The draft: write files under `draft.path` and facts into `draft.info`.

    Raises:
        UserError: Where `path` holds something that no step of this kind wrote, or another process is writing it.
    """
    path = target(path)
    refuse_foreign(path, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _writer_lock(path):
        _clear_after_a_crash(path)
        draft = Draft(path=path.parent / f".{path.name}.tmp-{os.getpid()}", info={})
        draft.path.mkdir()
        try:
            yield draft
            files = _hash_files(draft.path)
            stand_ins = {name: _entry(content) for name, content in draft.stand_ins.items()}
            manifest = {
                "format": FORMAT_VERSION,
                "kind": kind,
                "shelfrank": __version__,
                "fingerprint": fingerprint({"kind": kind, "inputs": inputs, "files": files | stand_ins}),
                "inputs": inputs,
                "info": draft.info,
                "files": files,
            }
            write_atomic(draft.path / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            if _is_working_folder(path):
                _fill_in_place(draft.path, path)
            else:
                _keep_unlisted_files(path, draft.path)
                _swap_into_place(draft.path, path)
        except BaseException:
            shutil.rmtree(draft.path, ignore_errors=True)
            raise


def target(path: Path) -> Path:
    """Where a result at `path` is written: the folder or file that a link leads to, and `.` or `..` by its own name."""
    if path.name in ("", ".."):
        return path.resolve()
    # What cannot be looked at, such as a name that is too long, is told by what writes it.
    with contextlib.suppress(OSError):
        return path.resolve() if path.is_symlink() else path
    return path


@dataclass
class Draft:
    """A folder that is being written.

    Attributes:
        path: Where its files are written.
        info: Facts for the manifest.
        stand_ins: Content by file name that the fingerprint hashes instead of the file's own, so that a file can be
            written in another form without changing the fingerprint.
    """

    path: Path
    info: dict[str, Any]
    stand_ins: dict[str, bytes] = field(default_factory=dict)


def read_manifest(path: Path, kind: str) -> Manifest:
    """Reads and checks the manifest of a finished folder.

    Args:
        path: The folder.
        kind: The kind that the folder must have.

    Returns:
        The manifest.

    Raises:
        UserError: Where the folder is missing, of another kind, or a file of it is missing or has another size.
    """
    file = path / MANIFEST
    if not file.is_file():
        what = "is not a finished folder of shelfrank" if path.exists() else "does not exist"
        raise UserError(f"{path} must be {_spoken(kind, 'finished')}, but it {what}; run the step that writes it first")
    try:
        fields = _manifest_fields(json.loads(file.read_text(encoding="utf-8")))
    # JSON of a thousand brackets is a recursion error.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file} must be a manifest of shelfrank, but it cannot be read; remove {path} and {_anew('it', kind)}"
        ) from error
    if fields["kind"] != kind:
        raise UserError(f"{path} must be {_spoken(kind)}, but it is {_spoken(fields['kind'])}")
    for name, entry in fields["files"].items():
        size = _size(path / name)
        if size != entry["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise UserError(
                f"{path / name} must have {entry['bytes']} bytes as its manifest says, but it {found}; "
                f"{_anew(path, kind)}"
            )
    return Manifest(**fields)


def _manifest_fields(data: Any) -> dict[str, Any]:
    """The fields of a `Manifest` in JSON; raises a `ValueError`, a `KeyError` or such where the JSON is none."""
    fields = {name: data[name] for name in ("kind", "inputs", "info", "files", "fingerprint")}
    kinds = {"kind": str, "inputs": dict, "info": dict, "files": dict, "fingerprint": str}
    if not all(isinstance(fields[name], kind) for name, kind in kinds.items()):
        raise ValueError("a field is of another type")
    for name, entry in fields["files"].items():
        # A path that leads elsewhere would have another folder's file checked in place of its own.
        if _leads_elsewhere(name):
            raise ValueError("a file is elsewhere")
        if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
            raise ValueError("a file has no size or hash")
    return fields


def _leads_elsewhere(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name


def verify_files(path: Path, manifest: Manifest) -> None:
    """Compares every file's sha256 with the manifest; a difference is a `UserError`."""
    for name, entry in manifest.files.items():
        if _sha256(path / name) != entry["sha256"]:
            raise UserError(
                f"{path / name} must have the sha256 its manifest says, but its bytes have changed; "
                f"{_anew(path, manifest.kind)}"
            )


def is_current(path: Path, kind: str, inputs: dict[str, Any]) -> bool:
    """Whether `path` already holds the finished result of the same inputs."""
    try:
        manifest = read_manifest(path, kind)
    except UserError:
        return False
    return manifest.inputs == json.loads(json.dumps(inputs))


def refuse_foreign(path: Path, kind: str) -> None:
    """Raises a `UserError` where `path` holds anything but an older folder of this kind, which may be replaced.

    A file within it that its manifest does not list is not ours either.
    """
    above = next((folder for folder in path.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise UserError(f"{path} must be in a folder, but {above} is a file; write to another folder")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not _is_ours(path):
        raise UserError(
            f"{path} must be new or a folder that shelfrank wrote, but it holds something else; write to another folder"
        )
    found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["kind"]
    if found != kind:
        raise UserError(
            f"{path} must be new or {_spoken(kind, 'older')}, but it is {_spoken(found)}; write to another folder"
        )
    if unlisted := _unlisted_files(path):
        raise UserError(
            f"{path} must hold only files that shelfrank wrote, since it is replaced, but {unlisted[0]} is not among "
            "those of its manifest; move it away or write to another folder"
        )


def fingerprint(data: Any) -> str:
    """Hash of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, syncs it and renames it into place; a link is followed."""
    path = target(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


@contextlib.contextmanager
def _writer_lock(path: Path) -> Iterator[None]:
    lock = path.parent / f".{path.name}.lock"
    busy = f"only one process may write {path}, but another is writing it; wait for it or write to another folder"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(busy) from error
        # The last writer may have removed the file after it was opened here; a lock on it would exclude nobody.
        if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
            raise UserError(busy)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _unlisted_files(path: Path) -> list[Path]:
    """Files of a finished folder that its manifest does not list."""
    known = {MANIFEST, *_listed_files(path)}
    return sorted(
        file
        for file in path.rglob("*")
        if (file.is_symlink() or not file.is_dir()) and file.relative_to(path).as_posix() not in known
    )


def _listed_files(path: Path) -> set[str]:
    listed = json.loads((path / MANIFEST).read_text(encoding="utf-8")).get("files")
    return {name for name in listed if not _leads_elsewhere(name)} if isinstance(listed, dict) else set()


def _keep_unlisted_files(path: Path, draft: Path) -> None:
    """Copies files that were added to the older folder while the draft was written."""
    for file in _unlisted_files(path) if _is_ours(path) else ():
        kept = draft / file.relative_to(path)
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, kept, follow_symlinks=False)


def _is_working_folder(path: Path) -> bool:
    return path.is_dir() and path.samefile(os.curdir)


def _fill_in_place(draft: Path, path: Path) -> None:
    """Moves a draft's files into a folder, which must stay the same one, since the caller and its shell are in it.

    Without a manifest a folder is not finished, so the old one goes first and the new one comes last. Only files that
    the old manifest lists are removed.
    """
    listed = sorted(_listed_files(path)) if _is_ours(path) else []
    (path / MANIFEST).unlink(missing_ok=True)
    for name in listed:
        (path / name).unlink(missing_ok=True)
    for folder in sorted({path / above for name in listed for above in Path(name).parents[:-1]}, reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    files = [file for file in draft.rglob("*") if file.is_file() and file != draft / MANIFEST]
    for file in [*files, draft / MANIFEST]:
        place = path / file.relative_to(draft)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
    for folder in (path, *(found for found in path.rglob("*") if found.is_dir())):
        _sync_folder(folder)
    shutil.rmtree(draft, ignore_errors=True)


def _swap_into_place(draft: Path, path: Path) -> None:
    for folder in (draft, *(found for found in draft.rglob("*") if found.is_dir())):
        _sync_folder(folder)
    if not path.exists():
        draft.rename(path)
    elif not _exchange(draft, path):
        # Between these two renames there is no `path`; the next writer puts the old folder back.
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        path.rename(old)
        draft.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    _sync_folder(path.parent)
    shutil.rmtree(draft, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    at_working_folder, exchange = -100, 2
    if renameat2 is None:
        return False
    return renameat2(at_working_folder, os.fsencode(one), at_working_folder, os.fsencode(other), exchange) == 0


def _clear_after_a_crash(path: Path) -> None:
    for old in path.parent.glob(f".{path.name}.old-*"):
        if not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    for stale in path.parent.glob(f".{path.name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    # Other programs write a manifest.json too: browser extensions, web apps, build tools.
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    keys = {"format", "kind", "shelfrank", "fingerprint"}
    return isinstance(data, dict) and keys <= data.keys() and isinstance(data["kind"], str)


def _hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    entries = {}
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        entries[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    return entries


def _entry(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _anew(what: Path | str, kind: str) -> str:
    """How to get a damaged folder again."""
    return "export the run again" if kind == _EXPORTED else f"write {what} again"


def _spoken(kind: str, adjective: str = "") -> str:
    """A kind of folder in words, with its article; data and scores have none."""
    words = " ".join([*([adjective] if adjective else []), kind.replace("_", " ")])
    if kind.endswith(("_data", "_scores")):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
