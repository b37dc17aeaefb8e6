"""Time, memory and aggregate rates of the simulator: `python benchmarks/simulate.py [searches]`."""

import json
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from shelfrank.core.progress import measured
from shelfrank.logs.search_log import SearchLog
from shelfrank.simulator import StorefrontConfig, simulate

RATES = """
with pages as (
    select search_id, count(*) n, max(click) click, max(add_to_cart) cart, max(purchase) purchase
    from impressions group by 1)
select count(*) searches, sum(n) impressions, avg(n) products_per_search,
    avg(click) with_click, avg(cart) with_cart, avg(purchase) with_purchase from pages
"""

KINDS = """
select avg((query_kind = 'plain')::int) plain, avg((query_kind = 'synonym')::int) synonym,
    avg((query_kind = 'typo')::int) typo from searches
"""

BOUNDS = """
with rows as (select * from impressions join truth using (search_id, product_id)),
ranked as (
    select {task} as label,
        position as shown,
        row_number() over (partition by search_id order by grade desc, product_id) as graded,
        row_number() over (partition by search_id order by {task}_average desc, product_id) as average,
        row_number() over (partition by search_id order by {task}_given_examined desc, product_id) as best,
        search_id from rows),
firsts as (
    select min(shown) filter (label = 1) shown, min(graded) filter (label = 1) graded,
        min(average) filter (label = 1) average, min(best) filter (label = 1) best
    from ranked group by search_id having max(label) = 1)
select count(*) searches,
    avg((shown = 1)::int) mrr1_shown, avg((graded = 1)::int) mrr1_relevance,
    avg((average = 1)::int) mrr1_not_personal, avg((best = 1)::int) mrr1_best,
    avg(if(shown <= 10, 1 / shown, 0)) mrr10_shown, avg(if(graded <= 10, 1 / graded, 0)) mrr10_relevance,
    avg(if(average <= 10, 1 / average, 0)) mrr10_not_personal, avg(if(best <= 10, 1 / best, 0)) mrr10_best
from firsts
"""


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 45_000
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "log"
        with measured() as cost:
            started = time.process_time()
            simulate(out, StorefrontConfig(searches=n))
            cpu_s = time.process_time() - started
        print(json.dumps({"searches": n, "cpu_s": round(cpu_s, 2), **cost.as_dict()}))
        log = SearchLog.open(out)
        print(json.dumps({name: log.manifest.info[name] for name in ("rows", "left_out", "warnings")}))
        connection = duckdb.connect()
        connection.read_parquet(log.files("impressions")).create_view("impressions")
        connection.read_parquet(log.files("truth/impressions")).create_view("truth")
        connection.read_parquet(log.files("truth/searches")).create_view("searches")
        _print(connection, "rates", RATES)
        _print(connection, "kinds of queries", KINDS)
        for task in ("click", "add_to_cart", "purchase"):
            _print(connection, f"bounds of {task}", BOUNDS.format(task=task))


def _print(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    result = connection.execute(query)
    columns = [column[0] for column in result.description or []]
    values = [round(float(value), 4) for value in result.fetchall()[0]]
    print(json.dumps({name: dict(zip(columns, values, strict=True))}))


if __name__ == "__main__":
    main()
