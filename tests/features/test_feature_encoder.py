import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.features.encoder import CategoricalEncoding, Encoder, NumericalBlock, NumericalEncoding, numbers, squash
from shelfrank.features.encoder_fit import (
    Moments,
    count_values,
    fit_categorical,
    fit_features,
    fit_numerical,
    lost_defaults,
)

NAN = math.nan


def numerical(**settings: object) -> Feature:
    return Feature.model_validate({"name": "price", "side": "product", "kind": "numerical"} | settings)


def categorical(**settings: object) -> Feature:
    return Feature.model_validate({"name": "brand", "side": "product", "kind": "categorical"} | settings)


def fit(values: list[float], always_known: bool = False, **settings: object) -> NumericalEncoding | str:
    feature, moments = numerical(**settings), Moments()
    raw = np.array(values)
    moments.add(squash(raw) if feature.log1p else raw)
    return fit_numerical(feature, moments, always_known)


def fitted(values: list[float], always_known: bool = False, **settings: object) -> NumericalEncoding:
    encoding = fit(values, always_known, **settings)
    assert isinstance(encoding, NumericalEncoding)
    return encoding


@settings(deadline=None)
@given(
    values=st.lists(st.one_of(st.floats(-100, 100), st.just(NAN)), min_size=1, max_size=30),
    offset=st.sampled_from([0.0, 2025.0, 1e9]),
    cut=st.integers(0, 30),
    data=st.data(),
)
def test_moments_equal_numpy_in_any_batches(values: list[float], offset: float, cut: int, data: st.DataObject) -> None:
    raw = np.round(np.array(values), 3) + offset
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(raw), max_size=len(raw))), dtype=float)
    moments = Moments()
    moments.add(raw[:cut], weights[:cut])
    moments.add(raw[cut:], weights[cut:])
    repeated = np.repeat(raw, weights.astype(int))
    present = repeated[~np.isnan(repeated)]
    assert (moments.n, moments.missing) == (len(present), len(repeated) - len(present))
    if len(present):
        assert moments.mean == pytest.approx(present.mean(), rel=1e-12, abs=1e-9)
        assert moments.std == pytest.approx(present.std(), rel=1e-5, abs=1e-5)
        if len(set(present)) == 1:
            assert moments.std == 0.0


def test_moments_without_weights_count_each_value_once() -> None:
    moments = Moments()
    moments.add(np.array([1.0, NAN, 3.0]))
    assert (moments.n, moments.missing, moments.mean, moments.std) == (2.0, 1.0, 2.0, 1.0)


def test_no_value_has_mean_and_spread_zero() -> None:
    assert (Moments().mean, Moments().std) == (0.0, 0.0)


def test_squash_is_ln_of_one_plus_the_size_with_the_sign() -> None:
    np.testing.assert_allclose(squash(np.array([math.e - 1, 0.0, 1 - math.e])), [1.0, 0.0, -1.0])


def test_numbers_are_standardised() -> None:
    encoding = fitted([1.0, 3.0], always_known=True)
    np.testing.assert_allclose(encoding.transform(np.array([1.0, 3.0, 6.0])), [[-1.0], [1.0], [4.0]])
    assert [(c.name, c.zero, c.mean) for c in encoding.columns()] == [("price", -2.0, 0.0)]


def test_heavy_tails_are_standardised_after_the_logarithm() -> None:
    encoding = fitted([0.0, math.e**2 - 1], always_known=True, log1p=True)
    assert (encoding.mean, encoding.std) == (1.0, 1.0)
    np.testing.assert_allclose(encoding.transform(np.array([0.0, math.e - 1])), [[-1.0], [0.0]], atol=1e-7)
    assert encoding.columns()[0].zero == -1.0


@pytest.mark.parametrize("log1p", [False, True])
def test_a_number_comes_back_from_its_encoding(log1p: bool) -> None:
    raw = np.array([0.0, 1.0, 47.0, 1e4, -3.0])
    encoding = fitted([0.0, 5.0, 2000.0], log1p=log1p)
    back = encoding.inverse(encoding.transform(raw)[:, 0])
    np.testing.assert_allclose(back, raw, rtol=1e-4, atol=1e-3)
    assert back[0] == 0


def test_a_missing_number_is_the_mean_and_has_a_flag() -> None:
    encoding = fitted([1.0, 3.0, NAN])
    np.testing.assert_allclose(encoding.transform(np.array([NAN, 3.0])), [[0.0, 1.0], [1.0, 0.0]])
    assert [(c.name, c.zero, c.mean, c.missing) for c in encoding.columns()] == [
        ("price", -2.0, 0.0, 0.0),
        ("price__missing", 0.0, 0.0, 1.0),
    ]


def test_a_missing_number_takes_the_declared_default() -> None:
    encoding = fitted([1.0, 3.0, NAN], default=5.0)
    np.testing.assert_allclose(encoding.transform(np.array([NAN])), [[3.0, 1.0]])
    assert [column.missing for column in encoding.columns()] == [3.0, 1.0]


def test_a_number_missing_only_later_has_a_flag() -> None:
    np.testing.assert_array_equal(fitted([1.0, 3.0]).transform(np.array([NAN])), [[0.0, 1.0]])


def test_a_computed_number_that_no_row_lacks_has_no_flag() -> None:
    encoding = fitted([1.0, 3.0], always_known=True, default=0.0)
    np.testing.assert_array_equal(encoding.transform(np.array([NAN, 3.0])), [[-2.0], [1.0]])
    assert [column.missing for column in encoding.columns()] == [-2.0]
    assert fitted([1.0, NAN], always_known=True).flags_missing


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no training row"),
        ([7.0, 7.0], "one value only in the training split"),
        ([NAN, NAN], "missing in every training row"),
    ],
)
def test_constant_numbers_are_left_out_with_the_reason(values: list[float], reason: str) -> None:
    assert fit(values) == reason


def test_one_number_that_is_sometimes_missing_is_kept_for_its_flag() -> None:
    np.testing.assert_array_equal(fitted([7.0, NAN]).transform(np.array([7.0, NAN])), [[0.0, 0.0], [0.0, 1.0]])


COUNTS = {"acme": 9, "bolt": 5, "cedar": 5, "dune": 2}
N_ROWS = sum(COUNTS.values())


@pytest.mark.parametrize(
    ("min_count", "max_categories", "kept"),
    [(1, 10, "acme bolt cedar dune"), (3, 10, "acme bolt cedar"), (1, 2, "acme bolt"), (5, 1, "acme")],
)
def test_frequent_categories_are_kept_ties_by_name(min_count: int, max_categories: int, kept: str) -> None:
    encoding = fit_categorical(categorical(), COUNTS, N_ROWS, min_count, max_categories)
    assert isinstance(encoding, CategoricalEncoding)
    assert encoding.values == tuple(kept.split())


def test_unknown_rare_and_missing_categories_have_code_zero() -> None:
    encoding = fit_categorical(categorical(), COUNTS, N_ROWS, 3, 10)
    assert isinstance(encoding, CategoricalEncoding)
    codes = encoding.transform(pa.array(["cedar", "dune", "never seen", None, "acme"]))
    assert codes.tolist() == [3, 0, 0, 0, 1]
    assert (encoding.column().size, encoding.column().zero) == (4, 0)


def test_a_category_comes_back_from_its_code() -> None:
    encoding = CategoricalEncoding("brand", Side.PRODUCT, ("acme", "bolt"), default=0)
    assert encoding.inverse(encoding.transform(pa.array(["bolt", "new", None, "acme"]))) == ["bolt", None, None, "acme"]


def test_a_missing_category_takes_the_declared_default() -> None:
    encoding = fit_categorical(categorical(default="bolt"), COUNTS, N_ROWS, 3, 10)
    assert isinstance(encoding, CategoricalEncoding)
    assert encoding.transform(pa.array(["never seen", None])).tolist() == [0, 2]
    assert encoding.column().zero == 2


def test_a_default_too_rare_for_a_code_is_code_zero() -> None:
    encoding = fit_categorical(categorical(default="dune"), COUNTS, N_ROWS, 3, 10)
    assert isinstance(encoding, CategoricalEncoding)
    assert encoding.transform(pa.array([None], pa.string())).tolist() == [0]


SPELLED = {
    "whole number": (3, pa.array([3, 4, None])),
    "whole number in a column with fractions": (3, pa.array([3.0, 4.5, None])),
    "fraction": (4.5, pa.array([4.5, 3.0, None])),
    "whole number written with a point": (3.0, pa.array([3, 4, None])),
    "large number": (10**15, pa.array([1e15, 2.0, None])),
    "boolean": (True, pa.array([True, False, None])),
    "false": (False, pa.array([False, True, None])),
    "boolean as a text file may have it": (True, pa.array(["True", "False", None])),
    "number as a text file has it": (3, pa.array(["3", "4", None])),
    "whole number in a column with fractions, imported": (3, pa.array(["3.0", "4.5", None])),
    "text": ("3", pa.array([3, 4, None])),
}


@pytest.mark.parametrize("case", SPELLED)
def test_a_default_is_spelled_as_the_values_are(case: str) -> None:
    default, column = SPELLED[case]
    encoding = fit_categorical(categorical(default=default), count_values(column), 3, 1, 10)
    assert isinstance(encoding, CategoricalEncoding)
    codes = encoding.transform(column)
    assert codes[2] == codes[0] != 0


def test_a_default_without_a_code_is_told() -> None:
    features = [categorical(name=name, default=default) for name, default in {"a": "bolt", "b": "dune", "c": 3}.items()]
    features.append(categorical(name="d"))
    fitted = fit_features(features, {}, dict.fromkeys("abcd", COUNTS), N_ROWS, PrepareConfig(min_count=3))
    assert lost_defaults(features, fitted) == {
        "b": "'dune' is no category with a code, so a missing value counts as unknown",
        "c": "3 is no category with a code, so a missing value counts as unknown",
    }


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"acme": 9}, "one value only in the training split"),
        ({"acme": 2, "bolt": 1}, "no category with 3 training rows"),
        ({}, "no category with 3 training rows"),
    ],
)
def test_useless_categories_are_left_out_with_the_reason(counts: dict[str, int], reason: str) -> None:
    assert fit_categorical(categorical(), counts, sum(counts.values()), 3, 10) == reason


def test_integers_and_booleans_are_categories_too() -> None:
    assert count_values(pa.array([3, 3, None, 4])) == {"3": 2, "4": 1}
    assert count_values(pa.array([True, False, True])) == {"true": 2, "false": 1}
    encoding = CategoricalEncoding("size", Side.PRODUCT, ("3", "4"), 0)
    assert encoding.transform(pa.chunked_array([[4], [5, 3]])).tolist() == [2, 0, 1]


def test_weights_count_a_category_as_often_as_its_entity_occurs() -> None:
    counts = count_values(pa.array(["acme", "bolt", None, "acme"]), np.array([2.0, 0.0, 9.0, 3.0]))
    assert counts == {"acme": 5}


def test_null_numbers_become_nan() -> None:
    np.testing.assert_array_equal(numbers(pa.array([1, None, 3])), [1.0, NAN, 3.0])


def test_save_and_load_give_the_same_encoder(tmp_path: Path) -> None:
    encoder = Encoder(
        numerical=(fitted([1.0, 3.3, NAN], default=2.0), fitted([1.0, 1 / 3], log1p=True)),
        categorical=(CategoricalEncoding("marke", Side.PRODUCT, ("größe", '"q"'), 1),),
        left_out={"blurb": "one value only in the training split"},
    )
    encoder.save(tmp_path / "encoder.json")
    assert Encoder.load(tmp_path / "encoder.json") == encoder
    assert Feature(name="x", side=encoder.numerical[0].side, kind=Kind.NUMERICAL).side is Side.PRODUCT


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows: int) -> None:
    assert fitted([1.0, 3.0]).transform(np.ones(rows)).shape == (rows, 2)
    assert CategoricalEncoding("b", Side.PRODUCT, ("x",), 0).transform(pa.array(["x"] * rows)).shape == (rows,)


def test_one_category_beside_missing_values_tells_presence() -> None:
    encoding = fit_categorical(categorical(), {"yes": 5}, 9, 3, 10)
    assert isinstance(encoding, CategoricalEncoding)
    assert encoding.values == ("yes",)
    assert encoding.transform(pa.array(["yes", None])).tolist() == [1, 0]


@pytest.mark.parametrize("n_rows", [1, 7])
def test_a_block_of_features_has_the_bits_of_each_alone(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    encodings = [
        NumericalEncoding(
            name=f"n{i}",
            side=Side.PRODUCT,
            log1p=bool(i & 1),
            fill=2.5 if i & 2 else None,
            mean=float(rng.normal()),
            std=float(rng.uniform(0.1, 9)),
            flags_missing=bool(i & 4),
        )
        for i in range(8)
    ]
    raw = rng.normal(size=(8, n_rows)) * 10
    for some in (raw, np.where(rng.random(raw.shape) < 0.4, NAN, raw)):
        block = NumericalBlock(encodings)
        alone = [encoding.transform(some[i]) for i, encoding in enumerate(encodings)]
        np.testing.assert_array_equal(block.transform(some), np.concatenate(alone, axis=1))
        assert block.n_columns == 12
    assert NumericalBlock([]).transform(np.empty((0, n_rows))).shape == (n_rows, 0)


def clipping(values: list[float], **settings: object) -> NumericalEncoding:
    feature, moments = numerical(**settings), Moments()
    raw = np.array(values)
    moments.add(squash(raw) if feature.log1p else raw)
    encoding = fit_numerical(feature, moments, is_clipped=True)
    assert isinstance(encoding, NumericalEncoding)
    return encoding


@pytest.mark.parametrize("log1p", [False, True])
def test_numbers_are_clipped_to_what_training_saw(log1p: bool) -> None:
    encoding, free = clipping([2.0, 4.0, 9.0], log1p=log1p), fitted([2.0, 4.0, 9.0], log1p=log1p)
    seen, outside = np.array([2.0, 4.0, 9.0]), np.array([-1e300, 1.999, 9.001, 1e300])
    np.testing.assert_array_equal(encoding.transform(seen), free.transform(seen))
    np.testing.assert_array_equal(encoding.transform(outside), free.transform(np.array([2.0, 2.0, 9.0, 9.0])))
    assert encoding.is_clipped(np.array([1.9, 2.0, 9.0, 9.1, NAN])).tolist() == [True, False, False, True, False]
    assert not free.is_clipped(outside).any()


def test_defaults_and_neutral_zeros_are_not_clipped() -> None:
    encoding, free = clipping([2.0, 4.0], default=-7.0), fitted([2.0, 4.0], default=-7.0)
    np.testing.assert_array_equal(encoding.transform(np.array([NAN])), free.transform(np.array([NAN])))
    assert encoding.columns() == free.columns()
    assert not encoding.is_clipped(np.array([NAN])).any()


def test_ranges_are_those_of_weighted_values_in_any_batches() -> None:
    one, other = Moments(), Moments()
    one.add(np.array([5.0, 900.0, NAN]), np.array([2.0, 0.0, 1.0]))
    assert (one.low, one.high) == (5.0, 5.0)
    other.add(np.array([-3.0, 7.0]))
    one.merge(other)
    assert (one.low, one.high) == (-3.0, 7.0)


def test_an_encoder_keeps_its_ranges_and_older_ones_have_none(tmp_path: Path) -> None:
    encoder = Encoder((clipping([2.0, 4.0]),), ())
    encoder.save(tmp_path / "encoder.json")
    assert Encoder.load(tmp_path / "encoder.json") == encoder
    text = (tmp_path / "encoder.json").read_text()
    plain = json.loads(text)
    for name in ("low", "high"):
        del plain["numerical"][0][name]
    (tmp_path / "encoder.json").write_text(json.dumps(plain))
    assert Encoder.load(tmp_path / "encoder.json").numerical[0].low is None


@pytest.mark.parametrize("n_rows", [1, 7])
def test_a_block_clips_and_counts_as_each_feature_alone(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    encodings = [
        clipping(rng.normal(size=9).tolist(), log1p=bool(i & 1), default=[None, 50.0][i >> 1 & 1]) for i in range(4)
    ]
    encodings.insert(2, fitted([1.0, 2.0]))
    raw = rng.normal(size=(5, n_rows)) * 3
    for some in (raw, np.where(rng.random(raw.shape) < 0.4, NAN, raw)):
        counts: dict[str, int] = {}
        alone = [encoding.transform(some[i]) for i, encoding in enumerate(encodings)]
        named = [replace(encoding, name=f"n{i}") for i, encoding in enumerate(encodings)]
        encoded = NumericalBlock(named).transform(some, counts)
        np.testing.assert_array_equal(encoded, np.concatenate(alone, axis=1))
        expected = {each.name: int(each.is_clipped(some[i]).sum()) for i, each in enumerate(named)}
        assert counts == {name: count for name, count in expected.items() if count}
        assert counts
