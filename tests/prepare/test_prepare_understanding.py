from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from random_log import SCHEMA, one_thread, random_tables, write_log
from shelfrank.cli.commands import _prepared_facts
from shelfrank.config import UnderstandingConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.features.understanding import UNDERSTANDING, QueryUnderstanding, Status
from shelfrank.prepare import understanding
from shelfrank.prepare.pipeline import prepare
from shelfrank.prepare.relevance import PAIRS_FILE
from shelfrank.prepare.understanding import MAX_SHOWN_CHARACTERS, shorten


def test_the_commonest_words_that_are_not_understood_are_told_first(tmp_path: Path) -> None:
    tables = random_tables(seed=1, n_searches=40)
    queries: dict[str, str] = {}
    for row in tables["impressions"]:
        row["query"] = queries.setdefault(row["search_id"], "thing zebra" if len(queries) % 4 else "apple")
    prepare(write_log(tmp_path / "log", tables), tmp_path / "out", one_thread())
    line = next(line for line in _prepared_facts(PreparedData.open(tmp_path / "out").manifest.info) if "zebra" in line)
    assert line.endswith("2 words are not understood, most often (searches): zebra (30), apple (10)")


def test_of_long_blocks_whole_searches_are_learned_from(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=3, n_searches=40, n_moments=40))
    few = UnderstandingConfig(first_rows=1, max_rows=4)
    for name, settings in (("all", UnderstandingConfig(first_rows=1)), ("few", few)):
        prepare(log, tmp_path / name, one_thread(understanding=settings))
    infos = {name: PreparedData.open(tmp_path / name).manifest.info for name in ("all", "few")}
    left_out = {name: info["understanding"]["n_not_learned_from"] for name, info in infos.items()}
    assert left_out["all"] == 0
    assert 0 < left_out["few"] < infos["few"]["splits"]["train"]["impressions"]
    assert any(f"not learned from {left_out['few']:,} training rows" in line for line in _prepared_facts(infos["few"]))
    for name in infos:
        known = [stage.known_us for stage in QueryUnderstanding.load(tmp_path / name / UNDERSTANDING).stages]
        assert len(known) > 2
        assert (np.diff(known) > 0).all()


def test_the_relevance_of_pairs_does_not_depend_on_how_many_are_computed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = random_tables(seed=3, n_searches=40, n_moments=40)
    for number, product in enumerate(tables["products"]):
        product["title"] = ("red thing", "blue thing", "thing")[number % 3]
    log = write_log(tmp_path / "log", tables)
    config = one_thread(understanding=UnderstandingConfig(first_rows=1), relevance={"weights": {"understanding": 1}})
    prepare(log, tmp_path / "together", config)
    monkeypatch.setattr(understanding, "PAIRS_AT_ONCE", 3)
    prepare(log, tmp_path / "apart", config)
    together, apart = (pq.read_table(tmp_path / name / PAIRS_FILE) for name in ("together", "apart"))
    assert len(set(together["vote_understanding"].to_pylist())) > 1
    assert together.num_rows > 3
    assert together.equals(apart)


def test_a_text_that_is_a_list_is_answered_by_value(tmp_path: Path) -> None:
    tables = random_tables(seed=1, n_searches=40)
    for row in tables["impressions"]:
        row["query"] = "hotel pool"
    for number, product in enumerate(tables["products"]):
        product["offers"] = ("Pool, Free WiFi", "Bar", None)[number % 3]
    offers = {"name": "offers", "side": "product", "kind": "text", "separator": ","}
    log = write_log(tmp_path / "log", tables, schema={**SCHEMA, "features": [*SCHEMA["features"], offers]})
    prepare(log, tmp_path / "out", one_thread())
    learned = QueryUnderstanding.load(tmp_path / "out" / UNDERSTANDING)
    assert "query_offers_answer" in [feature.name for feature in learned.features]
    at = learned.lexicon.attributes.index("offers")
    readings = learned.read(["hotel pool"])
    n_products = len(tables["products"])
    compared = readings.compare(np.zeros(n_products, np.int32), np.arange(n_products, dtype=np.int32))
    by_number = [Status.MATCH, Status.CONFLICT, Status.UNKNOWN]
    assert compared.statuses[:, at].tolist() == [by_number[number % 3] for number in range(n_products)]


def test_a_long_word_is_cut_for_people() -> None:
    assert shorten("sofa") == "sofa"
    assert shorten("x" * 2000) == "x" * (MAX_SHOWN_CHARACTERS - 1) + "…"
