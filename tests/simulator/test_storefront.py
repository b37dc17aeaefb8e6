import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, ValidationError

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.logs.search_log import SearchLog
from shelfrank.simulator import TRUTH_COLUMNS, StorefrontConfig, retrieval, simulate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "storefront.md"
CONFIG = StorefrontConfig(searches=4000, customers=800, days=30)
TINY = StorefrontConfig.model_validate(
    {"searches": 60, "products": 600, "customers": 20, "days": 2, "queries": {"intents": 100}}
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> SearchLog:
    out = tmp_path_factory.mktemp("shop") / "log"
    assert simulate(out, CONFIG)
    return SearchLog.open(out)


@pytest.fixture(scope="module")
def tiny_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of `TINY`, which tests must only read."""
    out = tmp_path_factory.mktemp("tiny") / "log"
    assert simulate(out, TINY)
    return out


@pytest.fixture(scope="module")
def tables(log: SearchLog) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for table in ("impressions", "products", "customers"):
        connection.read_parquet(log.files(table)).create_view(table)
        connection.read_parquet(log.files(f"truth/{table}")).create_view(f"truth_{table}")
    return connection


def one(tables: duckdb.DuckDBPyConnection, query: str) -> tuple[float, ...]:
    row = tables.execute(query).fetchone()
    assert row is not None
    return row


def written(out: Path) -> dict[str, str]:
    files = json.loads((out / "manifest.json").read_text())["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def test_same_configuration_gives_same_bytes(tiny_log: Path, tmp_path: Path) -> None:
    assert simulate(tmp_path / "again", TINY)
    assert written(tmp_path / "again") == written(tiny_log)


def test_another_seed_gives_another_shop(tiny_log: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "other", TINY.model_copy(update={"seed": 2}))
    changed = {name for name, sha in written(tiny_log).items() if written(tmp_path / "other")[name] != sha}
    assert changed == set(written(tiny_log)) - {"schema.yaml"}


def test_finished_log_is_left_alone_and_another_configuration_replaces_it(tiny_log: Path, tmp_path: Path) -> None:
    log = Path(shutil.copytree(tiny_log, tmp_path / "log"))
    before = (log / "manifest.json").stat().st_mtime_ns
    assert not simulate(log, TINY)
    assert (log / "manifest.json").stat().st_mtime_ns == before
    assert simulate(log, TINY.model_copy(update={"searches": 61}))


def test_more_searches_leave_catalogue_and_customers_as_they_are(tiny_log: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "more", TINY.model_copy(update={"searches": 120}))
    same = [name for name in written(tiny_log) if "impressions" not in name and "searches" not in name]
    assert len(same) == 5
    assert [written(tiny_log)[name] for name in same] == [written(tmp_path / "more")[name] for name in same]


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="holds something else"):
        simulate(tmp_path, TINY)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_log_holds_every_search_and_breaks_no_rule(log: SearchLog, tables: duckdb.DuckDBPyConnection) -> None:
    assert log.manifest.info["warnings"] == []
    assert log.manifest.info["left_out"] == {}
    assert one(tables, "select count(distinct search_id) from impressions") == (CONFIG.searches,)
    broken = one(
        tables,
        """select count(*) filter (purchase > add_to_cart or add_to_cart > click),
            count(*) filter (position < 1 or position > 40) from impressions""",
    )
    assert broken == (0, 0)
    gaps = """select count(*) from (select search_id from impressions group by 1
        having max(position) <> count(*) or count(distinct position) <> count(*)
        or count(distinct product_id) <> count(*) or count(distinct timestamp) <> 1)"""
    assert one(tables, gaps) == (0,)


def test_every_id_is_known(tables: duckdb.DuckDBPyConnection) -> None:
    for table, key in (("products", "product_id"), ("customers", "customer_id")):
        unknown = f"""select count(*) from impressions anti join {table} using ({key}) where {key} is not null"""
        assert one(tables, unknown) == (0,)


def test_no_product_is_shown_before_its_launch_yet_new_ones_are_shown(tables: duckdb.DuckDBPyConnection) -> None:
    early, new = one(
        tables,
        """select count(*) filter (timestamp < launched_at), count(*) filter (launched_at >= '2025-06-01')
        from impressions join products using (product_id)""",
    )
    assert early == 0
    assert new > 100


def test_new_products_have_no_reviews_yet(tables: duckdb.DuckDBPyConnection) -> None:
    query = """select count(*), sum(review_count), count(rating) from products where launched_at >= '2025-06-01'"""
    n, reviews, rated = one(tables, query)
    assert n > 100
    assert (reviews, rated) == (0, 0)


def test_times_lie_within_the_days_and_in_the_order_of_the_searches(tables: duckdb.DuckDBPyConnection) -> None:
    outside = """select count(*) from impressions
        where timestamp < '2025-06-01 00:00:00+00' or timestamp >= '2025-07-01 00:00:00+00'"""
    assert one(tables, outside) == (0,)
    backwards = """select count(*) from (select timestamp < lag(timestamp) over (order by search_id, position) back
        from impressions) where back"""
    assert one(tables, backwards) == (0,)


def test_the_truth_has_the_rows_of_the_log(log: SearchLog) -> None:
    rows, truth = pq.read_table(log.path / "impressions"), pq.read_table(log.path / "truth" / "impressions")
    assert rows["search_id"].equals(truth["search_id"])
    assert rows["product_id"].equals(truth["product_id"])
    assert truth.column_names == ["search_id", "product_id", *TRUTH_COLUMNS]
    assert truth.schema.field("grade").type == "int8"


def test_truth_is_no_feature(log: SearchLog) -> None:
    declared = {feature.name for feature in log.schema.features}
    columns = {name: set(pq.read_schema(log.files(name)[0]).names) for name in ("impressions", "products", "customers")}
    shared = {"product_id", "customer_id", "search_id"}
    for table in columns:
        hidden = set(pq.read_schema(log.files(f"truth/{table}")[0]).names) - shared
        # What the shop lists truly, such as the brand, is in both; nothing else may be.
        listed = {"brand", "color", "material", "age_group"} if table == "products" else set()
        assert hidden & (columns["impressions"] | columns["products"] | columns["customers"]) == listed
        assert declared & hidden == listed
    of_searches = set(pq.read_schema(log.files("truth/searches")[0]).names) - shared
    assert not of_searches & (declared | set.union(*columns.values()))
    assert declared <= set.union(*columns.values())


def test_truth_is_bounded_and_nested(log: SearchLog) -> None:
    table = pq.read_table(log.path / "truth" / "impressions")
    truth = {name: table[name].to_numpy() for name in TRUTH_COLUMNS}
    assert set(truth["grade"].tolist()) == {0, 1, 2, 3}
    assert ((truth["p_examine"] > 0) & (truth["p_examine"] <= 1)).all()
    assert np.isfinite(truth["fit"]).all()
    for kind in ("given_examined", "average"):
        click, cart, purchase = (truth[f"{task}_{kind}"] for task in TASKS)
        assert (click < 1).all()
        assert ((click > cart) & (cart > purchase) & (purchase > 0)).all()


@pytest.mark.parametrize("task", TASKS)
def test_labels_follow_the_truth(tables: duckdb.DuckDBPyConnection, task: str) -> None:
    groups = tables.execute(
        f"""select sum({task}), sum(p), sum(p * (1 - p)) from (
            select {task}, p_examine * {task}_given_examined p, ntile(6) over (order by p) as part
            from impressions join truth_impressions using (search_id, product_id)) group by part order by part"""
    ).fetchall()
    assert len(groups) == 6
    for happened, expected, variance in groups:
        assert abs(happened - expected) < 4 * variance**0.5 + 1


def test_rates_are_those_of_shops(tables: duckdb.DuckDBPyConnection) -> None:
    products, click, cart, purchase = one(
        tables,
        """select avg(n), avg(click), avg(cart), avg(purchase) from (select count(*) n, max(click) click,
            max(add_to_cart) cart, max(purchase) purchase from impressions group by search_id)""",
    )
    assert 15 < products < 28
    assert 0.45 < click < 0.65
    assert 0.1 < cart < 0.2
    assert 0.03 < purchase < 0.08


@pytest.mark.parametrize("task", TASKS)
def test_best_order_beats_unpersonal_order_beats_shown_order(tables: duckdb.DuckDBPyConnection, task: str) -> None:
    shown, average, best = one(
        tables,
        f"""with ranked as (select search_id, {task} as label, position as shown,
                row_number() over (partition by search_id order by {task}_average desc, product_id) as average,
                row_number() over (partition by search_id order by {task}_given_examined desc, product_id) as best
            from impressions join truth_impressions using (search_id, product_id))
        select avg(1 / shown), avg(1 / average), avg(1 / best) from (
            select min(shown) shown, min(average) average, min(best) best from ranked
            where label = 1 group by search_id)
        """,
    )
    assert shown + 0.03 < average < best - 0.03
    assert best < 0.9


def test_searches_that_find_nothing_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = retrieval.TextSearch.find

    def find_nothing_at_first(engine: retrieval.TextSearch, forms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        products, matches = find(engine, forms)
        products[:7] = -1
        return products, matches

    monkeypatch.setattr(retrieval.TextSearch, "find", find_nothing_at_first)
    simulate(tmp_path / "a", TINY)
    log = SearchLog.open(tmp_path / "a")
    assert log.manifest.info["left_out"] == {"searches that found no product": 7}
    shown = pq.read_table(log.path / "impressions")["search_id"].to_pylist()
    assert len(set(shown)) == TINY.searches - 7
    assert pq.read_table(log.path / "truth" / "searches")["search_id"].to_pylist() == sorted(set(shown))
    assert min(shown) == "s0000008"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"searches": 0}, "searches"),
        ({"searches": -5}, "searches"),
        ({"products": -1}, "products"),
        ({"customers": 0}, "customers"),
        ({"days": 1}, "days"),
        ({"seed": -1}, "seed"),
        ({"candidates": 1}, "candidates"),
        ({"product": 5000}, "product"),
        ({"taste": {"colour": 1.0}}, "taste.colour"),
        ({"queries": {"typo": 1.5}}, "queries.typo"),
        ({"ranking": {"type_known": 0.8, "type_mistaken": 0.3}}, "ranking"),
    ],
)
def test_impossible_configuration_is_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StorefrontConfig.model_validate(given)
    assert [".".join(str(part) for part in error["loc"]) for error in caught.value.errors()] == [named]


def test_docs_list_every_parameter() -> None:
    config, rows = StorefrontConfig(), []
    for name, field in StorefrontConfig.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            inner = type(value).model_fields
            rows += [f"| `{name}.{part}` | {getattr(value, part)} | {inner[part].description} |" for part in inner]
        else:
            rows.append(f"| `{name}` | {value} | {field.description} |")
    assert len(rows) > 50
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row not in lines] == []


def test_docs_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = DOCS.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(DOCS), "exec"), {})
    assert SearchLog.open(tmp_path / "shop").manifest.info["rows"]["products"] == 2000
