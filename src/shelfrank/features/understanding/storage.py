"""Query understanding on disk: texts as JSON, numbers as NumPy arrays, the same bytes whenever the same is saved."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shelfrank.core.errors import UserError

VERSION = 2


def save_parts(folder: Path, parts: Mapping[str, tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]) -> None:
    """Writes `texts.json` and `numbers.npz`.

    Args:
        folder: Where to; it is made if need be.
        parts: Of each part, its texts and its arrays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"version": VERSION, "parts": {name: own for name, (own, _) in parts.items()}}
    (folder / "texts.json").write_text(json.dumps(texts, ensure_ascii=True, sort_keys=True), encoding="ascii")
    # Written here, because an archive of NumPy's own may hold the time.
    with zipfile.ZipFile(folder / "numbers.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (_, arrays) in sorted(parts.items()):
            for key, array in sorted(arrays.items()):
                with archive.open(zipfile.ZipInfo(f"{name}.{key}.npy"), "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def load_parts(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Reads what `save_parts` wrote.

    Args:
        folder: The folder.

    Returns:
        Of each part, its texts and its arrays.

    Raises:
        UserError: Where the folder or a file is missing, damaged, or of another version.
    """
    try:
        texts = json.loads((folder / "texts.json").read_text(encoding="ascii"))
        version = texts["version"]
        parts: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
            name: (own, {}) for name, own in texts["parts"].items()
        }
        # Opened here, because NumPy leaves a file open that is no archive.
        with (folder / "numbers.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                part, _, key = name.partition(".")
                parts[part][1][key] = archive[name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        problem = " ".join(str(error).split())
        raise UserError(
            f"{folder} must hold a saved query understanding, but it cannot be read ({problem}); save it again"
        ) from error
    if version != VERSION:
        raise UserError(
            f"{folder} must be query understanding of version {VERSION}, but it is {version!r}; save it again"
        )
    return parts
