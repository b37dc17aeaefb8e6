"""Unique pairs, and every way in which a column of a batch can be a false negative."""

import numpy as np

from shelfrank.text.pairs import Pairs


def test_pairs_are_unique_with_their_counts_whatever_the_order_of_rows() -> None:
    queries, documents = ["sofa", "Sofa ", "lamp", "sofa"], ["red sofa", "red  sofa", "lamp", "blue sofa"]
    pairs = Pairs.unique(queries, documents, [2, 3, 1, 1])
    named = {
        (pairs.queries[q].strip().lower(), " ".join(pairs.documents[d].split())): int(n)
        for q, d, n in zip(pairs.query_idx, pairs.document_idx, pairs.counts, strict=True)
    }
    assert named == {("sofa", "red sofa"): 5, ("lamp", "lamp"): 1, ("sofa", "blue sofa"): 1}
    turned = Pairs.unique(queries[::-1], documents[::-1], [1, 1, 3, 2])
    assert (turned.queries, turned.documents) == (pairs.queries, pairs.documents)
    assert turned.counts.tolist() == pairs.counts.tolist()


def test_no_pairs_are_no_pairs() -> None:
    assert len(Pairs.unique([], [])) == 0


def test_only_known_positives_are_masked() -> None:
    pairs = Pairs.unique(
        ["sofa", "sofa", "couch", "lamp", "light"], ["red sofa", "blue sofa", "red sofa", "lamp", "lamp 2"]
    )
    place = {
        (pairs.queries[q], pairs.documents[d]): i
        for i, (q, d) in enumerate(zip(pairs.query_idx, pairs.document_idx, strict=True))
    }
    # Row sofa: `red sofa` again is its own document, that of couch; blue sofa is chosen for it elsewhere.
    batch = np.array(
        [place["sofa", "red sofa"], place["couch", "red sofa"], place["sofa", "blue sofa"], place["lamp", "lamp"]]
    )
    known = pairs.known_positives(batch)
    assert known.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]


def test_a_positive_outside_the_batch_counts_too() -> None:
    pairs = Pairs.unique(["a", "a", "b"], ["one", "two", "two"])
    batch = np.array([0, 2])
    assert [(pairs.queries[pairs.query_idx[i]], pairs.documents[pairs.document_idx[i]]) for i in batch] == [
        ("a", "one"),
        ("b", "two"),
    ]
    assert pairs.known_positives(batch).astype(int).tolist() == [[1, 1], [0, 1]]
