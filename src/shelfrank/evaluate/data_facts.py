"""Facts of the data for comparisons and model cards: sizes, features, and everything that was left out."""

from pathlib import Path
from typing import Any

from shelfrank.core.artifact import Manifest, read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.logs import search_log


def data_facts(prepared: PreparedData) -> dict[str, Any]:
    """Reads the facts of prepared data from its manifest, and those of the import from the log's.

    Args:
        prepared: The data.

    Returns:
        Name, fingerprint, sizes by split, features by side, sampling, how queries are read, and notes; `left_out` of
        the log's rows by reason, `left_out_at_import` likewise (None where the log is no longer at hand), and
        `left_out_features` with the reason of each.
    """
    info = prepared.manifest.info
    log = log_manifest(prepared)
    return {
        "name": info["log_name"],
        "fingerprint": prepared.manifest.fingerprint,
        "splits": {name: info["splits"][name] for name in SPLITS},
        "features": info["features"],
        "left_out": info["left_out"],
        "left_out_at_import": None if log is None else log.info.get("left_out", {}),
        "left_out_features": info["left_out_features"],
        "sampling": info.get("sampling"),
        "understanding": info.get("understanding"),
        "notes": [*_fold_notes(prepared), *prepared.feature_notes()],
    }


def _fold_notes(prepared: PreparedData) -> list[str]:
    if not prepared.folds:
        return []
    return [
        f"{len(prepared.folds)} forward folds: every test search is ranked by a ranker that was trained on earlier "
        "searches alone; training, validation, features and parameters are shown for the last fold"
    ]


def log_manifest(prepared: PreparedData) -> Manifest | None:
    """The manifest of the log that the data was prepared from; None where it is gone or has changed since."""
    try:
        manifest = read_manifest(Path(prepared.manifest.info["log"]), search_log.KIND)
    except UserError:
        return None
    return manifest if manifest.fingerprint == prepared.manifest.inputs["log"] else None
