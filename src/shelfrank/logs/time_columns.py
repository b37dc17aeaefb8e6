"""Reads times from a source's cells: ISO 8601 and similar texts, timestamps, and numbers since 1970."""

import re
from collections.abc import Callable, Mapping
from functools import partial

import duckdb
import ibis
from ibis.backends.duckdb import Backend

from shelfrank.engine.embedded import epoch_us
from shelfrank.logs.engine import Value
from shelfrank.logs.number_columns import plain_number
from shelfrank.logs.times import COMMA_BEFORE_EXPONENT, EARLIEST, LATEST, PER_SECOND

_DATE = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?"
_OFFSET = r"[+-]\d\d(?::?\d\d)?"
_REGION = r"[A-Za-z]+(?:/[A-Za-z0-9_+-]+)+"
_NAMED = r"(?:\[[A-Za-z0-9/_+-]+\])?"
"""The region that Java appends to an offset, which adds nothing to the time."""

_ZONE = rf"(?:(Z|z|UTC|GMT){_NAMED}|({_OFFSET}){_NAMED}|\[?({_REGION})\]?)"
_MIDNIGHT = r"^(?:0?0:00(?::00(?:[.,]0+)?)?)?$"
_TIME = rf"^\s*({_DATE})(?:[Tt\s]\s*({_CLOCK}))?\s*{_ZONE}?\s*$"
"""Date, clock, and the zone as a word for UTC, as an offset, or as the name of a region."""

_WITHOUT_ZONE = rf"^\s*{_DATE}(?:[Tt\s]\s*{_CLOCK})?\s*$"
_ABBREVIATED = rf"^\s*{_DATE}[Tt\s]\s*{_CLOCK}\s*\(?(?:[A-Za-z]{{2,5}}|(?:UTC|GMT)[+-]\d+(?::\d\d)?)\)?\s*$"
_DAY_FIRST = r"^\s*\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"
_DAY_US = 86_400 * 1_000_000
_ZONE_OFFSET = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)


def time_of(cells: Value, unit: str | None) -> Value:
    """Reads times.

    Args:
        cells: Times, text, or numbers since 1970.
        unit: Unit of numbers; None if times are not numbers.

    Returns:
        Times in UTC; null where a cell is not a time, or outside the data contract.
    """
    for step in time_steps(cells, unit):
        cells = step(cells)
    return cells


def time_steps(cells: Value, unit: str | None) -> tuple[Callable[[Value], Value], ...]:
    """The steps of `time_of`, which use their input several times: a query should compute each as a column."""
    held = cells.type()
    if unit is not None and (held.is_numeric() or held.is_string()):
        steps = (partial(_micros, unit=unit), _of_micros)
        return (_number_of_time, *steps) if held.is_string() else steps
    if held.is_string():
        return (_of_text, _within_contract)
    if held.is_timestamp() or held.is_date():
        return (lambda times: times.try_cast("timestamp('UTC', 6)"), _within_contract)
    return (lambda _: ibis.null("timestamp('UTC', 6)"),)


def time_hints(cells: Value, unit: str | None) -> Mapping[str, Value]:
    """By advice, the cells that `time_of` cannot read and for which it helps."""
    held = cells.type()
    if not (held.is_numeric() or held.is_string()):
        return {}
    numbers = _number_of_time(cells) if held.is_string() else cells.try_cast("float64")
    hints: dict[str, Value] = {
        f"they look like numbers of {name}, so declare `timestamp_unit: {name}`": numbers.between(*_bounds(name))
        for name in PER_SECOND
        if name != unit
    }
    if held.is_string():
        dates = cells.re_search(rf"^\s*{_DATE}")
        if unit is not None:
            hints["they are not numbers, so remove `timestamp_unit`"] = dates
        else:
            hints["a zone must be an offset such as +02:00 or a name such as Europe/Berlin"] = dates & (
                cells.re_search(_ABBREVIATED) | cells.re_search("/[A-Za-z]")
            )
            hints["write the year first, then month and day"] = cells.re_search(_DAY_FIRST)
    return hints


def numbers_of_times(cells: Value) -> Value:
    """Reads times that are numbers; null where a cell is not one."""
    return _number_of_time(cells) if cells.type().is_string() else cells.try_cast("float64")


def unit_of(numbers: Value) -> Mapping[str, Value]:
    """By unit, whether a number is a valid time in that unit."""
    return {unit: numbers.between(*_bounds(unit)).fill_null(False) for unit in PER_SECOND}


def is_without_zone(cells: Value, unit: str | None) -> Value:
    """Whether a time has no time zone and is read as UTC.

    Args:
        cells: Times, text, or numbers since 1970.
        unit: Unit of numbers; None if times are not numbers.

    Returns:
        Truth values; null where a cell is missing.
    """
    held = cells.type()
    if held.is_string() and unit is None:
        return cells.re_search(_WITHOUT_ZONE)
    if held.is_date() or (held.is_timestamp() and held.timezone is None):
        return cells.notnull()
    return ibis.literal(False)


def is_whole_day(cells: Value, times: Value, unit: str | None, zone: str | None = None) -> Value:
    """Whether a time is a date or the start of a day; null where a cell is not a time.

    Args:
        cells: Times, text, or numbers since 1970.
        times: What `time_of` reads from them.
        unit: Unit of numbers; None if times are not numbers.
        zone: Time zone of cells that are not text; None is UTC. Text has its own time zone.

    Returns:
        Truth values.
    """
    if cells.type().is_string() and unit is None:
        whole = cells.re_extract(_TIME, 2).re_search(_MIDNIGHT)
    else:
        whole = starts_a_day(times, zone)
    return times.notnull().ifelse(whole, ibis.null("boolean"))


@ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp('UTC')"), "timestamp"))
def _local(zone, time):
    """DuckDB's function: local time in a time zone."""


def starts_a_day(times: Value, zone: str | None = None) -> Value:
    """Whether a time is the start of a day.

    Args:
        times: Times in UTC.
        zone: Time zone of the days, as an offset or a name that the engine knows (see `known_zone`); None is UTC.

    Returns:
        Truth values.
    """
    offset = _ZONE_OFFSET.fullmatch(zone or "")
    shift_us = 0
    if offset is not None:
        sign, hours, minutes = offset.groups(default="0")
        shift_us = int(f"{sign}1") * (int(hours) * 60 + int(minutes)) * 60 * 1_000_000
    elif zone is not None:
        times = _local(zone, times)
    microseconds: Value = epoch_us(times)
    return (microseconds + shift_us) % _DAY_US == 0


def known_zone(engine: Backend, zone: str | None) -> str | None:
    """A time zone for `starts_a_day`, or None (UTC) if the engine does not know its name.

    A Parquet file may name any time zone; its times are readable nevertheless.
    """
    if zone is None or _ZONE_OFFSET.fullmatch(zone) is not None:
        return zone
    try:
        engine.con.execute("SELECT timezone(?, TIMESTAMPTZ '2000-01-01 00:00:00+00')", [zone]).fetchall()
    except duckdb.Error:
        return None
    return zone


def _number_of_time(cells: Value) -> Value:
    """Reads a number whose comma before an exponent, as in 1,709280123456E+12, is a decimal mark."""
    return plain_number(cells.re_replace(COMMA_BEFORE_EXPONENT, r"\1.\2"))


def _bounds(unit: str) -> tuple[float, float]:
    # The upper bound is excluded; float64 resolves present times to microseconds, and nanoseconds to hundreds.
    return EARLIEST.timestamp() * PER_SECOND[unit], LATEST.timestamp() * PER_SECOND[unit] * (1 - 2**-52)


def _micros(numbers: Value, unit: str) -> Value:
    """Microseconds since 1970; null where a number is not a valid time."""
    within = numbers.cast("float64").between(*_bounds(unit)).fill_null(False)
    numbers = within.ifelse(numbers, ibis.null(numbers.type()))
    per_second = PER_SECOND[unit]
    if per_second > 1_000_000:
        micros = (
            numbers // (per_second // 1_000_000)
            if numbers.type().is_integer()
            else (numbers / (per_second / 1_000_000))
        )
    else:
        # A float64 holds the microseconds of 285 years exactly.
        micros = numbers.cast("float64") * (1_000_000 // per_second)
    return micros.try_cast("int64")


def _of_micros(micros: Value) -> Value:
    seconds = (micros // 1_000_000).cast("int64")
    return seconds.as_timestamp("s") + (micros - seconds * 1_000_000).as_interval("us")


def _of_text(cells: Value) -> Value:
    date, clock, offset, region = (cells.re_extract(_TIME, group) for group in (1, 2, 4, 5))
    clock = clock.replace(",", ".").re_replace(r"^(\d{1,2}:\d\d)$", r"\1:00").re_replace("^$", "00:00:00")
    zone = (offset + region.re_replace("^(.)", r" \1")).re_replace("^$", "+00")
    text = date.replace("/", "-") + " " + clock + zone
    return cells.re_search(_TIME).ifelse(text, ibis.null("string")).try_cast("timestamp('UTC', 6)")


def _within_contract(times: Value) -> Value:
    within = (times >= ibis.literal(EARLIEST)) & (times < ibis.literal(LATEST))
    return within.fill_null(False).ifelse(times, ibis.null("timestamp('UTC', 6)"))
