"""What texts can win on a simulated shop, by kind of query: LambdaMART with and without them, and with the true grade.

python benchmarks/text_ceiling.py demo/log demo/prepared

The true relevance grade is more than any reading of the words can tell, so `grade` less `all` is the most that is left
to win, and `all` less `no text` what the text features and the semantic score win already. The measures are MRR@10
of logged clicks, and NDCG@10 of the true grade.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from shelfrank.core.schema import Side
from shelfrank.data.prepared import Column, PreparedData, Split
from shelfrank.evaluate.segmentations import query_kinds
from shelfrank.features.textual.comparison import WORD_FEATURES
from shelfrank.metrics import bootstrap_difference, ndcg, reciprocal_rank
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.run import problem, resolve_experiment

K = 10
KNOWN = ("semantic_score", *(name for name, _ in WORD_FEATURES))
NAMED = ("_matched", "_conflict")
PAIRS = (("all", "no text"), ("grade", "all"))


def true_grades(log: Path, prepared: PreparedData, split: Split) -> np.ndarray:
    table = pq.read_table(log / "truth" / "impressions")
    keys = zip(table["search_id"].to_pylist(), table["product_id"].to_pylist(), strict=True)
    place = {key: row for row, key in enumerate(keys)}
    searches = np.repeat(prepared.searches(split.name)["search_id"].to_pylist(), np.diff(split.search_offsets))
    products = np.array(prepared.products()["product_id"].to_pylist())[split.product_idx]
    rows = [place[key] for key in zip(searches.tolist(), products.tolist(), strict=True)]
    return table["grade"].to_numpy()[rows]


def with_grade(split: Split, grade: np.ndarray) -> Split:
    numerical = np.concatenate([split.numerical, grade.astype(np.float32)[:, None]], axis=1)
    return replace(
        split,
        numerical=numerical,
        numerical_columns=(*split.numerical_columns, Column("grade", Side.INTERACTION, 0, 0.0, 0.0)),
    )


def scores(prepared: PreparedData, exclude: list[str], grades: dict[str, np.ndarray] | None, seed: int) -> np.ndarray:
    """LambdaMART's scores of the test split."""
    config = resolve_experiment("lambdamart", None, [f"exclude_features={exclude}", "train.threads=1"], seed)
    known = problem(prepared, config)
    splits = {}
    for name in ("train", "valid", "test"):
        split = prepared.split(name).select(config.exclude_sides, config.exclude_features)
        splits[name] = split if grades is None else with_grade(split, grades[name])
    if grades is not None:
        n = known.n_numerical
        known = replace(known, columns=(*known.columns[:n], "grade", *known.columns[n:]), n_numerical=n + 1)
    ranker = LambdaMART(known)
    ranker.fit(splits["train"], splits["valid"])
    return ranker.score(splits["test"])[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepared = PreparedData.open(options.prepared)
    test = prepared.split("test")
    columns = {column.name for column in test.numerical_columns}
    texts = sorted(name for name in columns if name in KNOWN or name.endswith(NAMED) or name.startswith("query_names_"))
    grades = {name: true_grades(options.log, prepared, prepared.split(name)) for name in ("train", "valid", "test")}
    orders = {
        "no text": scores(prepared, texts, None, options.seed),
        "all": scores(prepared, [], None, options.seed),
        "grade": scores(prepared, [], grades, options.seed),
    }
    clicks = np.ascontiguousarray(test.labels[:, test.tasks.index("click")])
    grade = grades["test"].astype(np.int8)
    measures = {
        f"MRR@{K} of clicks": lambda order: reciprocal_rank(order, clicks, test.search_offsets, test.tie_keys, K),
        f"NDCG@{K} of the true grade": lambda order: ndcg(order, grade, test.search_offsets, test.tie_keys, K),
    }
    kinds = {"all kinds": np.ones(test.n_searches, bool), **query_kinds(options.log, prepared, "test")}
    print(f"{len(texts)} features of texts; differences with 95 % intervals over searches\n")
    print("| | " + " | ".join(f"{kind} ({chosen.sum():,} searches)" for kind, chosen in kinds.items()) + " |")
    print("|---|" + "---|" * len(kinds))
    for measure, of in measures.items():
        values = {name: of(order) for name, order in orders.items()}
        for more, less in PAIRS:
            cells = []
            for chosen in kinds.values():
                each = bootstrap_difference(values[more][chosen], values[less][chosen], options.resamples)
                cells.append(f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})")
            print(f"| {measure}, {more} less {less} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
