"""Statistics of groups equal plain loops, whatever the span of time and the way the rows are cut."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfrank.engine.base import ROW, whole_groups
from shelfrank.features.history_offline import StatsOfGroups
from shelfrank.features.history_stats import DAY_US, KeyPlan, KeyStat, history_stats

TASKS = ("click", "purchase")
SUMMED = ("impression", "click", "purchase", "engaged", "event", "attention")
TABLE = history_stats(TASKS)
STATS = (
    *(KeyStat("query_product", TABLE[name], days) for days in (0.0, 1.0, 30.0) for name in SUMMED),
    KeyStat("query_product", TABLE["last_us"]),
)
KEYS = ("query_idx", "product_idx")

Moment = tuple[int, int, int, int, int]
"""Group, time in quarters of a day, click, purchase, and whether it is an event outside the result pages."""

moments = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def batch(rows: list[Moment]) -> pa.RecordBatch:
    # By query, which two groups share, then by time.
    rows = sorted(rows, key=lambda row: (row[0] // 2, *row[1:], row[0]))
    return pa.record_batch(
        {
            ROW: pa.array([-1 if row[4] else i for i, row in enumerate(rows)], pa.int64()),
            "ts_us": pa.array([row[1] * DAY_US // 4 for row in rows], pa.int64()),
            "impression": pa.array([1 - row[4] for row in rows], pa.int8()),
            "query_idx": pa.array([row[0] // 2 for row in rows], pa.int32()),
            "product_idx": pa.array([row[0] % 2 for row in rows], pa.int32()),
            "click": pa.array([0 if row[4] else row[2] for row in rows], pa.int8()),
            "purchase": pa.array([0 if row[4] else row[3] for row in rows], pa.int8()),
            "event": pa.array([row[4] for row in rows], pa.int8()),
            "attention": pa.array([0 if row[4] else 10 + row[1] for row in rows], pa.int32()),
        }
    )


def expected(groups: pa.RecordBatch, delay_us: int) -> dict[int, dict[str, int]]:
    rows = groups.to_pylist()
    made = {}
    for now in rows:
        if now[ROW] < 0:
            continue
        same = [row for row in rows if all(row[key] == now[key] for key in KEYS)]

        def known_before(row: dict[str, int], of: str, days: float, now: dict[str, int] = now) -> bool:
            at = row["ts_us"] + (delay_us if of in TASKS else 0)
            return at < now["ts_us"] and (not days or at >= now["ts_us"] - days * DAY_US)

        def total(of: str, days: float, same: list[dict[str, int]] = same, known=known_before) -> int:
            if of == "engaged":
                return total("click", days) + total("event", days)
            return sum(row[of] for row in same if known(row, of, days))

        made[now[ROW]] = {each.column: total(each.stat.name, each.days) for each in STATS[:-1]}
        clicks = [row["ts_us"] + delay_us for row in same if row["click"] and known_before(row, "click", 0)]
        events = [row["ts_us"] for row in same if row["event"] and known_before(row, "event", 0)]
        made[now[ROW]]["query_product.last_us"] = max([*clicks, *events], default=0)
    return made


def computed(groups: pa.RecordBatch, delay_us: int) -> dict[int, dict[str, int]]:
    rows = StatsOfGroups((KeyPlan("query_product", STATS, delay_us),))(groups).to_pylist()
    return {row.pop(ROW): row for row in rows}


@settings(max_examples=60, deadline=None)
@given(rows=moments, delay_days=st.sampled_from([0, 0.25, 3, 400]))
def test_statistics_equal_the_plain_loops(rows: list[Moment], delay_days: float) -> None:
    groups = batch(rows)
    delay_us = int(delay_days * DAY_US)
    assert computed(groups, delay_us) == expected(groups, delay_us)


@settings(max_examples=30, deadline=None)
@given(rows=moments)
def test_keys_together_have_the_statistics_of_each_alone(rows: list[Moment]) -> None:
    groups = batch(rows)
    of_query = KeyPlan("query", tuple(KeyStat("query", each.stat, each.days) for each in STATS), 0)
    of_pair = KeyPlan("query_product", STATS, 0)
    together = StatsOfGroups((of_query, of_pair))(groups)
    for plan in (of_query, of_pair):
        alone = StatsOfGroups((plan,))(groups)
        assert together.select(alone.schema.names).equals(alone)


def test_a_span_that_leaves_room_for_one_group_at_a_time() -> None:
    # 62 bits hold four times 30,000 years in microseconds once, not twice.
    far = 30_000 * 365 * 4
    groups = batch([(0, 1, 1, 0, 0), (0, far, 0, 0, 0), (1, 2, 1, 1, 0), (1, far, 1, 0, 0), (2, far, 0, 0, 0)])
    made = computed(groups, 0)
    assert made == expected(groups, 0)
    assert made[3]["query_product.purchase"] == 1
    assert made[3]["query_product.purchase.30d"] == 0


def test_no_rows_have_no_statistics() -> None:
    made = StatsOfGroups((KeyPlan("query_product", STATS, 0),))(batch([(0, 0, 0, 0, 0)]).slice(0, 0))
    assert made.num_rows == 0
    assert made.schema.names == [ROW, *(each.column for each in STATS)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_groups_stay_whole_wherever_the_batches_end(size: int) -> None:
    rng = np.random.default_rng(size)
    keys = np.sort(rng.integers(0, 9, 60))
    whole = pa.record_batch({"a": pa.array(keys // 3), "b": pa.array(keys % 3), "n": pa.array(np.arange(60))})
    parts = list(whole_groups((whole.slice(i, size) for i in range(0, 60, size)), ("a", "b")))
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([whole]))
    seen = [set(zip(part["a"].to_pylist(), part["b"].to_pylist(), strict=True)) for part in parts]
    assert sum(len(groups) for groups in seen) == len(set().union(*seen)) == len(set(keys.tolist()))
