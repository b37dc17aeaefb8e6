"""Folders that hold the folds of a step: the same step done once per fold, all published together.

A fold is a finished folder of its own, `fold-1` for the earliest. Until every fold is finished, the finished ones stay
beside the folder, so that a step that was killed resumes after the last of them.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shelfrank.core.artifact import MANIFEST, Draft, Manifest, fingerprint, read_manifest
from shelfrank.core.errors import UserError

FOLDS = "folds"
"""The fact of a manifest that names the folds of a folder, from the earliest to the latest."""


def fold_name(number: int) -> str:
    """The folder's name of a fold, counted from 1."""
    return f"fold-{number}"


def folds_in_progress(out: Path, inputs: dict[str, Any]) -> Path:
    """Where the finished folds of a step stay until all are finished; those of other inputs are elsewhere."""
    return out.with_name(f".{out.name}.folds") / fingerprint(inputs)[:16]


def clear_other_folds(folder: Path) -> None:
    """Removes what an interrupted step of other inputs left beside a folder of `folds_in_progress`."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def gather_folds(folder: Path, names: Iterable[str], kind: str, draft: Draft) -> None:
    """Puts finished folds into the draft of the folder that holds them all."""
    for name in names:
        shutil.copytree(folder / name, draft.path / name, copy_function=_link)
        # A manifest says what its step cost, which is another figure each time.
        draft.stand_ins[f"{name}/{MANIFEST}"] = read_manifest(folder / name, kind).fingerprint.encode()


def holds_folds(path: Path, kind: str) -> bool:
    """Whether a folder is of this kind and holds folds."""
    try:
        return FOLDS in read_manifest(path, kind).info
    except UserError:
        return False


def refuse_folds(path: Path, manifest: Manifest) -> None:
    """Raises a `UserError` where a folder holds folds and a step takes only one."""
    if FOLDS in manifest.info:
        first, last = manifest.info[FOLDS][0], manifest.info[FOLDS][-1]
        raise UserError(
            f"this step must be given one fold, but {path} holds {len(manifest.info[FOLDS])}; name one of them: "
            f"{path / last}, which learns from the most searches, or {path / first} to choose settings, since its "
            "validation searches are before every test window"
        )


def _link(source: str, target: str) -> None:
    # A link takes no time and no room; not every file system has them.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
