"""`prepare`: from a search log to PreparedData.

engine   integer keys, splits, sampling  -> rows      keys, labels and declared columns, by search and position
         each key's rows by time         -> history   statistics of the same rows, in the same order
         pairs of the training rows      -> relevance labels
NumPy    whole pages at a time: features, encoder fitted on the kept training rows, arrays
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.config import PrepareConfig
from shelfrank.core.artifact import is_current, publish
from shelfrank.core.folds import clear_other_folds, fold_name, folds_in_progress, gather_folds
from shelfrank.core.progress import measured
from shelfrank.core.schema import AS_WRITTEN
from shelfrank.data.prepared import KIND, PreparedData, one_after_another, save_columns
from shelfrank.features.encoder_fit import lost_defaults
from shelfrank.features.page_features import computed_features, numerical_columns
from shelfrank.features.plan import unread_texts
from shelfrank.features.understanding import UNDERSTANDING
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.arrays import write_arrays
from shelfrank.prepare.fit import fit_encoder
from shelfrank.prepare.leaks import find_suspects
from shelfrank.prepare.log_pass import LogPass, read_log
from shelfrank.prepare.relevance import PAIRS_FILE
from shelfrank.prepare.sampling_info import sampling_info
from shelfrank.prepare.sampling_offsets import save_offsets
from shelfrank.prepare.voters import voter_sources
from shelfrank.text.scores import SemanticScores

PREPARE_VERSION = 10
"""Part of every prepared folder's inputs: raise it when the same log and config give other arrays."""


def prepare(log_path: Path, out: Path, config: PrepareConfig) -> bool:
    """Prepares a log for training.

    Args:
        log_path: A finished search log.
        out: Where the prepared data goes; a forward split puts each fold into a folder of it.
        config: How to split and sample, which features and labels to make, which engine to use.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the log is unusable or a setting names something that the log has not.
    """
    log = SearchLog.open(log_path)
    scores = _semantic_scores(log, config)
    inputs = _inputs(log, config, scores)
    if is_current(out, KIND, inputs):
        return False
    if config.split.is_several:
        _prepare_folds(log_path, out, config, inputs)
        return True
    log.verify()
    with publish(out, KIND, inputs) as draft, measured() as cost, _scratch(out) as scratch:
        log_pass = read_log(log, config, scratch, scores)
        info = _write(draft.path, log, log_pass, config)
        draft.info.update(info, log=str(log_path), log_name=log.schema.name, cost=cost.stop().as_dict())
    return True


def _inputs(log: SearchLog, config: PrepareConfig, scores: SemanticScores | None) -> dict[str, Any]:
    # Which engine, and within which limits, changes how fast the result comes, never what it is.
    settings = config.model_dump(mode="json", exclude={"engine", "semantic_scores"})
    return {
        "log": log.manifest.fingerprint,
        "config": settings,
        "semantic_scores": scores.fingerprint if scores else None,
        "voters": voter_sources(config.relevance.voters) if config.relevance else {},
        "version": PREPARE_VERSION,
    }


def _prepare_folds(log_path: Path, out: Path, config: PrepareConfig, inputs: dict[str, Any]) -> None:
    """Prepares every fold by itself, so that nothing of one is fitted on searches that only a later one trains on."""
    names = [fold_name(number) for number in range(1, config.split.folds + 1)]
    finished = folds_in_progress(out, inputs)
    with publish(out, KIND, inputs) as draft:
        clear_other_folds(finished)
        for number, name in enumerate(names, start=1):
            prepare(log_path, finished / name, config.model_copy(update={"split": config.split.only_fold(number)}))
        gather_folds(finished, names, KIND, draft)
        draft.info.update(_info_of_folds([PreparedData.open(finished / name) for name in names]), folds=names)
    shutil.rmtree(finished.parent, ignore_errors=True)


def _info_of_folds(folds: Sequence[PreparedData]) -> dict[str, Any]:
    """The facts of the last fold, with the test split of all folds and what they took together."""
    infos = [fold.manifest.info for fold in folds]
    tests = [info["splits"]["test"] for info in infos]
    rows = one_after_another([fold.split("test") for fold in folds])
    test = {
        **{name: sum(each[name] for each in tests) for name in ("searches", "impressions")},
        **{
            name: len(np.unique(idx[idx >= 0]))
            for name, idx in (
                ("queries", rows.query_idx),
                ("products", rows.product_idx),
                ("customers", rows.customer_idx),
            )
        },
        **{
            name: {task: sum(each[name][task] for each in tests) for task in rows.tasks}
            for name in ("positives", "labelled")
        },
        "first": tests[0]["first"],
        "last": tests[-1]["last"],
    }
    cost = {
        "wall_s": round(sum(info["cost"]["wall_s"] for info in infos), 2),
        "peak_rss_mb": max(info["cost"]["peak_rss_mb"] for info in infos),
    }
    # A fold that an earlier version finished has no seconds.
    each_fold = [info.get("feature_seconds", {}) for info in infos]
    groups = dict.fromkeys(group for seconds in each_fold for group in seconds)
    return {
        **infos[-1],
        "splits": {**infos[-1]["splits"], "test": test},
        "feature_seconds": {group: round(sum(each.get(group, 0.0) for each in each_fold), 2) for group in groups},
        "cost": cost,
    }


def raw_features(log_path: Path, config: PrepareConfig, split: bool = False) -> pa.Table:
    """The computed features of every impression before encoding, for inspection and for tests.

    Args:
        log_path: A finished search log.
        config: Which features to make.
        split: Whether what is learned from outcomes is learned from training searches only, as in prepared data; where
            not, from all searches, each from its past.

    Returns:
        `search_id`, `product_id` and one column per computed feature, by search and position.
    """
    log = SearchLog.open(log_path)
    config = config.model_copy(update={"sampling": None, "relevance": None})
    with tempfile.TemporaryDirectory() as folder:
        log_pass = read_log(log, config, Path(folder), _semantic_scores(log, config), split)
        parts = log_pass.reader.map(
            "Computing features",
            lambda batch: pa.table(
                {
                    "search_id": log_pass.searches["search_id"].take(batch.rows["search_idx"]),
                    "product_id": log_pass.entities.products["product_id"].take(batch.rows["product_idx"]),
                    **{
                        name: values if values.dtype == np.float32 else values.astype(np.float64)
                        for name, values in batch.computed.items()
                    },
                }
            ),
        )
        return pa.concat_tables(parts)


def _semantic_scores(log: SearchLog, config: PrepareConfig) -> SemanticScores | None:
    if config.semantic_scores is None:
        return None
    scores = SemanticScores.open(Path(config.semantic_scores))
    # The training searches of the first fold are those of every fold.
    split = config.split.only_fold(1) if config.split.by == "forward" else config.split
    scores.check(log.manifest.fingerprint, split.plain())
    return scores


def _write(out: Path, log: SearchLog, log_pass: LogPass, config: PrepareConfig) -> dict[str, Any]:
    reader, plan = log_pass.reader, log_pass.plan
    encoder = fit_encoder(reader, log_pass.entities, plan, config)
    sizes = reader.page_sizes(log_pass.searches.num_rows)
    relevance = log_pass.relevance[0] if log_pass.relevance else None
    statistics, clipped = write_arrays(
        out, reader, log_pass.entities, encoder, log_pass.searches, sizes, plan, relevance
    )
    encoder.save(out / "encoder.json")
    log.schema.save(out / "schema.yaml")
    columns = numerical_columns(encoder, computed_features(plan.history, config))
    codes = [encoding.column() for encoding in encoder.categorical]
    n_classes = config.relevance.n_classes if config.relevance else 0
    save_columns(out, plan.tasks, columns, codes, n_classes)
    _write_texts(out, log_pass)
    declared = [feature.name for feature in (*plan.product_features, *plan.customer_features, *plan.row_features)]
    suspects = find_suspects(out / "train", columns, codes, plan.tasks, declared)
    info = {
        "splits": statistics,
        "features": dict(Counter(column.side.value for column in (*columns, *codes))),
        "feature_seconds": reader.seconds.as_dict(),
        "left_out_features": encoder.left_out | unread_texts(log.schema, log_pass.entities.products),
        "suspect_features": {each.feature: each.as_dict() for each in suspects},
        "clipped": clipped,
        "lost_defaults": lost_defaults(log.schema.features, encoder),
        "spelling": (log.schema.spelling or AS_WRITTEN).sentence(),
        "left_out": dict(log.manifest.info["left_out"]),
        "cut_texts": dict(log_pass.texts.textual.truncated) if log_pass.texts.textual else {},
    }
    if log_pass.queries is not None:
        log_pass.queries.understanding.save(out / UNDERSTANDING)
        of_query = np.bincount(log_pass.searches["query_idx"].to_numpy(), minlength=len(log_pass.queries.readings))
        info["understanding"] = log_pass.queries.facts(of_query)
    if log_pass.sampled is not None and config.sampling is not None:
        pq.write_table(log_pass.sampled.bins, out / "sampling_bins.parquet")
        save_offsets(log_pass.sampled.offsets, out)
        info["sampling"] = sampling_info(log_pass.sampled.bins, config.sampling, log_pass.sampled.mean_offsets)
        lost = (sizes == 0) & (reader.splits == 0)
        info["left_out"]["training searches of which sampling kept no row"] = int(lost.sum())
    if config.split.by == "forward":
        info["left_out"]["searches after the test window"] = int((reader.splits < 0).sum())
    if log_pass.relevance and config.relevance:
        labels, pairs = log_pass.relevance
        labels.save(out / PAIRS_FILE, pairs, config.relevance)
        info["relevance"] = {"counts": dict(labels.counts), "notes": list(labels.notes)}
    return info


def _write_texts(out: Path, log_pass: LogPass) -> None:
    (out / "texts").mkdir()
    entities = log_pass.entities
    pq.write_table(entities.queries.select(["query"]), out / "texts" / "queries.parquet")
    pq.write_table(log_pass.texts.table(entities.products), out / "texts" / "products.parquet")
    pq.write_table(entities.customers, out / "customers.parquet")


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    folder = out.with_name(f".{out.name}.scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
