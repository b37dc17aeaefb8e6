from pathlib import Path
from typing import Any

import pytest

from shelfrank.core.errors import UserError
from shelfrank.core.schema import RESERVED_COLUMNS, TASKS, Feature, Kind, Schema, Side, load_yaml

PRICE = {"name": "price", "side": "product", "kind": "numerical", "unit": "usd", "log1p": True}
BAND = {"name": "age_band", "side": "customer", "kind": "categorical", "default": "unknown"}


def schema(*features: dict[str, Any], **settings: Any) -> Schema:
    return Schema.model_validate_named({"name": "shop", "features": features, **settings}, "schema.yaml")


@pytest.mark.parametrize("task", TASKS)
def test_a_label_can_never_be_a_feature(task: str) -> None:
    with pytest.raises(UserError, match=f"^schema.yaml: features.0: '{task}' is a label and can never be declared"):
        schema(PRICE | {"name": task})


@pytest.mark.parametrize("name", sorted(RESERVED_COLUMNS - set(TASKS)))
def test_a_reserved_column_can_never_be_a_feature(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is a reserved column and needs no declaration; remove it from"):
        schema(PRICE | {"name": name})


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (PRICE | {"colour": 1}, "features.0.colour: unknown key"),
        (PRICE | {"default": "cheap"}, "the default of numerical feature 'price' must be a number, not 'cheap'"),
        (PRICE | {"side": "shop"}, r"features.0.side: Input should be 'customer', .* \(given 'shop'\)"),
        (
            PRICE | {"name": ""},
            "features.0: the name of a feature must be text without control characters, but it is ''",
        ),
        ({"name": "price"}, "features.0.side: Field required; features.0.kind: Field required"),
    ],
    ids=["unknown_key", "text_default", "side", "empty_name", "missing_keys"],
)
def test_a_wrong_feature_is_told_with_its_path(feature: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        schema(feature)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "key", "value", "kinds"),
    [
        ("categorical", "log1p", True, "numerical"),
        ("categorical", "unit", "usd", "numerical"),
        ("text", "log1p", True, "numerical"),
        ("text", "default", 0, "categorical or numerical"),
        ("numerical", "fold_case", True, "categorical"),
        ("categorical", "separator", ",", "text"),
    ],
)
def test_a_key_that_the_kind_does_not_read_is_refused(kind: str, key: str, value: object, kinds: str) -> None:
    feature = {"name": "brand", "side": "product", "kind": kind}
    sentence = f"features.0: `{key}` must be of a {kinds} feature, but 'brand' is {kind}; remove it or declare another"
    with pytest.raises(UserError, match=sentence):
        schema(feature | {key: value})
    # What says nothing is no wrong key.
    schema(feature | {"log1p": False, "unit": None, "fold_case": False, "default": None, "separator": None})


def test_a_text_with_a_separator_is_a_list() -> None:
    feature = Feature(name="offers", side=Side.PRODUCT, kind=Kind.TEXT, separator=",")
    assert feature.values_of("Pool, Free WiFi,, Bar") == ("Pool", "Free WiFi", "Bar")
    assert feature.values_of(" , ") is None
    assert feature.values_of(None) is None


def test_a_separator_of_blanks_is_refused() -> None:
    with pytest.raises(UserError, match="the separator of 'offers' must be more than blanks, but it is ' '; give what"):
        schema({"name": "offers", "side": "product", "kind": "text", "separator": " "})


def test_a_feature_is_declared_once() -> None:
    with pytest.raises(UserError, match="each feature must be declared once, but price is declared again"):
        schema(PRICE, BAND, PRICE)


def test_another_version_is_refused() -> None:
    with pytest.raises(UserError, match="schema version must be 1, not 2"):
        schema(version=2)


def test_select_by_side_and_kind_in_declared_order() -> None:
    declared = schema(PRICE, BAND, {"name": "stock", "side": "product", "kind": "categorical"})
    selected = {
        "price age_band stock": declared.select(),
        "price stock": declared.select(side=Side.PRODUCT),
        "age_band stock": declared.select(kind=Kind.CATEGORICAL),
        "stock": declared.select(side=Side.PRODUCT, kind=Kind.CATEGORICAL),
        "": declared.select(side=Side.QUERY),
    }
    assert [" ".join(feature.name for feature in features) for features in selected.values()] == list(selected)


def test_save_and_load_give_the_same_schema(tmp_path: Path) -> None:
    written = schema(PRICE, BAND, {"name": "größe", "side": "context", "kind": "numerical", "default": 0})
    written.save(tmp_path / "schema.yaml")
    assert Schema.load(tmp_path / "schema.yaml") == written
    assert "log1p: false" not in (tmp_path / "schema.yaml").read_text()


@pytest.mark.parametrize("default", [2, 2.0, True, False, "2", None])
def test_a_default_keeps_its_kind(default: object, tmp_path: Path) -> None:
    schema(BAND | {"default": default}).save(tmp_path / "schema.yaml")
    (read,) = Schema.load(tmp_path / "schema.yaml").features
    assert (type(read.default), read.default) == (type(default), default)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must exist, but there is no such file"),
        (b"features: [", "must be YAML: while parsing"),
        (b"\xff\xfe\xff", "must be YAML: "),
    ],
    ids=["missing", "broken", "not_utf8"],
)
def test_an_unreadable_file_is_told(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_yaml(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_never_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Feature.model_validate(PRICE).name = "cost"
