"""The columns of a search log: every feature declared once, with its side and kind."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shelfrank.core.errors import UserError
from shelfrank.core.values import (
    CATEGORY_NULL_WORDS,
    NULL_WORDS,
    TEXT_NULL_WORDS,
    CategorySpelling,
    IdSpelling,
    collapsed,
    folded_query,
)

TASKS = ("click", "add_to_cart", "purchase")
"""The paper's three labels in their order (Paper: Sec. 3.1)."""

RANDOMISED = "randomised"
"""The mark of searches whose page was shown in random order, where a log has one."""

PRICE = "price"
"""The feature that is the product's price, where a log declares one."""

MAX_GIVEN = 200
"""Characters of a wrong value in an error."""

SCHEMA_VERSION = 1

RESERVED_COLUMNS = frozenset(
    {
        "search_id",
        "timestamp",
        "customer_id",
        "session_id",
        "query",
        "product_id",
        "position",
        "title",
        RANDOMISED,
        *TASKS,
    }
)
"""Columns whose meaning the contract fixes; none of them can be declared as a feature."""


class Side(StrEnum):
    """What a feature describes; Personalization Degree neutralises the `customer` side."""

    CUSTOMER = "customer"
    QUERY = "query"
    PRODUCT = "product"
    INTERACTION = "interaction"
    CONTEXT = "context"


class Kind(StrEnum):
    """How a feature is encoded."""

    CATEGORICAL = "categorical"
    NUMERICAL = "numerical"
    TEXT = "text"


KINDS_OF_KEY: Mapping[str, tuple[Kind, ...]] = {
    "unit": (Kind.NUMERICAL,),
    "log1p": (Kind.NUMERICAL,),
    "fold_case": (Kind.CATEGORICAL,),
    "separator": (Kind.TEXT,),
    "default": (Kind.CATEGORICAL, Kind.NUMERICAL),
}
"""The keys of a feature that not every kind reads, with the kinds that do."""


class Feature(BaseModel):
    """One declared feature.

    Attributes:
        name: The column's name.
        side: What it describes.
        kind: How it is encoded.
        unit: Unit of a numerical feature, for people to read.
        default: The value that stands for a missing one; None leaves the choice to the encoder.
        log1p: Whether a numerical feature is a heavy-tailed, non-negative quantity that is encoded as ln(1 + x).
        null_words: Texts that mean a missing value; None takes the built-in ones of the kind.
        fold_case: Whether categories that differ by case only are one.
        separator: What stands between the values of a text that is a list of them, such as what a hotel offers; None
            for prose.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    side: Side
    kind: Kind
    unit: str | None = None
    default: bool | int | float | str | None = None
    log1p: bool = False
    null_words: tuple[str, ...] | None = None
    fold_case: bool = False
    separator: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Feature":
        if self.name in TASKS:
            raise ValueError(f"{self.name!r} is a label and can never be declared as a feature")
        if self.name in RESERVED_COLUMNS:
            raise ValueError(
                f"{self.name!r} is a reserved column and needs no declaration; remove it from the features"
            )
        if not self.name.strip() or any(ord(character) < 32 for character in self.name):
            raise ValueError(
                f"the name of a feature must be text without control characters, but it is {self.name!r}; rename it"
            )
        if self.separator is not None and not self.separator.strip():
            raise ValueError(
                f"the separator of {self.name!r} must be more than blanks, but it is {self.separator!r}; give what "
                "stands between two values, such as a comma"
            )
        if self.kind is Kind.NUMERICAL and isinstance(self.default, str):
            raise ValueError(f"the default of numerical feature {self.name!r} must be a number, not {self.default!r}")
        for key, kinds in KINDS_OF_KEY.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.kind not in kinds:
                raise ValueError(
                    f"`{key}` must be of a {' or '.join(kinds)} feature, but {self.name!r} is {self.kind}; remove it "
                    "or declare another kind"
                )
        return self

    @property
    def spelling(self) -> CategorySpelling:
        """How its categories are spelled."""
        return CategorySpelling(self.null_words, self.fold_case)

    def values_of(self, text: str | None) -> tuple[str, ...] | None:
        """The values of a text that is a list; None where it is missing or lists none."""
        assert self.separator is not None
        values = tuple(each.strip() for each in (text or "").split(self.separator))
        return tuple(each for each in values if each and each not in self.missing_words) or None

    @property
    def missing_words(self) -> tuple[str, ...]:
        """Texts that mean that its value is missing."""
        built_in = {Kind.CATEGORICAL: CATEGORY_NULL_WORDS, Kind.NUMERICAL: NULL_WORDS, Kind.TEXT: TEXT_NULL_WORDS}
        return built_in[self.kind] if self.null_words is None else self.null_words


IdColumn = Literal["search_id", "customer_id", "session_id", "product_id", "action"]
"""Columns of a log that are spelled as ids."""


class Spelling(BaseModel):
    """How the ids and queries of a log are spelled, and therefore those of live events and requests.

    Attributes:
        ids: `normalised`: as `IdSpelling` says; `as_written`: a text is what the source holds.
        queries: `folded`: as `folded_query` says; `trimmed`: case is kept; `as_written`: as the source has them.
        null_words: Texts that mean that there is no such id.
        null_words_of: Those of one column, such as `customer_id`, that has others.
        whole_number_ids: Id columns in which every id is a whole number, so that the text 412.0 is 412.
        first_ordinal: The ordinal that the source's events give the topmost product; positions of the log begin at 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: Literal["normalised", "as_written"] = "normalised"
    queries: Literal["folded", "trimmed", "as_written"] = "folded"
    null_words: tuple[str, ...] = NULL_WORDS
    null_words_of: dict[IdColumn, tuple[str, ...]] = Field(default_factory=dict)
    whole_number_ids: tuple[str, ...] = ()
    first_ordinal: Literal[0, 1] = 1

    def of_id(self, column: IdColumn) -> IdSpelling:
        """How the ids of a column, such as `customer_id`, are spelled."""
        return IdSpelling(self.null_words_of.get(column, self.null_words), column in self.whole_number_ids)

    def sentence(self) -> str:
        """The spelling in words."""
        queries = {
            "folded": "queries whatever their case and white space",
            "trimmed": "queries whatever their white space, case kept",
            "as_written": "queries as written",
        }[self.queries]
        if self == AS_WRITTEN:
            return "ids and queries as written, since the log declares no spelling; import it again to normalise them"
        whole = f", {' and '.join(self.whole_number_ids)} as whole numbers" if self.whole_number_ids else ""
        return f"ids {self.ids.replace('_', ' ')}{whole}, {queries}"

    def query(self, text: str) -> str:
        """The spelling of a query that everything is keyed by."""
        if self.queries == "folded":
            return folded_query(text)
        return collapsed(text) if self.queries == "trimmed" else text


AS_WRITTEN = Spelling(ids="as_written", queries="as_written", null_words=())
"""The spelling of a log that declares none: it was written before ids and queries were normalised."""


class Schema(BaseModel):
    """The features of one search log and the spelling of its ids and queries, as `schema.yaml` declares them.

    A log without `spelling` was written by an older version; it is read as `AS_WRITTEN`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = SCHEMA_VERSION
    name: str
    features: tuple[Feature, ...] = ()
    spelling: Spelling | None = None

    @model_validator(mode="after")
    def _check(self) -> "Schema":
        if self.version != SCHEMA_VERSION:
            raise ValueError(f"schema version must be {SCHEMA_VERSION}, not {self.version}")
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each feature must be declared once, but {', '.join(twice)} is declared again")
        # Engines take names for one that differ by case only.
        taken = {name.lower(): name for name in RESERVED_COLUMNS}
        for name in names:
            other = taken.setdefault(name.lower(), name)
            if other != name:
                raise ValueError(
                    f"names of features must differ by more than case from each other and from reserved columns, but "
                    f"{name!r} and {other!r} do not; give one another name"
                )
        return self

    def select(self, side: Side | None = None, kind: Kind | None = None) -> tuple[Feature, ...]:
        """The declared features of one side, of one kind, or of both, in their declared order."""
        return tuple(
            feature
            for feature in self.features
            if (side is None or feature.side is side) and (kind is None or feature.kind is kind)
        )

    def save(self, path: Path) -> None:
        """Writes the schema as YAML."""
        data: dict[str, Any] = {
            "version": self.version,
            "name": self.name,
            "features": [feature.model_dump(mode="json", exclude_defaults=True) for feature in self.features],
        }
        if self.spelling is not None:
            data["spelling"] = self.spelling.model_dump(mode="json")
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Schema":
        """Reads a schema.

        Args:
            path: A `schema.yaml`.

        Returns:
            The schema.

        Raises:
            UserError: Where the file is missing, is no YAML, or breaks a rule; the text names the place.
        """
        return cls.model_validate_named(load_yaml(path), str(path))

    @classmethod
    def model_validate_named(cls, data: Any, where: str) -> "Schema":
        """Validates plain data; an error is one sentence that begins with `where`."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(one_sentence(where, error)) from error


def load_yaml(path: Path) -> Any:
    """Reads a YAML file of plain data; a file that is missing or cannot be read is a `UserError`."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} must exist, but there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} must be a YAML file, but it is a folder") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be YAML: {' '.join(str(error).split())}") from error


def one_sentence(
    where: str | Callable[[Sequence[Any]], str],
    error: ValidationError,
    key_hint: Callable[[str, Any], str] = lambda *_: "",
) -> str:
    """Describes every problem of a pydantic error in one line, each with its path.

    Args:
        where: What holds the problems, such as a file; or a function that says so of a path.
        error: The error.
        key_hint: Advice on an unknown key, given its path and value.

    Returns:
        The line.
    """
    problems: dict[str, list[str]] = {}
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"] if part != "[key]")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            hint = key_hint(place, item["input"])
            message = f"unknown key, {hint}" if hint else "unknown key"
        if item["type"] == "model_type":
            message = "Input should be keys and values"
        says_what = item["type"] in {"extra_forbidden", "missing", "value_error"}
        given = "" if says_what else f" (given {_short(item['input'])})"
        holder = where if isinstance(where, str) else where(item["loc"])
        problems.setdefault(holder, []).append(f"{place}: {message}{given}" if place else message)
    return "; ".join(f"{holder}: {'; '.join(found)}" for holder, found in problems.items())


def _short(given: Any) -> str:
    """What was given, on one line, cut where it is long."""
    text = " ".join(repr(given).split())
    return text if len(text) <= MAX_GIVEN else f"{text[:MAX_GIVEN]}..."
