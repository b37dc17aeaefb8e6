"""What exports of the same data share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shelfrank.config import EngineConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.features.build_store import build_store


@pytest.fixture(scope="session", autouse=True)
def build_feature_tables_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exports copy the online feature tables of the first export of the same prepared data."""
    folder = tmp_path_factory.mktemp("tables")
    built: dict[tuple[Path, str, Path | None], Path] = {}

    def build_or_copy(
        log: Path, prepared: Path, out: Path, scores: Path | None = None, engine: EngineConfig | None = None
    ) -> None:
        key = log, PreparedData.open(prepared).manifest.fingerprint, scores
        if key not in built:
            build_store(log, prepared, folder / str(len(built)), scores, engine)
            built[key] = folder / str(len(built))
        shutil.copytree(built[key], out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shelfrank.bundle.export.build_store", build_or_copy)
        yield
