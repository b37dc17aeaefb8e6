"""What a group of features gains in LambdaMART on simulated shops, by what customers would have done.

    python benchmarks/feature_gains.py gains --group understanding --seeds 11 12 13 --searches 24000

Each shop has so many training searches, 12,000 products and 6,000 customers. Of one folder of prepared data, LambdaMART
is trained with all features and without the group's, as often as there are training seeds, and judged on the test split
by redrawn and unbiased MRR@10: a search's figure is its mean over the training seeds, differences are paired by search,
relative to the MRR without the group, and intervals are over the searches of all shops. Agreement is the share of pairs
of products of one search with different true grades that LambdaMART puts in order if it learns the grades themselves:
how much of them the features show.

Shops, data, runs and results that are finished are not made again: `OUT/SHOP.json` holds a shop's result.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np

from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import PreparedData, Split, search_of_rows
from shelfrank.evaluate.segmentations import query_kinds
from shelfrank.evaluate.truth import EXPECTED_FIGURES, Truth, truth_of_rows
from shelfrank.metrics.expected import Expected, expected_reciprocal_rank
from shelfrank.metrics.order import fuse
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import Run, resolve_experiment, train
from shelfrank.rankers.trees import feature_matrix
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate

K = 10
TRAIN_SHARE = 0.8
N_RESAMPLES = 2000
FAIR = {
    "learning_rate": 0.08,
    "n_leaves": 15,
    "feature_share": 0.3,
    "row_share": 0.8,
    "l2": 10.0,
    "n_bins": 63,
    "max_split_codes": 32,
    "per_task": False,
}
"""Settings of LambdaMART that were chosen on shops of other seeds."""
UNDERSTANDING = (
    "query_n_matched",
    "query_n_conflicts",
    "query_n_unknown",
    "query_category_probability",
    "query_type_probability",
    "query_type_same",
)


class Shop(NamedTuple):
    """A shop with its data and where its runs lie."""

    log: Path
    prepared: PreparedData
    runs: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the shops and results")
    parser.add_argument("--group", choices=sorted(GROUPS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13], help="of the shops")
    parser.add_argument("--searches", type=int, default=24_000, help="training searches of a shop")
    parser.add_argument("--training-seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--agreement", action=argparse.BooleanOptionalAction, default=True, help="trains twice as often"
    )
    parser.add_argument("--split", choices=["valid", "test"], default="test")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in arguments.seeds:
        name = f"{arguments.group}-{arguments.searches}-{seed}-{arguments.split}"
        file = arguments.out / f"{name}.json"
        if not file.is_file():
            shop = open_shop(arguments.out / f"shop-{arguments.searches}-{seed}", arguments.searches, seed)
            result = measure(shop, arguments.group, arguments.training_seeds, arguments.split, arguments.agreement)
            file.write_text(json.dumps(result) + "\n", encoding="utf-8")
        found.append(json.loads(file.read_text(encoding="utf-8")))
        print("\n".join(lines(f"seed {seed}", found[-1:])), flush=True)
    if len(found) > 1:
        print("\n".join(lines("all shops", found)))


def open_shop(folder: Path, searches: int, seed: int) -> Shop:
    """The shop, simulated and prepared."""
    simulate(folder / "log", StorefrontConfig(searches=round(searches / TRAIN_SHARE), seed=seed))
    prepare(folder / "log", folder / "prepared", PrepareConfig())
    return Shop(folder / "log", PreparedData.open(folder / "prepared"), folder / "runs")


def measure(shop: Shop, group: str, seeds: list[int], split_name: str, with_agreement: bool) -> dict[str, Any]:
    """Figures of each search with and without the group, and the kind of its query."""
    split, truth = shop.prepared.split(split_name), Truth.open(shop.prepared, split_name)
    assert truth is not None, "a simulated shop has its truth"
    columns = [column.name for column in (*split.numerical_columns, *split.categorical_columns)]
    left_out = {"with": [], "without": [name for name in columns if GROUPS[group](name)]}
    assert left_out["without"], f"the data must have features of the group {group}"
    figures: dict[str, Any] = {}
    for name, features in left_out.items():
        scores = [run_scores(shop, name, group, features, seed, split) for seed in seeds]
        expected = {
            figure: {
                task: _mean(
                    [
                        expected_reciprocal_rank(
                            score, truth.chances(figure, task), split.search_offsets, split.tie_keys, K
                        )
                        for score in scores
                    ]
                )
                for task in split.tasks
            }
            for figure in EXPECTED_FIGURES
        }
        agreement = grade_agreement(shop, features, split, split_name) if with_agreement else None
        figures[name] = {"expected": expected, "agreement": agreement, "n_features": len(columns) - len(features)}
    kinds = query_kinds(shop.log, shop.prepared, split_name)
    return {"figures": figures, "kinds": {kind: np.flatnonzero(chosen).tolist() for kind, chosen in kinds.items()}}


def run_scores(shop: Shop, name: str, group: str, features: list[str], seed: int, split: Split) -> np.ndarray:
    """The scores of LambdaMART without some features."""
    settings = {"lambdamart": FAIR, "exclude_features": features}
    experiment = resolve_experiment("lambdamart", None, [], seed, "default", settings)
    out = shop.runs / (f"all-{seed}" if name == "with" else f"without-{group}-{seed}")
    train(shop.prepared.path, "lambdamart", experiment, out)
    run = Run.open(out)
    return fuse(run.ranker(shop.prepared).score(run.select(split)), run.config.fusion_weights(split.tasks).shares)


def grade_agreement(shop: Shop, features: list[str], split: Split, split_name: str) -> float:
    """Share of pairs that LambdaMART orders rightly if it learns the true grades."""
    train_grades, grades = (
        truth_of_rows(shop.log, shop.prepared, name, ["grade"])["grade"].to_numpy() for name in ("train", split_name)
    )
    learn = shop.prepared.split("train").select((), tuple(features))
    parameters = {
        "objective": "lambdarank",
        "learning_rate": FAIR["learning_rate"],
        "num_leaves": FAIR["n_leaves"],
        "feature_fraction": FAIR["feature_share"],
        "bagging_fraction": FAIR["row_share"],
        "bagging_freq": 1,
        "lambda_l2": FAIR["l2"],
        "max_bin": FAIR["n_bins"],
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    sizes = np.diff(learn.search_offsets)
    rows = np.arange(learn.n_rows)
    data = lgb.Dataset(feature_matrix(learn, rows), train_grades.astype(np.int64), group=sizes)
    booster = lgb.train(parameters, data, num_boost_round=100)
    scores = np.asarray(booster.predict(feature_matrix(split.select((), tuple(features)), np.arange(split.n_rows))))
    search = search_of_rows(split)
    right = total = 0.0
    for start, end in pairwise(np.searchsorted(search, np.arange(split.n_searches + 1)).tolist()):
        better = grades[start:end, None] > grades[start:end]
        ahead = np.sign(scores[start:end, None] - scores[start:end])
        right += float(((ahead[better] + 1) / 2).sum())
        total += float(better.sum())
    return right / max(total, 1.0)


def lines(title: str, shops: list[dict[str, Any]]) -> list[str]:
    """The gains of some shops together, in percent of the figure without the group."""
    made = [title]
    for name in ("with", "without"):
        agreements = [shop["figures"][name]["agreement"] for shop in shops]
        if None not in agreements:
            listed = ", ".join(f"{agreement:.3f}" for agreement in agreements)
            made.append(f"  agreement with true grades {name} the group: {listed}")
    figures = shops[0]["figures"]["with"]["expected"]
    for figure, tasks in figures.items():
        made += [f"  {figure} {task}: {_told(shops, figure, task, None)}" for task in tasks]
    task = next(iter(figures["redrawn"]))
    for kind in sorted({kind for shop in shops for kind in shop["kinds"]}):
        made.append(f"  redrawn {task}, {kind}: {_told(shops, 'redrawn', task, kind)}")
    return made


def _told(shops: list[dict[str, Any]], figure: str, task: str, kind: str | None) -> str:
    columns: dict[str, np.ndarray] = {}
    for name in ("with", "without"):
        parts = []
        for shop in shops:
            own = np.array(shop["figures"][name]["expected"][figure][task])
            parts.append(own if kind is None else own[:, shop["kinds"].get(kind, [])])
        columns[name] = np.concatenate(parts, axis=1)
    (total, weight), (base, base_weight) = columns["with"], columns["without"]
    rng = np.random.default_rng(0)
    n = len(weight)
    gains = []
    for _ in range(N_RESAMPLES):
        drawn = rng.integers(0, n, n)
        gains.append((total[drawn].sum() / weight[drawn].sum()) / (base[drawn].sum() / base_weight[drawn].sum()) - 1)
    low, high = np.quantile(gains, [0.025, 0.975])
    mrr = base.sum() / base_weight.sum()
    gain = (total.sum() / weight.sum()) / mrr - 1
    return f"{gain:+.2%} ({low:+.2%} to {high:+.2%}) of {mrr:.4f}, {n:,} searches"


def _mean(found: list[Expected]) -> list[list[float]]:
    """Totals and weights of each search, the mean over the training seeds."""
    return [
        np.mean([each.total for each in found], axis=0).tolist(),
        np.mean([each.weight for each in found], axis=0).tolist(),
    ]


def _is_understanding(name: str) -> bool:
    return name in UNDERSTANDING or name.endswith("_answer") or name.startswith("query_relevance_")


def _is_taste(name: str) -> bool:
    """Whether `history.taste` makes the feature; the rates and shares of old are not of it."""
    return name.startswith(("customer_", "session_")) and name.endswith(("_lift", "_fit", "_level_distance"))


GROUPS = {"understanding": _is_understanding, "taste": _is_taste}
"""Whether a feature is of a group."""


if __name__ == "__main__":
    main()
