"""One spelling for each id, category and query, the same in imports, in `prepare`, in live events and in requests.

The same rules stand here twice where an import needs them in its engine: `of` spells one value, `expression` a column
of texts of an engine. What is folded beyond white space and digits (the case of queries) is done in Python alone. In
memory, a column that needs no change is found as such without Python, and any other is spelled by its distinct values.
"""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

import contextlib
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Value = Any
"""An ibis column."""

_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
BLANKS = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"
    + _ZERO_WIDTH
)
"""White space of Unicode, and characters without a width; stripped from the ends of every value."""

MAX_NUMBER = 1e20
"""Numbers of features are of a magnitude below this: above every 64-bit integer, far below what 32-bit floats hold."""

CATEGORY_NULL_WORDS = ("NULL", "null", "Null", "\\N", "NaN", "nan", "NAN")
"""Texts that mean a missing category; NA may be Namibia, and None a level."""

REMEMBERED_TEXTS = 50_000
"""Texts whose categories are kept in memory."""

NULL_WORDS = (
    *CATEGORY_NULL_WORDS,
    *("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "-nan", "-NaN"),
    *("None", "(null)", "<null>", "undefined"),
)
"""Texts that mean a missing id, number or label, as databases, R, pandas, spreadsheets and browsers write it."""

TEXT_NULL_WORDS = ("\\N", "NULL", "<NA>", "(null)")
"""Texts that mean a missing title or text: those that only a database or pandas writes."""

WHOLE_BELOW = {"float16": 2.0**11, "float32": 2.0**24, "float64": 2.0**53}
"""By type, the magnitude from which on a float stands for several whole numbers."""

TOO_LARGE = (
    "a float tells whole numbers apart only below 2^53 (below 2^24 in 32 bits); read the column as text or as integers"
)

_WHOLE = r"-?(?:0|[1-9][0-9]*)"
_DECIMAL = rf"^({_WHOLE})\.0+$"
_NEGATIVE_ZERO = r"^-0$"
_WHOLE_NUMBER = re.compile(rf"{_WHOLE}\.0+")
_AT_ENDS = f"^[{BLANKS}]+|[{BLANKS}]+$"
BLANK_AT_END = f"^[{BLANKS}]|[{BLANKS}]$"

WHOLE_ID = rf"^{_WHOLE}(?:\.0+)?$"
DECIMAL_ID = r"\.0+$"
SCIENTIFIC_ID = r"^-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]+$"


def trimmed(text: str) -> str:
    """The text without `BLANKS` at its ends."""
    return text.strip(BLANKS)


def trimmed_expression(texts: Value) -> Value:
    """`trimmed` of an engine's column of texts."""
    return texts.re_replace(_AT_ENDS, "")


@dataclass(frozen=True)
class IdSpelling:
    """How an id is spelled: trimmed, and the whole number 412.0 as 412.

    A text keeps its digits (007 is not 7, and 1e5 not 100000). Whether the text 412.0 is 412 depends on its column: it
    is where every id of the column is a whole number.

    Attributes:
        null_words: Texts that mean that there is none.
        whole_numbers: Whether a text that ends in .0 is a whole number.
    """

    null_words: tuple[str, ...] = ()
    whole_numbers: bool = False

    def of(self, value: Any) -> str | None:
        """The id; None where it is missing, or no id at all.

        Args:
            value: A text or a number.

        Returns:
            The id.

        Raises:
            ValueError: Where a float is too large to be told apart from other whole numbers.

        Example:
            >>> [IdSpelling(NULL_WORDS).of(each) for each in (" 12 ", 12.0, "12.0", "007", "NA")]
            ['12', '12', '12.0', '007', None]
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            return None
        if isinstance(value, str):
            text = trimmed(value)
            if not text or text in self.null_words:
                return None
            spelled = _without_decimals(text) if self.whole_numbers else text
        elif isinstance(value, float):
            spelled = _whole_text(value)
        else:
            spelled = _decimal_text(value) if isinstance(value, Decimal) else str(value)
        return None if spelled in self.null_words else spelled

    def expression(self, texts: Value) -> Value:
        """`of` for an engine's column of texts."""
        texts = _or_null(trimmed_expression(texts), self.null_words)
        return _or_null(_decimals_removed(texts), _whole(self.null_words)) if self.whole_numbers else texts

    def column(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """`of` for a column in memory: the same one where no text changes."""
        if pa.types.is_string(values.type) and not self._may_change(values):
            return values
        return each_distinct(values, self.of)

    def _may_change(self, texts: pa.ChunkedArray) -> bool:
        # Most ids are spelled well already, and no two are the same: kernels say so much faster than Python.
        odd = pc.match_substring_regex(texts, BLANK_AT_END)
        if self.whole_numbers:
            odd = pc.or_(odd, pc.match_substring_regex(texts, rf"{DECIMAL_ID}|{_NEGATIVE_ZERO}"))
        odd = pc.or_(odd, pc.is_in(texts, pa.array(["", *self.null_words], pa.string())))
        return bool(pc.any(odd).as_py())


@dataclass(frozen=True)
class CategorySpelling:
    """How a category is spelled: 1, 1.0, "1" and " 1.0 " are one, and so are true and "True".

    Attributes:
        null_words: Texts that mean a missing one; None takes `CATEGORY_NULL_WORDS`.
        fold_case: Whether texts that differ by case only are one category.
    """

    null_words: tuple[str, ...] | None = None
    fold_case: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Texts that mean a missing category."""
        return CATEGORY_NULL_WORDS if self.null_words is None else self.null_words

    def of(self, value: Any) -> str | None:
        """The category; None where it is missing.

        Args:
            value: A text, a number, a truth value, or anything that has a text.

        Returns:
            The category.

        Example:
            >>> [CategorySpelling().of(each) for each in (1, 1.0, "1.0", True, "TRUE", "Red ", "NULL")]
            ['1', '1', '1', 'true', 'true', 'Red', None]
        """
        if type(value) is str:
            return _category_of_text(self, value)
        if value is None:
            return None
        if isinstance(value, bool):
            return _category_of_text(self, "true" if value else "false")
        if isinstance(value, float):
            return None if math.isnan(value) else _category_of_text(self, _number_text(value))
        return _category_of_text(self, _decimal_text(value) if isinstance(value, Decimal) else str(value))

    def expression(self, texts: Value) -> Value:
        """`of` for an engine's column of texts, but for the case."""
        texts = _or_null(trimmed_expression(texts), self.missing)
        for word in ("true", "false"):
            either = "".join(f"[{letter}{letter.upper()}]" for letter in word)
            texts = texts.re_replace(f"^{either}$", word)
        return _or_null(_decimals_removed(texts), self._plain_missing())

    def column(self, values: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
        """`of` for a column in memory, each distinct value once."""
        type_ = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if pa.types.is_boolean(type_) or pa.types.is_integer(type_):
            texts = _chunked(values.cast(pa.string()))
            words = self._plain_missing()
            return pc.if_else(pc.is_in(texts, pa.array(words)), None, texts) if words else texts
        known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_floating, pa.types.is_decimal)
        if not any(is_known(type_) for is_known in known):
            values = values.cast(pa.string())
        return each_distinct(_chunked(values), self.of)

    def _plain_missing(self) -> tuple[str, ...]:
        """Words for a missing one that only the spelling of a number or truth value may make of a text."""
        return (*_whole(self.missing), *(word for word in self.missing if word in ("true", "false")))


@dataclass(frozen=True)
class NumberSpelling:
    """How a number is read that may be a text.

    Attributes:
        null_words: Texts that mean that there is none; one that is a number stands for all spellings of it.
    """

    null_words: tuple[str, ...] = NULL_WORDS

    @cached_property
    def missing(self) -> frozenset[float]:
        """Numbers that mean that there is none."""
        return frozenset(number_words(self.null_words))

    def of(self, value: Any) -> float:
        """The number; NaN where it is missing.

        Args:
            value: A number, a text of one, or None.

        Returns:
            The number.

        Raises:
            ValueError: Where it is none.

        Example:
            >>> [NumberSpelling(("-", "-1")).of(each) for each in (2, " 2.5 ", None, "-", -1.0, "-1.00")]
            [2.0, 2.5, nan, nan, nan, nan]
        """
        if value is None:
            return math.nan
        if isinstance(value, str):
            text = trimmed(value)
            if not text or text in self.null_words:
                return math.nan
            number = float(text)
            if not math.isfinite(number):
                raise ValueError(text)
        elif (isinstance(value, int | float) and abs(value) <= sys.float_info.max) or value != value:
            number = float(value)
        else:
            raise ValueError(value)
        return math.nan if number in self.missing else number


def number_words(words: Iterable[str]) -> list[float]:
    """The finite numbers among some words.

    Args:
        words: Texts that mean missing.

    Returns:
        The numbers.

    Example:
        >>> number_words(["NA", "-1", "999", "nan"])
        [-1.0, 999.0]
    """
    found: list[float] = []
    for word in words:
        with contextlib.suppress(ValueError):
            found.append(float(word))
    return [number for number in found if math.isfinite(number)]


@lru_cache(4096)
def folded_query(query: str) -> str:
    """A query whatever its case, its white space and the width of its letters.

    Compatibility forms are composed (NFKC: full width letters, ligatures, a letter and its accent), case is folded
    (Straße is strasse), characters without a width are left out, and white space is one space.

    Args:
        query: What was typed.

    Returns:
        The spelling that stands for it; folding it again changes nothing.

    Example:
        >>> folded_query("  Red   SHOE ")
        'red shoe'
    """
    # One pass may leave what the next one folds, such as a letter that only composing made.
    for _ in range(4):
        text = unicodedata.normalize("NFKC", query.translate(_WITHOUT)).casefold()
        text = collapsed(unicodedata.normalize("NFKC", text))
        if text == query:
            break
        query = text
    return query


def collapsed(query: str) -> str:
    """A query with single spaces within and none at its ends."""
    return " ".join(trimmed(query).split())


def each_distinct(values: pa.ChunkedArray, function: Callable[[Any], str | None]) -> pa.ChunkedArray:
    """Applies a function to each distinct value of a column once.

    Args:
        values: The column; nulls stay null.
        function: Takes a value and gives its text, or None.

    Returns:
        A column of texts: the same one where no text changes.
    """
    if not pa.types.is_dictionary(values.type):
        encoded = values.dictionary_encode().unify_dictionaries()
    else:
        encoded = values.unify_dictionaries()
    if not encoded.num_chunks:
        return pa.chunked_array([], pa.string())
    held = encoded.chunk(0).dictionary
    given = _python_values(held)
    made = [None if each is None else function(each) for each in given]
    if made == given and pa.types.is_string(values.type):
        return values
    texts = pa.array(made, pa.string())
    return pa.chunked_array([texts.take(chunk.indices) for chunk in encoded.chunks], pa.string())


def too_large(values: pa.ChunkedArray) -> bool:
    """Whether a column of floats holds some whose neighbours among the whole numbers are the same float."""
    if not pa.types.is_floating(values.type):
        return False
    largest = pc.max(pc.abs(values.cast(pa.float64()).filter(pc.is_finite(values)))).as_py()
    return largest is not None and largest >= WHOLE_BELOW[_float_name(values.type)]


_WITHOUT = dict.fromkeys(map(ord, _ZERO_WIDTH + "\u00ad"))


def _float_name(type_: pa.DataType) -> str:
    return {16: "float16", 32: "float32", 64: "float64"}[type_.bit_width]


def _python_values(values: pa.Array) -> list[Any]:
    if pa.types.is_float16(values.type) or pa.types.is_float32(values.type):
        # 0.1 in 32 bits is 0.1 to its author, and 0.10000000149 only where it is widened.
        texts = (None if each is None else str(np.float32(each)) for each in values.cast(pa.float32()).to_pylist())
        return [None if text is None else float(text) for text in texts]
    return values.to_pylist()


def _chunked(values: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def _whole_text(value: float) -> str | None:
    if not math.isfinite(value) or not value.is_integer():
        return None
    if abs(value) >= WHOLE_BELOW["float64"]:
        raise ValueError(f"the id {value!r} must be told apart from others, but {TOO_LARGE}")
    return str(int(value))


def _number_text(value: float) -> str:
    return _without_decimals(repr(float(value)))


def _decimal_text(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _without_decimals(text: str) -> str:
    if _WHOLE_NUMBER.fullmatch(text):
        text = text.partition(".")[0]
    return "0" if text == "-0" else text


def _decimals_removed(texts: Value) -> Value:
    return texts.re_replace(_DECIMAL, r"\1").re_replace(_NEGATIVE_ZERO, "0")


def _whole(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words that are whole numbers, which a text may be once its decimals are removed."""
    return tuple(word for word in words if _WHOLE_NUMBER.fullmatch(f"{word}.0"))


def _or_null(texts: Value, words: tuple[str, ...]) -> Value:
    # A pattern rather than isin, which DuckDB runs as a join: that would mix up the order of the rows.
    if words:
        texts = texts.re_replace(f"^(?:{'|'.join(map(re.escape, words))})$", "")
    return texts.nullif("")


@lru_cache(REMEMBERED_TEXTS)
def _category_of_text(spelling: CategorySpelling, text: str) -> str | None:
    # Every candidate of a page may give its brand: a few texts come again and again.
    text, missing = trimmed(text), spelling.missing
    if not text or text in missing:
        return None
    text = text.lower() if text.lower() in ("true", "false") else _without_decimals(text)
    if text in missing:
        return None
    return text.casefold() if spelling.fold_case else text
