"""Census-Income straight into PreparedData: every person is a search of their own that shows one product."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int8

from shelfrank.config import PrepareConfig
from shelfrank.core.artifact import is_current, publish
from shelfrank.core.errors import unknown_name
from shelfrank.core.progress import measured
from shelfrank.core.schema import Feature, Kind, Schema
from shelfrank.data.prepared import KIND, SPLITS, id_hashes, save_columns, tie_keys
from shelfrank.features.encoder import Encoder, numbers, squash
from shelfrank.features.encoder_fit import Moments, count_values, fit_features
from shelfrank.logs.raw_files import sha256
from shelfrank.paper.census.columns import GROUPS, TARGETS, group_features, left_out_columns
from shelfrank.paper.census.read import PARTS, census_file, read_people
from shelfrank.prepare.statistics import SplitCounter

CENSUS_VERSION = 1
"""Part of every folder's inputs: raise it when the same files give other arrays."""

PRODUCT_ID = "none"
"""The product of every search; the data has none."""

TIME = datetime(1995, 1, 1, tzinfo=UTC)
"""When every search happens; the data says no more than the year of the survey, which is a feature."""


def prepare_census(folder: Path, out: Path, group: str) -> bool:
    """Prepares one group of tasks for training.

    All rows of the official training file are learned from. The official test file is halved by a fixed hash of the
    row's number into validation and test (MMoE paper: Sec. 6.3.1, "randomly split ... by the fraction of 1:1").

    Args:
        folder: Holds the two official files.
        out: Where the prepared data goes.
        group: A key of `GROUPS`.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where there is no such group, or a file is missing or wrong.
    """
    if group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    tasks, features = GROUPS[group], group_features(group)
    sources = {part: sha256(census_file(folder, part)) for part in PARTS}
    inputs = {"census": sources, "group": group, "version": CENSUS_VERSION}
    if is_current(out, KIND, inputs):
        return False
    with publish(out, KIND, inputs) as draft, measured() as cost:
        people, splits = _read_split(folder)
        encoder = _fit(features, people.filter(pa.array(splits == SPLITS.index("train"))))
        statistics = _save_arrays(draft.path, people, splits, encoder, tasks)
        schema = Schema(name=f"Census-Income: {', '.join(tasks)}", features=features)
        columns = [column for encoding in encoder.numerical for column in encoding.columns()]
        codes = [encoding.column() for encoding in encoder.categorical]
        encoder.save(draft.path / "encoder.json")
        schema.save(draft.path / "schema.yaml")
        save_columns(draft.path, tasks, columns, codes)
        _save_texts(draft.path)
        pq.write_table(people.select(["customer_id"]), draft.path / "customers.parquet")
        draft.info.update(
            splits=statistics,
            features=dict(Counter(column.side.value for column in (*columns, *codes))),
            left_out_features=left_out_columns(group) | encoder.left_out,
            left_out={},
            cut_texts={},
            log=str(folder),
            log_name=schema.name,
            cost=cost.stop().as_dict(),
        )
    return True


def _read_split(folder: Path) -> tuple[pa.Table, Int8[np.ndarray, " people"]]:
    """Everybody in the files' order, and the index in `SPLITS` of each."""
    parts = {part: read_people(census_file(folder, part)) for part in PARTS}
    ids = {part: [f"{part}-{row + 1}" for row in range(people.num_rows)] for part, people in parts.items()}
    # By rank among the hashes, so that the halves are equal.
    order = np.argsort(id_hashes(ids["test"]), kind="stable")
    of_test = np.full(len(order), SPLITS.index("test"), np.int8)
    of_test[order[: len(order) // 2]] = SPLITS.index("valid")
    people = pa.concat_tables(parts[part].append_column("customer_id", pa.array(ids[part])) for part in PARTS)
    return people, np.concatenate([np.full(len(ids["data"]), SPLITS.index("train"), np.int8), of_test])


def _fit(features: tuple[Feature, ...], train: pa.Table) -> Encoder:
    moments: dict[str, Moments] = {}
    counts: dict[str, dict[str, int]] = {}
    for feature in features:
        if feature.kind is Kind.NUMERICAL:
            raw = numbers(train[feature.name])
            moments[feature.name] = Moments()
            moments[feature.name].add(squash(raw) if feature.log1p else raw)
        else:
            counts[feature.name] = count_values(train[feature.name])
    # Every person of a census has every answer.
    always_known = {feature.name for feature in features}
    return fit_features(features, moments, counts, train.num_rows, PrepareConfig(), always_known)


def _save_arrays(
    out: Path, people: pa.Table, splits: Int8[np.ndarray, " people"], encoder: Encoder, tasks: tuple[str, ...]
) -> dict[str, Any]:
    searches = pa.table(
        {
            "search_id": people["customer_id"],
            "timestamp": pa.array([TIME] * people.num_rows, pa.timestamp("us", "UTC")),
            "customer_id": people["customer_id"],
        }
    )
    counter = SplitCounter(tasks)
    for index, name in enumerate(SPLITS):
        chosen = np.flatnonzero(splits == index)
        of_split = people.take(pa.array(chosen))
        arrays = _encode(of_split, encoder, tasks) | {"customer_idx": chosen.astype(np.int32)}
        counter.add(name, arrays)
        (out / name).mkdir()
        for array, values in arrays.items():
            np.save(out / name / f"{array}.npy", values)
        pq.write_table(searches.take(pa.array(chosen)), out / name / "searches.parquet")
    return counter.finish(searches, splits)


def _encode(people: pa.Table, encoder: Encoder, tasks: tuple[str, ...]) -> dict[str, np.ndarray]:
    n = people.num_rows
    numerical = [encoding.transform(numbers(people[encoding.name])) for encoding in encoder.numerical]
    categorical = [encoding.transform(people[encoding.name])[:, None] for encoding in encoder.categorical]
    labels = [_label(people, task)[:, None] for task in tasks]
    nothing = np.zeros(n, np.int32)
    return {
        "numerical": np.concatenate([np.empty((n, 0), np.float32), *numerical], axis=1),
        "categorical": np.concatenate([np.empty((n, 0), np.int32), *categorical], axis=1),
        "labels": np.concatenate(labels, axis=1),
        "query_idx": nothing,
        "product_idx": nothing,
        "position": nothing + 1,
        "tie_keys": tie_keys(id_hashes(people["customer_id"].to_pylist()), np.repeat(id_hashes([PRODUCT_ID]), n)),
        "search_offsets": np.arange(n + 1, dtype=np.int64),
    }


def _label(people: pa.Table, task: str) -> Int8[np.ndarray, " people"]:
    target = TARGETS[task]
    return np.isin(people[target.column].to_numpy(), sorted(target.positive)).astype(np.int8)


def _save_texts(out: Path) -> None:
    (out / "texts").mkdir()
    pq.write_table(pa.table({"query": [""]}), out / "texts" / "queries.parquet")
    pq.write_table(
        pa.table({"product_id": [PRODUCT_ID], "title": [""], "document": [""]}), out / "texts" / "products.parquet"
    )
