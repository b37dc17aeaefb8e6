import numpy as np
import pytest

from shelfrank.prepare.interactions import MAX_PRODUCT_WORDS, MAX_QUERY_WORDS, OVERLAP_FEATURES, TextOverlap


def shares(query: str, title: str, document: str | None = None) -> list[float]:
    overlap = TextOverlap([query], [title], [title if document is None else document])
    return overlap.features(np.zeros(1, np.int32), np.zeros(1, np.int32))[0].tolist()


@pytest.mark.parametrize(
    ("query", "title", "share"),
    [
        ("red sofa", "Sofa, red", 1.0),
        ("red sofa", "red chair", 0.5),
        ("sofa sofa bed", "a sofa", 0.5),
        ("SOFÁ", "sofá", 1.0),
        ("3-seater", "seater (3)", 1.0),
        ("wide_angle", "angle wide", 1.0),
        ("sof", "sofa", 0.0),
        ("", "sofa", 0.0),
        ("!?", "sofa", 0.0),
        ("sofa", "", 0.0),
        ("", "", 0.0),
        ("床", "床 架", 1.0),
    ],
)
def test_share_of_the_query_in_the_title(query: str, title: str, share: float) -> None:
    assert shares(query, title)[0] == share


def test_the_document_has_words_that_the_title_has_not() -> None:
    in_title, in_document, by_idf = shares("acme sofa", "sofa", "sofa acme")
    assert (in_title, in_document, by_idf) == (0.5, 1.0, 1.0)


def test_rare_words_weigh_more() -> None:
    documents = ["sofa", "sofa", "sofa acme"]
    overlap = TextOverlap(["acme sofa"], documents, documents)
    rows = overlap.features(np.zeros(3, np.int32), np.arange(3, dtype=np.int32))
    acme, sofa = np.log1p(3 / 2), np.log1p(3 / 4)
    np.testing.assert_allclose(rows[:, 1], [0.5, 0.5, 1.0])
    np.testing.assert_allclose(rows[:, 2], [sofa / (acme + sofa), sofa / (acme + sofa), 1.0], rtol=1e-6)


def test_pairs_are_looked_up_by_index() -> None:
    overlap = TextOverlap(["red", "blue"], ["red", "blue", "grey"], ["red", "blue", "grey"])
    pairs = overlap.features(np.array([0, 1, 1], np.int32), np.array([0, 0, 1], np.int32))
    assert pairs[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert pairs.shape == (3, len(OVERLAP_FEATURES))
    assert overlap.features(np.zeros(0, np.int32), np.zeros(0, np.int32)).shape == (0, 3)


def test_words_beyond_the_limit_are_not_compared_and_the_texts_are_counted() -> None:
    query = " ".join(f"w{i}" for i in range(MAX_QUERY_WORDS + 1))
    title = " ".join(f"w{i}" for i in range(MAX_PRODUCT_WORDS + 1))
    overlap = TextOverlap([query, "w0", f"w{MAX_PRODUCT_WORDS}"], [title, "w0"], ["w0", "w0"])
    assert overlap.truncated == 2
    rows = overlap.features(np.array([0, 2], np.int32), np.zeros(2, np.int32))
    assert rows[:, 0].tolist() == [1.0, 0.0]


def test_repeated_words_do_not_count_towards_the_limit() -> None:
    assert TextOverlap(["red " * 100], ["red " * 100], ["red " * 100]).truncated == 0
