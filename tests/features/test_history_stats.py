"""Every measure of the table reads the same from a row of a log and from the live events of that row."""

import math

import ibis
import pytest

from shelfrank.core.schema import TASKS
from shelfrank.features.history_stats import OUTSIDE, HistoryEvent, KeyStat, Measure, history_stats, key_plans

TABLE = history_stats(TASKS)
MEASURES = {part.name: part for stat in TABLE.values() for part in stat.parts}
WITH_LEVELS = {part.name: part for stat in history_stats(TASKS, ("price",)).values() for part in stat.parts}
ROWS = [
    {"position": position, "price": price, **dict(zip(TASKS, labels, strict=True))}
    for position in (1, 2, 3, 7, 48)
    for price in (None, 0.0, 0.37, 1.0, 349.99)
    for labels in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (0, 0, 1))
]


def of_rows(measure: Measure) -> list[int]:
    table = ibis.memtable(ROWS, schema=dict.fromkeys(("position", *TASKS), "int32") | {"price": "float64"})
    value = measure.of_rows(table)
    if isinstance(value, int):
        return [value] * len(ROWS)
    column = table.select(value=value.cast(measure.dtype)).to_pyarrow()["value"].to_pylist()
    assert None not in column
    return column


def events(row: dict[str, float]) -> list[HistoryEvent]:
    kinds = ("impression", *(task for task in TASKS if row[task]))
    return [HistoryEvent(0, kind, 0, query="red", position=row["position"], price=row["price"]) for kind in kinds]


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_a_row_counts_as_much_as_its_events(name: str) -> None:
    measure = MEASURES[name]
    of_events = [sum(measure.of_event(event) for event in events(row)) for row in ROWS]
    assert of_rows(measure) == of_events
    # A measure that is 0 everywhere would agree too.
    assert any(of_events) == (name != "event")


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_outside_the_results_pages_only_the_event_counts(name: str) -> None:
    outside = HistoryEvent(0, OUTSIDE, 0, price=9.0, position=3)
    assert MEASURES[name].of_event(outside) == (name == "event")


@pytest.mark.parametrize("measure", WITH_LEVELS.values(), ids=WITH_LEVELS)
def test_a_measure_counts_events_of_its_own_kind_alone(measure: Measure) -> None:
    values = {
        kind: measure.of_event(HistoryEvent(0, kind, 0, price=9.0, position=3, levels={"price": 5}))
        for kind in ("impression", *TASKS, OUTSIDE)
    }
    assert [kind for kind, value in values.items() if value] == [measure.kind]


def test_attention_and_prices_are_whole_millionths() -> None:
    click = HistoryEvent(0, "click", 0, price=math.e**2)
    assert MEASURES["clicked_price"].of_event(click) == 2_000_000
    assert MEASURES["attention"].of_event(HistoryEvent(0, "impression", 0, position=3)) == 500_000


def test_the_first_task_engages_where_a_log_has_no_clicks() -> None:
    engaged = history_stats(("purchase",))["engaged"]
    assert [part.name for part in engaged.parts] == ["purchase", "event"]
    assert engaged != TABLE["engaged"]
    assert history_stats(TASKS) == TABLE


def test_a_plan_reads_sums_where_outcomes_become_known() -> None:
    stats = [
        KeyStat(key, TABLE[name], days)
        for key, name, days in (("query", "impression", 0.0), ("query", "click", 1.0), ("product", "last_us", 0.0))
    ]
    plans = key_plans([*stats, *stats], outcome_delay_s=60)
    assert list(plans) == ["product", "query"]
    assert [measure.name for measure in plans["query"].measures] == ["click", "impression"]
    assert plans["query"].offsets_us == (0, 60_000_000, 86_460_000_000)
    assert [measure.name for measure in plans["product"].latest] == ["click", "event"]
    assert plans["product"].offsets_us == (0, 60_000_000)
    assert plans["query"].latest == ()
