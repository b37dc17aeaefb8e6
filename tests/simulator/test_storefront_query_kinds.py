"""Kinds of queries: known cases on a few products, and plain loops over the tables of a log."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.logs.search_log import SearchLog
from shelfrank.simulator import Storefront, StorefrontConfig, simulate
from shelfrank.simulator.assortment import read_assortment
from shelfrank.simulator.queries import N_CLEAN, N_WORDINGS
from shelfrank.simulator.query_kinds import QueryKinds
from shelfrank.simulator.retrieval import words_of
from shelfrank.simulator.visits import SEARCH

CONFIG = StorefrontConfig.model_validate(
    {"searches": 1500, "products": 3000, "customers": 200, "days": 10, "queries": {"intents": 2000}}
)
SOFA, LAMP, NO_TYPE = 0, 1, -1
TITLES = ["Red Sofa", "Blue Couches", "Couch, Leather", "Sofa Bed", "Couch Lamp"]
TYPES = [SOFA, SOFA, SOFA, SOFA, LAMP]
WORDINGS = [
    # What is typed, what was meant, the noun; the last two of each need are misspelt.
    ("red sofas", "red sofas", "sofas"),
    ("couch", "couch", "couch"),
    ("settee", "settee", "settee"),
    ("cuoch", "couch", "couch"),
    ("sofa for watchs", "sofa for watches", "sofa"),
    *[("red furniture", "red furniture", "furniture")] * N_CLEAN,
    *[("red furnitrue", "red furniture", "furniture")] * (N_WORDINGS - N_CLEAN),
]


@pytest.fixture(scope="module")
def classify() -> Any:
    shop = Storefront(CONFIG)
    unused = shop.catalogue.n_products - len(TYPES)
    catalogue = replace(shop.catalogue, kind=np.array([*TYPES, *[LAMP] * unused], dtype=np.int32))
    texts, meant, nouns = (list(column) for column in zip(*WORDINGS, strict=True))
    needs = np.array([SOFA, NO_TYPE], dtype=np.int32)
    intents = replace(
        shop.intents,
        category=np.zeros(2, dtype=np.int32),
        kind=needs,
        stated=shop.intents.stated[:2],
        cumulative=np.array([1.0, 2.0]),
        texts=texts,
        meant=meant,
        nouns=nouns,
    )
    kinds = QueryKinds(catalogue, TITLES, intents)

    def classify_all(cases: list[tuple[str, list[int]]]) -> list[dict[str, Any]]:
        searches = np.zeros(len(cases), dtype=SEARCH)
        forms = np.array([texts.index(text) for text, _ in cases])
        searches["intent"], searches["wording"] = forms // N_WORDINGS, forms % N_WORDINGS
        search = np.repeat(np.arange(len(cases)), [len(shown) for _, shown in cases])
        product = np.concatenate([shown for _, shown in cases]).astype(np.int32)
        return pa.table(kinds.classify(searches, search, product)).to_pylist()

    return classify_all


CASES = {
    # Query, products shown -> kind, whether misspelt, noun, share of the sofas whose title has the noun.
    "half_is_not_fewer_than_half": ("red sofas", [0, 1, 2, 3], ("plain", False, "sofas", 1 / 2)),
    "most_titles_say_couch": ("couch", [0, 1, 2], ("plain", False, "couch", 2 / 3)),
    "few_titles_say_couch": ("couch", [0, 2, 3, 4], ("synonym", False, "couch", 1 / 3)),
    "no_title_says_settee": ("settee", [0, 1], ("synonym", False, "settee", 0.0)),
    "no_right_product": ("couch", [4], ("plain", False, "couch", None)),
    "misspelt_beats_synonym": ("cuoch", [0, 2, 3], ("typo", True, "couch", 1 / 3)),
    "slip_that_leaves_the_words": ("sofa for watchs", [0, 3], ("plain", True, "sofa", 1.0)),
    "slip_that_leaves_the_words_of_a_synonym": ("sofa for watchs", [1, 2], ("synonym", True, "sofa", 0.0)),
    "names_no_type": ("red furniture", [0, 1], ("plain", False, None, None)),
    "misspelt_without_type": ("red furnitrue", [0, 1], ("typo", True, None, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_words_of_a_query_determine_its_kind(classify: Any, case: str) -> None:
    query, shown, expected = CASES[case]
    # Another search beside it must not matter.
    row, _ = classify([(query, shown), ("couch", [1, 2])])
    assert tuple(row.values()) == expected
    assert list(row) == ["query_kind", "misspelt", "noun", "words_shared"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> SearchLog:
    out = tmp_path_factory.mktemp("shop") / "log"
    simulate(out, CONFIG)
    return SearchLog.open(out)


def rows_of(log: SearchLog, table: str) -> list[dict[str, Any]]:
    return pq.read_table(log.path / table).to_pylist()


def test_every_search_with_impressions_has_one_row_in_their_order(log: SearchLog) -> None:
    search_ids = [row["search_id"] for row in rows_of(log, "truth/searches")]
    assert search_ids == list(dict.fromkeys(row["search_id"] for row in rows_of(log, "impressions")))


def test_the_share_is_that_of_the_tables(log: SearchLog) -> None:
    """The type of a query is found again by the one type whose words hold its noun."""
    types: dict[str, str] = {}
    for synonyms in read_assortment().kinds:
        types |= {word: synonyms[0] for noun in synonyms for word in (noun, f"{noun}s")}
    titles = {row["product_id"]: set(words_of(row["title"])) for row in rows_of(log, "products")}
    true_type = {row["product_id"]: row["kind"] for row in rows_of(log, "truth/products")}
    shown: dict[str, list[str]] = {}
    for row in rows_of(log, "impressions"):
        shown.setdefault(row["search_id"], []).append(row["product_id"])
    ambiguous = {word for word, n in Counter(w for kinds in read_assortment().kinds for w in kinds).items() if n > 1}
    n_shares = 0
    for row in rows_of(log, "truth/searches"):
        noun = row["noun"]
        if noun is None or noun in ambiguous or noun.removesuffix("s") in ambiguous:
            continue
        right = [titles[product] for product in shown[row["search_id"]] if true_type[product] == types[noun]]
        sharing = sum(set(words_of(noun)) <= words for words in right)
        assert row["words_shared"] == (pytest.approx(sharing / len(right)) if right else None)
        n_shares += bool(right)
    assert n_shares > 900


def test_kinds_have_their_shares(log: SearchLog) -> None:
    kinds = Counter(row["query_kind"] for row in rows_of(log, "truth/searches"))
    assert set(kinds) == {"plain", "synonym", "typo"}
    assert abs(kinds["typo"] / kinds.total() - CONFIG.queries.typo) < 0.02
    assert 0.05 < kinds["synonym"] / kinds.total() < 0.3


def test_only_slips_part_what_is_typed_from_what_was_meant() -> None:
    intents = Storefront(CONFIG).intents
    assert len(intents.texts) == len(intents.meant) == len(intents.nouns) == N_WORDINGS * len(intents.kind)
    for form, (text, meant, noun) in enumerate(zip(intents.texts, intents.meant, intents.nouns, strict=True)):
        assert (text == meant) == (form % N_WORDINGS < N_CLEAN)
        assert noun in meant
