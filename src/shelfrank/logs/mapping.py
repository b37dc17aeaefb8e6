"""`mapping.yaml`: the meaning of the columns in a shop's own files."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WrapValidator, model_validator

from shelfrank.core.errors import UserError, unknown_name
from shelfrank.core.schema import (
    RANDOMISED,
    RESERVED_COLUMNS,
    TASKS,
    IdColumn,
    Kind,
    Schema,
    Side,
    load_yaml,
    one_sentence,
)
from shelfrank.core.values import CATEGORY_NULL_WORDS, NULL_WORDS, TEXT_NULL_WORDS, CategorySpelling
from shelfrank.logs.csv_files import SEPARATORS, look_like_a_row
from shelfrank.logs.raw_files import names_equal_but_case

TableName = Literal["impressions", "products", "customers", "events"]
ROLES: Mapping[str, tuple[str, ...]] = {
    "impressions": (
        *("search_id", "timestamp", "customer_id", "session_id", "query", "product_id", "position", "title"),
        *TASKS,
        RANDOMISED,
    ),
    "products": ("product_id", "title"),
    "customers": ("customer_id",),
    "events": ("timestamp", "customer_id", "session_id", "product_id", "action"),
}
"""By table, the roles that a column can have."""

REQUIRED_ROLES: Mapping[str, tuple[str, ...]] = {
    "impressions": ("search_id", "timestamp", "query", "product_id", "position"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "events": ("timestamp", "product_id", "action"),
}

FEATURE_SIDES: Mapping[str, tuple[Side, ...]] = {
    "impressions": tuple(Side),
    "products": (Side.PRODUCT,),
    "customers": (Side.CUSTOMER,),
    "events": (),
}

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".gz", ".parquet", ".xlsx", ".xls")
"""Ends of the names of tables, which are no mappings."""

SHARED_ROLES = (frozenset({"search_id", "session_id", "customer_id", "query"}), frozenset({"product_id", "title"}))
"""Roles that one column can have at once: ids that coincide in a shop, or a title that identifies the product."""

FEATURE_ROLES = frozenset({"customer_id", "query", "product_id", "title", "position"})
"""Roles whose column can also be a feature. Labels are only known after the search, and the id of a search or session
never occurs again."""


def _words(given: Any) -> Any:
    """Null words as texts, also if YAML parses an unquoted one as another type: null and ~, -1, or false."""
    if not isinstance(given, list):
        return given
    return list(dict.fromkeys(text for word in given for text in _texts_of(word)))


def _texts_of(word: Any) -> tuple[str, ...]:
    if word is None:
        return ("NULL", "null", "Null")
    if isinstance(word, bool):
        return (str(word), str(word).lower(), str(word).upper())
    # Spelled like a number: -1.0 is -1.
    return (str(word), CategorySpelling(()).of(word) or "") if isinstance(word, float) else (str(word),)


NullWords = Annotated[tuple[str, ...] | None, BeforeValidator(_words)]


class ColumnUse(BaseModel):
    """One use of a column: a role of the data contract (written as its bare name), or a feature.

    Attributes:
        role: A name of `ROLES`.
        name: Name of the feature; None takes the column's.
        side: What the feature describes.
        kind: How the feature is encoded.
        unit: As in the schema.
        default: As in the schema.
        log1p: As in the schema.
        null_words: Texts that mean a missing value in this column; None takes the mapping's.
        fold_case: As in the schema.
        separator: As in the schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str | None = None
    name: str | None = None
    side: Side | None = None
    kind: Kind | None = None
    unit: str | None = None
    default: bool | int | float | str | None = None
    log1p: bool = False
    null_words: NullWords = None
    fold_case: bool = False
    separator: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, data: Any) -> Any:
        return {"role": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _check(self) -> "ColumnUse":
        if self.role is None and (self.side is None or self.kind is None):
            raise ValueError("a column must be a role, such as `product_id`, or a feature with `side` and `kind`")
        if self.role is not None and self.model_fields_set - {"null_words"} != {"role"}:
            raise ValueError(
                f"a use must be either the role {self.role!r} or a feature, but it is both; write a list of two uses"
            )
        return self


def _as_tuple(data: Any, handler: Callable[[Any], tuple[ColumnUse, ...]]) -> tuple[ColumnUse, ...]:
    # A single use is validated alone, so that an error names the column and not a place in a list.
    uses = handler(data) if isinstance(data, list) else (ColumnUse.model_validate(data),)
    if not uses:
        raise ValueError("a column must have at least one use; remove a column that is not used")
    return uses


ColumnUses = Annotated[tuple[ColumnUse, ...], WrapValidator(_as_tuple)]
"""The use of one column, or a list of several."""


class SourceMapping(BaseModel):
    """A whole `mapping.yaml`.

    Attributes:
        name: Name of the log.
        tables: The file of each table, relative to the mapping: CSV, TSV (also gzipped) or Parquet, or a
            folder of Parquet files.
        columns: By table and column, the column's uses; other columns are not used.
        timestamp_unit: Unit of numeric timestamps since 1970; None infers it from their size.
        first_position: Position of the topmost product in the source; None takes 0 if every list begins there, else 1.
        decimal_mark: Decimal mark of numbers that are text.
        separator: Separator between the cells of a line; None infers it from the header.
        null_words: Texts that mean a missing id, number, label, category, title or text; None takes the built-in
            ones. Blanks are always missing.
        queries: Whether the case of queries is folded; see `Spelling`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tables: dict[TableName, Path]
    columns: dict[TableName, dict[str, ColumnUses]]
    timestamp_unit: Literal["s", "ms", "us", "ns"] | None = None
    first_position: Literal[0, 1] | None = None
    decimal_mark: Literal[".", ","] | None = None
    separator: Literal[",", ";", "\t", "|"] | None = None
    null_words: NullWords = None
    queries: Literal["folded", "trimmed", "as_written"] = "folded"

    @model_validator(mode="after")
    def _check(self) -> "SourceMapping":
        if "impressions" not in self.tables:
            raise ValueError("tables must name the file of `impressions`")
        if set(self.tables) != set(self.columns):
            odd = sorted(set(self.tables) ^ set(self.columns))
            raise ValueError(f"`tables` and `columns` must name the same tables, but only one names {', '.join(odd)}")
        for table, uses in self.columns.items():
            _check_table(table, uses, has_products="products" in self.tables)
        return self

    @classmethod
    def load(cls, path: Path) -> "SourceMapping":
        """Reads a mapping; an error is one sentence.

        Args:
            path: A `mapping.yaml`.

        Returns:
            The mapping.

        Raises:
            UserError: Where the file is missing, is not YAML, or breaks a rule.
        """
        if path.name.lower().endswith(TABLE_SUFFIXES):
            raise _no_mapping(path, "a table")
        data = load_yaml(path)
        if not isinstance(data, Mapping):
            is_table = isinstance(data, str) and any(mark in data for mark in SEPARATORS)
            kind = {type(None): "empty", list: "a list"}.get(type(data), "a single value")
            raise _no_mapping(path, "a table" if is_table else kind)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(one_sentence(str(path), error, key_hint)) from error

    def roles(self, table: TableName) -> dict[str, str]:
        """The column of each role of a table."""
        return {use.role: column for column, use in self.uses(table) if use.role is not None}

    def uses(self, table: TableName) -> list[tuple[str, ColumnUse]]:
        """Each use of each mapped column of a table, with the column."""
        return [(column, use) for column, uses in self.columns[table].items() for use in uses]

    def null_words_of(self, use: ColumnUse) -> tuple[str, ...]:
        """Texts that mean a missing value of a column; for a query, only those declared for its column."""
        if use.role == "query":
            return use.null_words or ()
        built_in = CATEGORY_NULL_WORDS if use.kind is Kind.CATEGORICAL else NULL_WORDS
        if use.kind is Kind.TEXT or use.role == "title":
            built_in = TEXT_NULL_WORDS
        given = self.null_words if use.null_words is None else use.null_words
        return built_in if given is None else given

    def null_words_of_role(self, role: str) -> tuple[str, ...]:
        """Texts that mean a missing id, the same in every table that has the role, since the id joins them.

        Words that any of these tables declares replace the built-in ones.
        """
        uses = [use for table in self.columns for _, use in self.uses(table) if use.role == role]
        declared = [use for use in uses if use.null_words is not None]
        return tuple(dict.fromkeys(word for use in declared or uses for word in self.null_words_of(use)))

    def schema_of(self, where: str) -> Schema:
        """The log's schema; an error is one sentence that begins with `where`."""
        given = {} if self.null_words is None else {"null_words": self.null_words}
        features = [
            {"name": column, **given, **use.model_dump(mode="json", exclude_defaults=True)}
            for table in self.columns
            for column, use in self.uses(table)
            if use.role is None
        ]
        data = {"name": self.name, "features": features, "spelling": self._spelling()}
        return Schema.model_validate_named(data, where)

    def _spelling(self) -> dict[str, Any]:
        held = {role for table in self.columns for role in self.roles(table)}
        words = {role: self.null_words_of_role(role) for role in get_args(IdColumn) if role in held}
        built_in = NULL_WORDS if self.null_words is None else self.null_words
        return {
            "queries": self.queries,
            "null_words": built_in,
            "null_words_of": {role: own for role, own in words.items() if own != built_in},
        }

    def check_file(self, table: TableName, file: Path, names: Sequence[str]) -> None:
        """Raises a `UserError` where a file lacks a mapped column or the mapping lacks a required role."""
        ambiguous = names_equal_but_case(list(names))
        for column in self.columns[table]:
            if column in ambiguous:
                raise UserError(
                    f"{file} must have one column of each name that the mapping uses, but it has another whose name "
                    f"differs from {column!r} by case only; rename one of them"
                )
            if column not in names and look_like_a_row(names):
                raise UserError(
                    f"{file} must begin with a line of column names, but it has no column {column!r} and its first "
                    f"line looks like a row: {', '.join(names)[:200]}"
                )
            if column not in names:
                raise unknown_name(f"column of {file.name}", column, names)
        roles = self.roles(table)
        for role in REQUIRED_ROLES[table]:
            if role not in roles:
                raise _missing(table, f"the role `{role}`", file, names)
        if table == "impressions" and not set(TASKS) & set(roles):
            raise _missing(table, f"at least one of the roles {', '.join(TASKS)}", file, names)
        if table == "events" and not {"customer_id", "session_id"} & set(roles):
            raise _missing(table, "the role `customer_id` or `session_id`", file, names)
        if table == "impressions" and "customers" in self.tables and "customer_id" not in roles:
            what = "the role `customer_id`, since there is a table of customers"
            raise _missing(table, what, file, names)


def key_hint(path: str, _: Any, top: Iterable[str] = SourceMapping.model_fields) -> str:
    """Suggests known keys for an unknown one of a mapping.

    Args:
        path: The unknown key, with the keys that it is below.
        top: The known keys at the top.

    Returns:
        The nearest key of its level, or all of them if none is near.
    """
    above, _, key = path.rpartition(".")
    known = list(ColumnUse.model_fields if above else top)
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"


def _no_mapping(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} must be a mapping.yaml, which names the files of tables and the role of each of their columns, but it "
        f"is {what}; write one such as `{{name: myshop, tables: {{impressions: clicks.csv}}, columns: {{impressions: "
        f"{{your_column: search_id, ...}}}}}}`, see docs/your_own_data.md"
    )


def _check_table(table: str, columns: Mapping[str, Sequence[ColumnUse]], has_products: bool) -> None:
    roles = [use.role for uses in columns.values() for use in uses if use.role is not None]
    for column, uses in columns.items():
        for role in [use.role for use in uses if use.role is not None and use.role not in ROLES[table]]:
            if column in ROLES[table]:
                raise ValueError(
                    f"a line of a mapping must read `your column: role`, but `{column}: {role}` in {table} begins with "
                    f"a role; write `{role}: {column}`"
                )
            raise unknown_name(f"role of {table}", role, ROLES[table])
    for role in roles:
        if roles.count(role) > 1:
            raise ValueError(f"{table} must map one column to the role {role!r}, but it maps {roles.count(role)}")
    if table == "impressions" and has_products and "title" in roles:
        raise ValueError("the role 'title' must be in products, since there is a table of products")
    for column, uses in columns.items():
        _check_uses(table, column, uses)


def _check_uses(table: str, column: str, uses: Sequence[ColumnUse]) -> None:
    """Raises a `ValueError` where a table has no such features, or a column cannot be all that it is mapped to."""
    roles = {use.role for use in uses if use.role is not None}
    if len(roles) > 1 and not any(roles <= shared for shared in SHARED_ROLES):
        allowed = " or ".join(", ".join(sorted(shared)) for shared in SHARED_ROLES)
        raise ValueError(
            f"one column can have several roles of {allowed} only, but {column!r} in {table} is "
            f"{', '.join(sorted(roles))}; map another column to one of them"
        )
    features = [use for use in uses if use.role is None]
    for use in features:
        if use.side not in FEATURE_SIDES[table]:
            sides = ", ".join(FEATURE_SIDES[table])
            must = f"a feature in {table} must be of the side {sides}" if sides else f"{table} can have no feature"
            raise ValueError(f"{must}, but {column!r} is of {use.side}")
        if roles - FEATURE_ROLES:
            role = min(roles - FEATURE_ROLES)
            why = "it is known only after the search" if role in TASKS else "its values never occur again"
            why = "a customer does not see it" if role == RANDOMISED else why
            raise ValueError(
                f"a column with the role {role!r} must not be a feature as well, since {why}, but {column!r} in "
                f"{table} is both; remove the feature"
            )
        if use.name is None and column in RESERVED_COLUMNS and roles:
            raise ValueError(
                f"a feature must go by another name than a role, but the one of {column!r} in {table} has none; add "
                "`name` to it"
            )
    encodings = [use.model_copy(update={"name": None}) for use in features]
    for place, use in enumerate(encodings):
        if use in encodings[:place]:
            raise ValueError(
                f"features of one column must differ in more than their name, but {column!r} in {table} has two of "
                f"side {use.side} and kind {use.kind}; remove one"
            )


def _missing(table: str, what: str, file: Path, names: Sequence[str]) -> UserError:
    held = ", ".join(names)
    return UserError(f"{table} must map a column to {what}, but the mapping does not; {file.name} has {held}")
