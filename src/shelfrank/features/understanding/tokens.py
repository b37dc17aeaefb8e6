"""The tokens of queries and titles: words, numbers with their units, and characters where words have no blanks."""

import re
import unicodedata
from collections.abc import Iterable

from shelfrank.features.textual.words import singular

MAX_QUERY_TOKENS = 32
MAX_TITLE_TOKENS = 64
MAX_CHARACTERS = 2_000
"""Characters of a text that are read, so that no text is dear."""

_UNITS = {
    "in": ("in", "inch", "inches", "zoll"),
    "ft": ("ft", "foot", "feet"),
    "yd": ("yd", "yard", "yards"),
    "mm": ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    "m": ("m", "meter", "meters", "metre", "metres"),
    "oz": ("oz", "ounce", "ounces"),
    "lb": ("lb", "lbs", "pound", "pounds"),
    "g": ("g", "gram", "grams", "gramm"),
    "kg": ("kg", "kilo", "kilogram", "kilograms"),
    "ml": ("ml", "milliliter", "milliliters"),
    "l": ("l", "liter", "liters", "litre", "litres"),
    "gal": ("gal", "gallon", "gallons"),
    "cfm": ("cfm",),
    "gpm": ("gpm",),
    "psi": ("psi",),
    "ah": ("ah",),
    "gauge": ("ga", "gauge"),
    "qt": ("qt", "quart", "quarts"),
    "cuft": ("cu. ft", "cu ft", "cubic feet", "cubic foot"),
    "sqft": ("sq. ft", "sq ft", "square feet", "square foot"),
    "btu": ("btu", "btus"),
    "v": ("v", "volt", "volts"),
    "w": ("w", "watt", "watts"),
    "amp": ("amp", "amps", "ampere"),
    "hp": ("hp", "horsepower"),
    "gb": ("gb", "gigabyte", "gigabytes"),
    "tb": ("tb", "terabyte", "terabytes"),
    "mb": ("mb", "megabyte", "megabytes"),
    "piece": ("pc", "pcs", "piece", "pieces", "stuck"),
    "pack": ("pk", "pack", "packs"),
    "percent": ("percent", "prozent"),
}
UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in names}
_SPACED = [name for name in UNIT_OF if len(name) > 1]
"""Units that may stand behind a blank; of `vitamin 12 c` or `ring 5 g` one letter says too little."""
_MARKS = {'"': "in", "\u2033": "in", "''": "in", "'": "ft", "\u2032": "ft", "%": "percent"}
# Han and the kana that spell endings and particles are read by character; katakana, Hangul and all else by run.
_CHARACTERS = "\u3005\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHARACTER = re.compile(rf"[{_CHARACTERS}]")
# Accents; points of Hebrew; vowel signs of Arabic, and the stroke that stretches its words.
_COMBINING = re.compile(r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670]")
_FRACTION = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_BLANKS = re.compile(r"\s")
_DIMENSIONS = re.compile(r"(?<=\d)x(?=\d)")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{1,2}(?!\d))")


def _alternatives(names: Iterable[str]) -> str:
    """Any of the names, the longest first; a blank in one is any run of blanks, or none behind a dot."""
    of_any = (re.escape(name).replace(r"\.\ ", r"\.\s*").replace(r"\ ", r"\s+") for name in names)
    return "|".join(sorted(of_any, key=len, reverse=True))


def _unit_named(name: str) -> str:
    return UNIT_OF[" ".join(name.replace(".", ". ").split())]


_MEASURE = re.compile(rf"\d[\d./-]*(?P<unit>{_alternatives(_UNITS)})")


_TOKEN = re.compile(
    rf"(?<![^\W_])(?P<number>\d+(?:\.\d+)?(?:[-\s]\d+/\d+|/\d+)?)"
    rf"(?:(?P<mark>''|[\"'%\u2032\u2033])|-?(?P<joined>{_alternatives(UNIT_OF)})(?![^\W_])"
    rf"|[\s](?P<spaced>{_alternatives(_SPACED)})(?P<dot>\.?)(?![^\W_])|(?![^\W_]))"
    rf"|[{_CHARACTERS}]|(?P<run>(?:(?![{_CHARACTERS}])[^\W_])+)"
)


def tokens(text: str, limit: int) -> list[str]:
    """The tokens of a text in their order.

    Case, accents and English plural endings are folded. A number and its unit are one token in one spelling. Characters
    of languages that set no blanks are tokens of their own; a lexicon finds the words that they form.

    Args:
        text: Any text.
        limit: Tokens that are read.

    Returns:
        The tokens.

    Example:
        >>> tokens("Dining Tables, 3 feet", 9), tokens("Pipe 1/2 in. x 10-Foot", 9), tokens("Café 貂皮", 9)
        (['dining', 'table', '3ft'], ['pipe', '1/2in', 'x', '10ft'], ['cafe', '貂', '皮'])
    """
    text = _folded(text[:MAX_CHARACTERS])
    if has_digit(text):
        text = _DIMENSIONS.sub(" x ", text)
        text = _DECIMAL_COMMA.sub(".", _GROUPED.sub("", text))
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        if match["number"] is not None:
            found.extend(_measure(match, found))
        elif match["run"] is not None:
            found.append(match["run"] if has_digit(match["run"]) else singular(match["run"]))
        else:
            found.append(match.group())
        if len(found) >= limit:
            break
    return found[:limit]


def has_digit(token: str) -> bool:
    """Whether a token has a digit: such a one is never respelled."""
    return not token.isalpha() and any(map(str.isdigit, token))


def unit_of(token: str) -> str | None:
    """The unit of a number with one; None for any other token.

    Args:
        token: A token of `tokens`.

    Returns:
        The unit in its one spelling.

    Example:
        >>> unit_of("1/2in"), unit_of("12"), unit_of("sofa")
        ('in', None, None)
    """
    match = _MEASURE.fullmatch(token)
    return match["unit"] if match else None


def is_character(token: str) -> bool:
    """Whether a token is a single character of a language without blanks."""
    return len(token) == 1 and _CHARACTER.match(token) is not None


def spelled(words: tuple[str, ...]) -> str:
    """Tokens as one text: characters without blanks, all else with them."""
    text = ""
    for word in words:
        joined = not text or (_CHARACTER.match(text[-1]) and is_character(word))
        text += word if joined else f" {word}"
    return text


def _folded(text: str) -> str:
    text = text.casefold()
    if text.isascii():
        return text
    # 1\u00bd is 1 1/2: written out, its digits would touch.
    text = unicodedata.normalize("NFKD", _FRACTION.sub(" ", text)).replace("\u2044", "/")
    return unicodedata.normalize("NFC", _COMBINING.sub("", text))


def _measure(match: re.Match[str], before: list[str]) -> list[str]:
    number = _BLANKS.sub("-", match["number"])
    if match["mark"] is not None:
        return [number + _MARKS[match["mark"]]]
    if match["joined"] is not None:
        return [number + _unit_named(match["joined"])]
    if match["spaced"] is None:
        return [number]
    # `2 in pipe`, `pipe 2 in`, `2 in. pipe` and `12 in x 8 in deep` are inches, `size 8 in white` is none.
    inches = (
        match["spaced"] != "in" or match["dot"] or not before or before[-1] == "x" or match.end() == len(match.string)
    )
    return [number + _unit_named(match["spaced"])] if inches else [number, "in"]
