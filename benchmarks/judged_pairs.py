"""Measures on human judgments what query understanding adds to words, BM25 and the fine-tuned semantic score.

Reads the `train.csv` of Kaggle's Home Depot Product Search Relevance. Queries are split by fixed hashes: a fifth is the
test, the same that `semantic_homedepot.py` scores; of the others, the packaged MiniLM is fine-tuned on one half, whose
grades also stand for a log, and boosted trees learn the grade on the other half. The trees are the same for both sets
of features: all text features and the semantic score, with and without query understanding. `--folds` trains and
measures within the trees' own half, by folds of queries, and never reads a test query: for choosing settings. `--swap`
exchanges the halves; its folds are of queries that no setting was chosen on.

    python benchmarks/judged_pairs.py train.csv.gz --out judged_run
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import lightgbm as lgb
import numpy as np

from semantic_homedepot import (
    HELD_OUT,
    N_RESAMPLES,
    RECIPE,
    Judgments,
    cosines,
    ndcg_per_query,
    number_of,
    read_judgments,
    spearman_per_query,
)
from shelfrank.config import resolve
from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.features.understanding import Catalogue, QueryUnderstanding, ShownRows
from shelfrank.metrics import bootstrap_difference, bootstrap_mean
from shelfrank.metrics.interval import Interval
from shelfrank.text.contrastive import fine_tune
from shelfrank.text.encoder import load_encoder
from shelfrank.text.pairs import Pairs
from text_features_homedepot import compute

TREES = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 4,
    "min_data_in_leaf": 100,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "deterministic": True,
    "num_threads": 1,
    "verbose": -1,
}
N_TREES = 100
"""This, the leaves and the sampling were chosen with `--folds`."""
SEEDS = (0, 1, 2, 3, 4)
"""Seeds of the trees, whose scores are summed."""
N_FOLDS = 4
GOOD = 2.4
"""Least mean grade that stands for a click; about half of the pairs have it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judgments", type=Path, help="train.csv, gzipped or not")
    parser.add_argument("--out", type=Path, required=True, help="folder of the semantic scores, which are kept")
    parser.add_argument("--folds", action="store_true", help="measure by folds within the trees' half")
    parser.add_argument("--swap", action="store_true", help="exchange the two halves of the training queries")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, _ = read_judgments(args.judgments)
    test, tuned = is_test(rows), is_tuned_on(rows, args.swap)
    train = ~test & ~tuned
    semantic = semantic_scores(rows, tuned, train if args.folds else train | test, args.out, args.swap)
    without = features(rows, semantic)
    sets = {"without": without, "with": np.concatenate([without, understood(rows, tuned)], axis=1)}
    if args.folds:
        measured, scores = rows.take(train), {name: by_folds(rows, values, train) for name, values in sets.items()}
    else:
        measured = rows.take(test)
        scores = {name: fitted(values[train], rows.grades[train], values[test]) for name, values in sets.items()}
    print(f"{n_queries(rows, tuned):,} queries tune the semantic model, {n_queries(rows, train):,} train the trees")
    print(f"{len(measured.queries):,} judgments of {len(set(measured.queries)):,} queries are measured\n")
    print("| | NDCG@10 | Spearman within a query |\n|---|---|---|")
    for line in table(scores, measured):
        print(line)


def is_test(rows: Judgments) -> np.ndarray:
    """Whether each pair's query is of the held-out fifth."""
    return np.array([number_of(f"split {query}") / 2**64 >= 1 - HELD_OUT for query in rows.queries])


def is_tuned_on(rows: Judgments, swap: bool) -> np.ndarray:
    """Whether each pair's query is of the half of the training queries that the semantic model is fine-tuned on."""
    return ~is_test(rows) & np.array([number_of(f"half {query}") % 2 != swap for query in rows.queries])


def semantic_scores(rows: Judgments, tuned: np.ndarray, scored: np.ndarray, out: Path, swap: bool) -> np.ndarray:
    """The scores of some pairs by a model tuned on others, NaN for the rest; computed once and kept in a folder."""
    name = "swapped" if swap else "first"
    file = out / f"semantic_{name}_{'all' if (scored & is_test(rows)).any() else 'half'}.npy"
    if not file.exists():
        config = resolve(SemanticTrainConfig, None, list(RECIPE))
        encoder = load_encoder(config.model)
        chosen = rows.take(tuned & (rows.grades >= (config.positive_grade or 0)))
        # What was tuned before is in the checkpoint.
        fine_tune(encoder, Pairs.unique(chosen.queries, chosen.titles), config, out / f"checkpoint_{name}")
        np.save(file, cosines(encoder, rows.take(scored)))
    values = np.full(len(rows.queries), np.nan)
    values[scored] = np.load(file)
    return values


def features(rows: Judgments, semantic: np.ndarray) -> np.ndarray:
    """All text features and the semantic score."""
    return np.stack([*compute(rows).values(), semantic], axis=1)


def understood(rows: Judgments, tuned: np.ndarray) -> np.ndarray:
    """The features of query understanding: the catalogue's from all titles, and those of a log from one half's grades.

    A pair of the half that tunes the semantic model stands for a product that was shown, and a good grade for a click.
    """
    title = dict(zip(rows.products, rows.titles, strict=True))
    products, product_idx = np.unique(rows.products, return_inverse=True)
    queries, query_idx = np.unique(rows.queries, return_inverse=True)
    query_idx, product_idx = query_idx.astype(np.int32), product_idx.astype(np.int32)
    catalogue = Catalogue([title[product] for product in products.tolist()])
    learned = QueryUnderstanding.of_catalogue(catalogue, ("relevant",))
    read = learned.read(queries.tolist())
    own = np.flatnonzero(tuned)
    shown = ShownRows(
        query_idx=query_idx[own],
        product_idx=product_idx[own],
        search_idx=query_idx[own],
        times_us=np.zeros(len(own), np.int64),
        positions=np.ones(len(own), np.int32),
        labels=(rows.grades[own, None] >= GOOD).astype(np.int8),
        blocks=np.zeros(len(own), np.int32),
    )
    later = np.ones(len(query_idx), np.int64)
    return learned.with_log(read, shown).compute(read, query_idx, product_idx, later).astype(np.float64)


def fitted(train: np.ndarray, grades: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The scores that trees give some pairs, having learned the grades of others."""
    data = lgb.Dataset(train, grades, free_raw_data=False)
    models = [lgb.train({**TREES, "seed": seed}, data, N_TREES) for seed in SEEDS]
    return np.sum([np.asarray(model.predict(wanted)) for model in models], axis=0)


def by_folds(rows: Judgments, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The scores of each fold of queries by trees that learned from the other folds."""
    fold = np.array([number_of(f"fold {query}") % N_FOLDS for query in rows.queries])[own]
    values, grades = values[own], rows.grades[own]
    scores = np.empty(len(fold))
    for each in range(N_FOLDS):
        scores[fold == each] = fitted(values[fold != each], grades[fold != each], values[fold == each])
    return scores


def table(scores: dict[str, np.ndarray], rows: Judgments) -> list[str]:
    """One line for each set of features, and one for the paired difference, with intervals over queries."""
    offsets, keys = rows.offsets(), rows.tie_keys()
    ndcg = {name: ndcg_per_query(values, rows.grades, offsets, keys) for name, values in scores.items()}
    within = {name: spearman_per_query(values, rows.grades, offsets) for name, values in scores.items()}
    lines = [
        f"| {name} | {cell(bootstrap_mean(ndcg[name], N_RESAMPLES))} | "
        f"{cell(bootstrap_mean(within[name], N_RESAMPLES))} |"
        for name in scores
    ]
    differences = [bootstrap_difference(each["with"], each["without"], N_RESAMPLES) for each in (ndcg, within)]
    return [*lines, f"| difference | {' | '.join(cell(each, '+') for each in differences)} |"]


def cell(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.4f} [{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


def n_queries(rows: Judgments, own: np.ndarray) -> int:
    return len(set(rows.take(own).queries))


if __name__ == "__main__":
    main()
