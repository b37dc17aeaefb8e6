"""What `prepare` writes, row by row against the log, and that it is written once, whole and always the same."""

import copy
import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from random_log import SCHEMA, Tables, one_thread, random_tables, write_log
from shelfrank.cli.commands import _prepared_facts
from shelfrank.config import EngineConfig, SamplingConfig, SplitConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.features.encoder import CategoricalEncoding, Encoder, NumericalEncoding, numbers
from shelfrank.prepare.pipeline import prepare, raw_features

OPTIONS: dict[str, Any] = {"seed": 21, "n_searches": 60, "n_moments": 50, "some_unlabelled": True}


@dataclass
class Example:
    tables: Tables
    log: Path
    out: Path
    data: PreparedData

    def rows(self, split: str) -> list[dict[str, Any]]:
        """The log's rows in the order of the arrays."""
        by_search: dict[str, list[dict[str, Any]]] = {}
        for row in self.tables["impressions"]:
            by_search.setdefault(row["search_id"], []).append(row)
        searches = self.data.searches(split)["search_id"].to_pylist()
        return [row for search in searches for row in sorted(by_search[search], key=lambda row: row["position"])]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("prepared")
    tables = random_tables(**OPTIONS)
    log = write_log(folder / "log", tables, n_parts=3)
    assert prepare(log, folder / "out", one_thread())
    return Example(tables, log, folder / "out", PreparedData.open(folder / "out"))


def contents(out: Path) -> dict[str, str]:
    """A hash of every file except the manifest, which also says what the step cost."""
    files = (file for file in out.rglob("*") if file.is_file() and file.name != "manifest.json")
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("split", SPLITS)
def test_arrays_hold_the_rows_of_the_log(split: str, example: Example) -> None:
    rows, arrays = example.rows(split), example.data.split(split)
    assert arrays.n_rows == len(rows) > 0
    labels = [[-1 if row[task] is None else row[task] for task in TASKS] for row in rows]
    assert example.data.tasks == TASKS
    np.testing.assert_array_equal(arrays.labels, labels)
    np.testing.assert_array_equal(arrays.position, [row["position"] for row in rows])
    products = example.data.products()["product_id"].to_pylist()
    assert [products[i] for i in arrays.product_idx] == [row["product_id"] for row in rows]
    queries = example.data.queries()["query"].to_pylist()
    assert [queries[i] for i in arrays.query_idx] == [row["query"] for row in rows]
    customers = [*(f"c{i}" for i in range(4)), None]
    assert [customers[i] for i in arrays.customer_idx] == [row["customer_id"] for row in rows]
    starts = [i for i in range(len(rows)) if i == 0 or rows[i]["search_id"] != rows[i - 1]["search_id"]]
    assert arrays.search_offsets.tolist() == [*starts, len(rows)]
    assert len(np.unique(arrays.tie_keys)) == len(rows)


def test_every_search_is_in_one_split_and_searches_go_by_time(example: Example) -> None:
    searches = [example.data.searches(split) for split in SPLITS]
    ids = [search for table in searches for search in table["search_id"].to_pylist()]
    assert sorted(ids) == sorted({row["search_id"] for row in example.tables["impressions"]})
    times = [time for table in searches for time in table["timestamp"].to_pylist()]
    known = {row["search_id"]: (row["timestamp"], row["customer_id"]) for row in example.tables["impressions"]}
    assert times == sorted(times) == [known[search][0] for search in ids]
    customers = [customer for table in searches for customer in table["customer_id"].to_pylist()]
    assert customers == [known[search][1] for search in ids]


def test_every_column_is_the_encoded_value_of_its_row(example: Example) -> None:
    """Products and customers are encoded once and looked up, which must equal encoding each row's own value."""
    encoder, arrays, rows = Encoder.load(example.out / "encoder.json"), example.data.split("test"), example.rows("test")
    made = raw_features(example.log, one_thread(), split=True).to_pydict()
    by_row = {pair: i for i, pair in enumerate(zip(made["search_id"], made["product_id"], strict=True))}
    at = [by_row[row["search_id"], row["product_id"]] for row in rows]
    products = {row["product_id"]: row for row in example.tables["products"]}
    customers = {row["customer_id"]: row for row in example.tables["customers"]}

    def raw(encoding: NumericalEncoding | CategoricalEncoding) -> Any:
        if encoding.name in made:
            return np.array(made[encoding.name])[at]
        home = [{**row, **products[row["product_id"]], **customers.get(row["customer_id"], {})} for row in rows]
        column = pa.array([row.get(encoding.name) for row in home])
        return numbers(column) if isinstance(encoding, NumericalEncoding) else column

    columns = [column for encoding in encoder.numerical for column in encoding.columns()]
    written = example.data.numerical_columns
    plain = [replace(each, made_of=(), missing=own.missing) for each, own in zip(written, columns, strict=True)]
    assert columns == plain
    # What is computed of a declared feature says so; of an unknown brand or price it is what such rows have.
    sources = {each.name: each.made_of for each in written if each.made_of}
    assert sources["query_brand_share"] == sources["customer_brand_engaged"] == ("brand",)
    assert sources["page_price_rank"] == sources["customer_price_distance"] == ("price",)
    assert "loyalty__missing" in [column.name for column in columns]
    expected = np.concatenate([encoding.transform(raw(encoding)) for encoding in encoder.numerical], axis=1)
    np.testing.assert_array_equal(arrays.numerical, expected)
    assert [encoding.column() for encoding in encoder.categorical] == list(example.data.categorical_columns)
    codes = np.stack([encoding.transform(raw(encoding)) for encoding in encoder.categorical], axis=1)
    np.testing.assert_array_equal(arrays.categorical, codes)


def test_training_numbers_have_mean_0_and_spread_1(example: Example) -> None:
    arrays = example.data.split("train")
    full = [
        i
        for i, column in enumerate(arrays.numerical_columns)
        if not column.name.startswith("loyalty") and not column.name.endswith("__missing")
    ]
    assert len(full) > 50
    np.testing.assert_allclose(arrays.numerical[:, full].mean(axis=0, dtype=np.float64), 0.0, atol=1e-5)
    np.testing.assert_allclose(arrays.numerical[:, full].std(axis=0, dtype=np.float64), 1.0, atol=1e-4)


def test_an_anonymous_customer_has_the_missing_value(example: Example) -> None:
    arrays = example.data.split("train")
    anonymous = arrays.customer_idx < 0
    np.testing.assert_array_equal(arrays.column("loyalty__missing"), anonymous)
    assert set(arrays.column("loyalty")[anonymous].tolist()) == {0.0}
    assert len(set(arrays.column("loyalty")[~anonymous].tolist())) == 4


def test_position_and_labels_are_no_inputs(example: Example) -> None:
    names = {column.name for column in (*example.data.numerical_columns, *example.data.categorical_columns)}
    assert not names & {"position", "upstream_position", *TASKS}
    assert {"device", "brand", "price", "customer_engaged"} <= names


def test_statistics_are_those_of_the_log(example: Example) -> None:
    for split in SPLITS:
        rows = example.rows(split)
        times = [row["timestamp"] for row in rows]
        assert example.data.manifest.info["splits"][split] == {
            "searches": len({row["search_id"] for row in rows}),
            "impressions": len(rows),
            "queries": len({row["query"] for row in rows}),
            "products": len({row["product_id"] for row in rows}),
            "customers": len({row["customer_id"] for row in rows} - {None}),
            "positives": {task: sum(row[task] == 1 for row in rows) for task in TASKS},
            "labelled": {task: sum(row[task] is not None for row in rows) for task in TASKS},
            "first": min(times).isoformat(),
            "last": max(times).isoformat(),
        }


def test_columns_left_out_are_told_with_the_reason(example: Example) -> None:
    made = raw_features(example.log, one_thread(), split=True)
    constant = {name for name in made.column_names if len(made[name].unique()) == 1}
    assert constant
    left_out = example.data.manifest.info["left_out_features"]
    assert constant <= set(left_out)
    assert {left_out[name] for name in constant} == {"one value only in the training split"}


def test_texts_that_nothing_reads_are_told(tmp_path: Path) -> None:
    tables = random_tables(**OPTIONS)
    for row in tables["customers"]:
        row["remark"] = "asks for blue shoes"
    features = [*SCHEMA["features"], {"name": "remark", "side": "customer", "kind": "text"}]
    prepare(write_log(tmp_path / "log", tables, schema=SCHEMA | {"features": features}), tmp_path / "out", one_thread())
    left_out = PreparedData.open(tmp_path / "out").manifest.info["left_out_features"]
    assert left_out["remark"] == "a text is read only where it is a column of the products, and this one is not"


def test_a_default_that_is_no_category_is_told(tmp_path: Path) -> None:
    brand, *rest = SCHEMA["features"]
    schema = SCHEMA | {"features": [brand | {"default": 7}, *rest]}
    log = write_log(tmp_path / "log", random_tables(**OPTIONS), schema=schema)
    prepare(log, tmp_path / "out", one_thread())
    data = PreparedData.open(tmp_path / "out")
    why = "7 is no category with a code, so a missing value counts as unknown"
    assert data.manifest.info["lost_defaults"] == {"brand": why}
    assert f"default of brand of no use: {why}" in data.feature_notes()
    assert f"default of no use: brand: {why}" in _prepared_facts(data.manifest.info)


def test_a_second_run_does_nothing_and_another_input_does_it_again(tmp_path: Path) -> None:
    tables, out = random_tables(**OPTIONS), tmp_path / "out"
    log = write_log(tmp_path / "log", tables)
    assert prepare(log, out, one_thread())
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.rglob("*") if file.is_file()}
    # What the engine may use decides nothing of the result, so it is no reason to do it again.
    engine = EngineConfig(threads=2, memory_limit="400MB")
    assert not prepare(log, out, one_thread().model_copy(update={"engine": engine}))
    assert {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in out.rglob("*") if f.is_file()} == before

    fingerprint = PreparedData.open(out).manifest.fingerprint
    assert prepare(log, out, one_thread(page=False))
    changed = PreparedData.open(out)
    assert "page_size" not in {column.name for column in changed.numerical_columns}
    assert changed.manifest.fingerprint != fingerprint

    tables["impressions"][0]["click"] = 1 - (tables["impressions"][0]["click"] or 0)
    write_log(log, tables)
    assert prepare(log, out, one_thread(page=False))
    assert PreparedData.open(out).manifest.fingerprint != changed.manifest.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]


@pytest.mark.parametrize("engine", [{"threads": 1}, {"threads": 2, "memory_limit": "150MB"}], ids=str)
def test_every_run_gives_the_same_bytes(engine: dict[str, Any], example: Example, tmp_path: Path) -> None:
    assert prepare(example.log, tmp_path / "out", one_thread(engine=EngineConfig(**engine)))
    assert contents(tmp_path / "out") == contents(example.out)


def test_split_by_search_id_keeps_searches_whole(example: Example, tmp_path: Path) -> None:
    prepare(example.log, tmp_path / "out", one_thread(split=SplitConfig(by="search_id", train=0.5, valid=0.25)))
    data = PreparedData.open(tmp_path / "out")
    times = {split: data.searches(split)["timestamp"].to_pylist() for split in SPLITS}
    assert min(times["test"]) < max(times["train"])
    assert all(times[split] == sorted(times[split]) for split in SPLITS)
    other = Example(example.tables, example.log, tmp_path / "out", data)
    for split in SPLITS:
        positions = [row["position"] for row in other.rows(split)]
        np.testing.assert_array_equal(data.split(split).position, positions)


def test_a_sparse_log(tmp_path: Path) -> None:
    """No customers table, no events, no sessions, a product feature per impression, and no signal of purchases."""
    tables = random_tables(31, events=False, sessions=False, price_in_rows=True, unlabelled=("purchase",))
    del tables["customers"]
    schema = copy.deepcopy(SCHEMA)
    schema["features"] = [f for f in SCHEMA["features"] if f["name"] != "loyalty"]
    prepare(write_log(tmp_path / "log", tables, schema=schema), tmp_path / "out", one_thread())
    data = PreparedData.open(tmp_path / "out")
    assert data.tasks == ("click", "add_to_cart")
    assert data.split("train").labels.shape[1] == 2
    names = {column.name: column.side for column in data.numerical_columns}
    assert names["price"] == "product"
    assert not [name for name in names if name.startswith("session_") or name == "customer_product_clicks"]
    example = Example(tables, tmp_path / "log", tmp_path / "out", data)
    order = np.argsort([row["price"] for row in example.rows("train")], kind="stable")
    assert (np.diff(data.split("train").column("price")[order]) >= 0).all()
    assert len(np.unique(data.split("train").column("price"))) > 10


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = write_log(tmp_path / "log", random_tables(32))
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            prepare(log, tmp_path / "out", one_thread())
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    with pytest.raises(UserError, match="must be finished prepared data, but it does not exist"):
        PreparedData.open(tmp_path / "out")


def test_changed_bytes_of_the_log_are_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(33))
    part = next((log / "impressions").glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(UserError, match="its bytes have changed"):
        prepare(log, tmp_path / "out", one_thread())
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_the_log_is_never_replaced(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(34))
    before = contents(log)
    with pytest.raises(UserError, match="must be new or older prepared data, but it is a search log"):
        prepare(log, log, one_thread())
    assert contents(log) == before


def test_sampling_keeps_its_rows_and_the_features_of_all(example: Example, tmp_path: Path) -> None:
    config = one_thread(sampling=SamplingConfig(category="brand", alpha=0.3, beta=0.5, n_bins=2))
    assert prepare(example.log, tmp_path / "out", config)
    some = PreparedData.open(tmp_path / "out")
    for split in ("valid", "test"):
        np.testing.assert_array_equal(some.split(split).labels, example.data.split(split).labels)
    kept, every = some.split("train"), example.data.split("train")
    bins = pq.read_table(tmp_path / "out" / "sampling_bins.parquet")
    taken = {side: sum(bins[f"taken_{side}"].to_pylist()) for side in ("positive", "negative")}
    positive = (kept.labels == 1).any(axis=1)
    assert (positive.sum(), (~positive).sum()) == (taken["positive"], taken["negative"])
    assert 0 < kept.n_rows < every.n_rows
    # Positive rows are kept more often than others, by all the sample's bins.
    assert kept.offsets is not None
    assert kept.offsets.shape == (some.products().num_rows, len(some.tasks))
    assert some.manifest.info["sampling"]["offsets"]["click"] > 0
    assert (some.split("valid").offsets, every.offsets) == (None, None)
    # Every kept row has the features that it has among all rows, up to the other fit of the encoder.
    place = {int(tie): row for row, tie in enumerate(every.tie_keys)}
    rows = [place[int(tie)] for tie in kept.tie_keys]
    encoders = [Encoder.load(folder / "encoder.json") for folder in (example.out, tmp_path / "out")]
    raw = []
    for encoder, split, chosen in zip(encoders, (every, kept), (rows, slice(None)), strict=True):
        fitted = {encoding.name: encoding for encoding in encoder.numerical}
        names = [column.name for column in split.numerical_columns]
        raw.append(
            {
                name: np.asarray(split.numerical[chosen, names.index(name)], float) * each.std + each.mean
                for name, each in fitted.items()
                # A missing value becomes the training mean, which is another one.
                if not each.flags_missing
            }
        )
    shared = raw[0].keys() & raw[1].keys()
    assert len(shared) > 60
    for name in shared:
        np.testing.assert_allclose(raw[1][name], raw[0][name], atol=1e-4, rtol=1e-4, err_msg=name)


KILLED = """
import os, signal, sys
from pathlib import Path
from random_log import one_thread
from shelfrank.core import artifact
from shelfrank.prepare import arrays, log_pass, pipeline

def die(*arguments, **settings):
    os.kill(os.getpid(), signal.SIGKILL)

POINTS = {
    "totals": (log_pass.ColumnFiles, "put"),
    "half_the_arrays": (arrays.SplitCounter, "add"),
    "hashing": (artifact, "_hash_files"),
    "swap": (artifact, "_swap_into_place"),
}
folder = Path(sys.argv[1])
for name, (module, function) in POINTS.items():
    # The engine starts its threads in the child only.
    child = os.fork()
    if not child:
        setattr(module, function, die)
        pipeline.prepare(folder / "log", folder / "out", one_thread())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(name, os.WTERMSIG(status), (folder / "out").exists(), flush=True)
"""


def test_kill_leaves_nothing_that_opens_and_the_next_run_succeeds(example: Example, tmp_path: Path) -> None:
    write_log(tmp_path / "log", example.tables, n_parts=3)
    paths = os.pathsep.join(path for path in (str(Path(__file__).parent), *sys.path) if path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        check=True,
        capture_output=True,
        text=True,
    )
    points = ("totals", "half_the_arrays", "hashing", "swap")
    assert done.stdout.splitlines() == [f"{point} 9 False" for point in points]
    assert len(list(tmp_path.iterdir())) > 1, "the killed runs must have left something half-written"
    assert prepare(tmp_path / "log", tmp_path / "out", one_thread())
    assert contents(tmp_path / "out") == contents(example.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]


def test_numbers_outside_of_the_training_range_are_clipped_and_counted(tmp_path: Path) -> None:
    plain = random_tables(seed=3, n_searches=60, n_moments=50, price_in_rows=True)
    odd = copy.deepcopy(plain)
    last = max(row["timestamp"] for row in odd["impressions"])
    rows = [row for row in odd["impressions"] if row["timestamp"] == last]
    rows[0]["price"] = 1e6
    data = []
    for name, tables in (("plain", plain), ("odd", odd)):
        prepare(write_log(tmp_path / f"{name}-log", tables), tmp_path / name, one_thread())
        data.append(PreparedData.open(tmp_path / name))
    before, after = data
    np.testing.assert_array_equal(before.split("train").numerical, after.split("train").numerical)
    names = [column.name for column in after.numerical_columns]
    seen, test = after.split("train").numerical, after.split("test").numerical
    for name in ("price", "page_price_to_mean", "page_price_to_least"):
        place = names.index(name)
        assert test[:, place].max() <= seen[:, place].max()
        assert test[:, place].min() >= seen[:, place].min()
    assert test[:, names.index("price")].max() == seen[:, names.index("price")].max()
    clipped = after.manifest.info["clipped"]
    assert clipped["price"]["test"] == 1 + before.manifest.info["clipped"].get("price", {}).get("test", 0)
    assert all("train" not in splits for splits in clipped.values())
    # Counts of the history grow in later weeks.
    assert all("price" in name for name in clipped)
    rows_of = " and ".join(f"{count} {split} rows" for split, count in clipped["price"].items())
    assert f"price of {rows_of} is clipped to the range of the training rows" in after.feature_notes()
    assert f"clipped to the training range: price: {rows_of.replace(' and', ',')}" in _prepared_facts(
        after.manifest.info
    )
