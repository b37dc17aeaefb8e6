"""Prepared data as it is read: columns by name and side, neutral customers, chosen searches, broken folders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from shelfrank.core.artifact import publish
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import (
    ARRAYS,
    KIND,
    ROW_ARRAYS,
    Column,
    Neutral,
    PreparedData,
    Split,
    id_hashes,
    save_columns,
    tie_keys,
)

NUMERICAL = (
    Column("price", Side.PRODUCT, 0, -2.0, 0.0),
    Column("loyalty", Side.CUSTOMER, 0, -0.5, 0.0, 0.25),
    Column("loyalty__missing", Side.CUSTOMER, 0, 0.0, 0.0, 1.0),
)
CATEGORICAL = (Column("brand", Side.PRODUCT, 4, 0, 0), Column("age_band", Side.CUSTOMER, 3, 2, 2, 2))


def make_split(sizes: tuple[int, ...] = (2, 0, 3, 1)) -> Split:
    rows = sum(sizes)
    ints = np.arange(rows, dtype=np.int32)
    return Split(
        name="train",
        tasks=("click",),
        numerical=np.arange(1.0, 3 * rows + 1, dtype=np.float32).reshape(rows, 3),
        categorical=np.arange(2 * rows, dtype=np.int32).reshape(rows, 2),
        labels=(ints[:, None] % 2).astype(np.int8),
        query_idx=ints,
        product_idx=ints + 10,
        customer_idx=ints - 1,
        position=ints + 1,
        tie_keys=ints.astype(np.uint64),
        search_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        numerical_columns=NUMERICAL,
        categorical_columns=CATEGORICAL,
        relevance=(ints % 4 - 1).astype(np.int8),
        relevance_classes=3,
    )


def write_prepared(out: Path, split: Split) -> Path:
    with publish(out, KIND, {}) as draft:
        columns = (split.numerical_columns, split.categorical_columns)
        save_columns(draft.path, split.tasks, *columns, split.relevance_classes)
        (draft.path / "train").mkdir()
        for name in (*ARRAYS, "relevance") if split.relevance_classes else ARRAYS:
            np.save(draft.path / "train" / f"{name}.npy", getattr(split, name))
    return out


@pytest.mark.parametrize(
    ("mode", "loyalty", "flag"), [("anonymous", 0.25, 1.0), ("zero", -0.5, 0.0), ("mean", 0.0, 0.0)]
)
def test_neutral_touches_customer_columns_only(mode: Neutral, loyalty: float, flag: float) -> None:
    split = make_split()
    neutral = split.neutral(mode)
    np.testing.assert_array_equal(neutral.numerical[:, 0], split.numerical[:, 0])
    assert set(neutral.numerical[:, 1].tolist()) == {loyalty}
    assert set(neutral.numerical[:, 2].tolist()) == {flag}
    np.testing.assert_array_equal(neutral.categorical[:, 0], split.categorical[:, 0])
    assert set(neutral.categorical[:, 1].tolist()) == {2}
    for name in (*ARRAYS[2:], "relevance", "relevance_classes"):
        assert getattr(neutral, name) is getattr(split, name)
    np.testing.assert_array_equal(split.numerical, make_split().numerical)


def test_select_leaves_out_sides_and_names() -> None:
    split = make_split()
    chosen = split.select(sides=[Side.CUSTOMER])
    assert [c.name for c in (*chosen.numerical_columns, *chosen.categorical_columns)] == ["price", "brand"]
    np.testing.assert_array_equal(chosen.numerical[:, 0], split.numerical[:, 0])
    chosen = split.select(names=["price", "age_band"])
    assert [c.name for c in chosen.numerical_columns] == ["loyalty", "loyalty__missing"]
    np.testing.assert_array_equal(chosen.numerical, split.numerical[:, 1:])
    np.testing.assert_array_equal(chosen.categorical, split.categorical[:, :1])
    assert chosen.relevance is split.relevance
    assert chosen.relevance_classes == 3
    assert split.select() is split


def test_select_of_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="features of the prepared data, but cost is none of age_band, brand, loyalty"):
        make_split().select(names=["cost"])


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [([2, 0], [2, 3, 4, 0, 1]), ([1], []), ([], []), ([3, 3], [5, 5]), ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])],
)
def test_chosen_searches_keep_their_rows(chosen: list[int], rows: list[int]) -> None:
    split = make_split()
    some = split.searches(np.array(chosen, dtype=np.int64))
    for name in ROW_ARRAYS:
        np.testing.assert_array_equal(getattr(some, name), getattr(split, name)[rows])
    assert some.relevance_classes == 3
    assert np.diff(some.search_offsets).tolist() == [[2, 0, 3, 1][i] for i in chosen]


def test_a_column_by_name() -> None:
    np.testing.assert_array_equal(make_split().column("loyalty"), make_split().numerical[:, 1])
    with pytest.raises(UserError, match="must have the numerical feature 'query_in_title', but it has not"):
        make_split().column("query_in_title")


@pytest.mark.parametrize("name", ROW_ARRAYS)
def test_arrays_that_do_not_fit_together_are_refused(name: str) -> None:
    split = make_split()
    # A run that checks the signatures' shapes as well refuses before our own check does.
    with pytest.raises((AssertionError, BeartypeCallHintViolation), match=r"must have \d rows|dimension rows"):
        replace(split, **{name: getattr(split, name)[:-1]})


def test_a_finished_folder_opens_with_the_same_arrays(tmp_path: Path) -> None:
    split = make_split()
    data = PreparedData.open(write_prepared(tmp_path / "out", split))
    read = data.split("train")
    assert (data.tasks, data.numerical_columns, data.categorical_columns) == (("click",), NUMERICAL, CATEGORICAL)
    for name in (*ARRAYS, "relevance"):
        np.testing.assert_array_equal(getattr(read, name), getattr(split, name))
    assert isinstance(read.numerical, np.memmap)
    assert (read.n_rows, read.n_searches) == (6, 4)
    assert (data.relevance_classes, read.relevance_classes) == (3, 3)


def test_without_relevance_labels_every_row_lacks_one(tmp_path: Path) -> None:
    unlabelled = replace(make_split(), relevance=np.array([-1], np.int8), relevance_classes=0)
    data = PreparedData.open(write_prepared(tmp_path / "out", unlabelled))
    read = data.split("train")
    # The folder is as it was before there were such labels, and such a folder opens.
    assert "relevance" not in (tmp_path / "out" / "columns.json").read_text()
    assert not (tmp_path / "out" / "train" / "relevance.npy").exists()
    assert (data.relevance_classes, read.relevance_classes) == (0, 0)
    for split in (unlabelled, read):
        assert split.relevance.dtype == np.int8
        assert split.relevance.tolist() == [-1] * 6
        assert split.searches(np.array([3, 0])).relevance.tolist() == [-1] * 3


def test_a_split_may_lack_the_labels_that_another_has(tmp_path: Path) -> None:
    split = make_split()
    with publish(tmp_path / "out", KIND, {}) as draft:
        save_columns(draft.path, split.tasks, NUMERICAL, CATEGORICAL, relevance_classes=3)
        for folder in ("train", "valid"):
            (draft.path / folder).mkdir()
            for name in ARRAYS:
                np.save(draft.path / folder / f"{name}.npy", getattr(split, name))
        np.save(draft.path / "train" / "relevance.npy", split.relevance)
    data = PreparedData.open(tmp_path / "out")
    assert data.split("train").relevance.tolist() == [-1, 0, 1, 2, -1, 0]
    assert data.split("valid").relevance.tolist() == [-1] * 6
    assert data.split("valid").relevance_classes == 3


def test_an_empty_split_opens(tmp_path: Path) -> None:
    assert PreparedData.open(write_prepared(tmp_path / "out", make_split(()))).split("train").n_rows == 0


def test_a_truncated_array_is_told(tmp_path: Path) -> None:
    file = write_prepared(tmp_path / "out", make_split()) / "train" / "labels.npy"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"labels.npy must have 134 bytes as its manifest says, but it has 132 bytes"):
        PreparedData.open(tmp_path / "out")


def test_bytes_that_are_no_array_are_told(tmp_path: Path) -> None:
    file = write_prepared(tmp_path / "out", make_split()) / "train" / "labels.npy"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(UserError, match=r"labels.npy must be a NumPy array, but it cannot be read: .*; prepare again"):
        PreparedData.open(tmp_path / "out").split("train")


def test_hashes_are_fixed_and_ties_differ_by_pair() -> None:
    searches, products = id_hashes(["s1", "s2"]), id_hashes(["p1", "p2", "p3"])
    # printf s1 | b2sum -l 64, read as a little-endian number
    assert id_hashes(["s1"]).tolist() == [6064584127301525897]
    keys = tie_keys(np.repeat(searches, 3), np.tile(products, 2))
    assert len(set(keys.tolist())) == 6
    assert tie_keys(searches[:1], products[:1])[0] == keys[0]
    # Which of two products comes first must differ between searches, or ties would favour one product.
    many = id_hashes([f"s{i}" for i in range(400)])
    first = tie_keys(many, np.repeat(products[:1], 400)) < tie_keys(many, np.repeat(products[1:2], 400))
    assert 150 < first.sum() < 250
