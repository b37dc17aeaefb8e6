"""What features and rankers gain on simulated shops, by what customers would have done.

    python benchmarks/gains.py OUT --seeds 11 12 13 --searches 24000

Each shop has so many training searches, 12,000 products and, if not told otherwise, 6,000 customers. On one folder of
prepared data these are trained for each training seed, all with the settings that `shelfrank train` takes by itself:

- `blend`, the default ranker, whose parts are figures of their own: `trees` and `network`
- `debiased`: the trees beside the effect of positions, and `blend_debiased`: they and the same network
- `network_as_shown`: the network without an effect of positions, and `blend_as_shown`: it and the same trees
- trees `without_understanding`, `without_taste`, and `before`: without both, with the features of before

`--trainings` can name others: trees `without_customers`, that see nothing of what customer and session did before,
`xgboost_ranking`, `catboost`, and `paper`, the paper's MMoE and DCN-V2 in its sizes on the features of before.

They are judged on the test split by redrawn and unbiased MRR@10. A search's figure is its mean over the training seeds,
differences are paired by search, relative to the MRR of what is compared with, and intervals are over the searches of
all shops. Agreement is the share of pairs of products of one search with different true grades that LambdaMART puts in
order if it learns the grades themselves: how much of them the features show. The share of the possible is how far a
ranker comes from the shown order to the best one for each task, which only a simulated shop knows. `--finished` tells
of shops that are finished without opening them, by what was trained when they were.

Shops, data, runs and figures that are finished are not made again.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np

from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import PreparedData, Split, search_of_rows
from shelfrank.evaluate.segmentations import query_kinds
from shelfrank.evaluate.truth import EXPECTED_FIGURES, Truth, truth_of_rows
from shelfrank.metrics.expected import expected_reciprocal_rank
from shelfrank.metrics.order import fuse
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.blend import Blend, fit_blends
from shelfrank.rankers.blending import blend_scores, network_logits
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.run import Run, resolve_experiment, train
from shelfrank.rankers.trees import feature_matrix
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate

K = 10
TRAIN_SHARE = 0.8
N_RESAMPLES = 2000
UNDERSTANDING = (
    "query_n_matched",
    "query_n_conflicts",
    "query_n_unknown",
    "query_share_matched",
    "query_category_probability",
    "query_type_probability",
    "query_type_same",
)


def is_understanding(name: str) -> bool:
    """Whether query understanding makes the feature."""
    return name in UNDERSTANDING or name.endswith("_answer") or name.startswith("query_relevance_")


def is_taste(name: str) -> bool:
    """Whether `history.taste` makes the feature; the rates and shares of old are not of it."""
    return name.startswith(("customer_", "session_")) and name.endswith(("_lift", "_fit", "_level_distance"))


WITHOUT = {
    "without_understanding": is_understanding,
    "without_taste": is_taste,
    "before": lambda name: is_understanding(name) or is_taste(name),
    "without_customers": lambda name: name.startswith(("customer_", "session_")),
}
"""The features that trees are trained without, by the name of the training."""
TRAININGS = ("blend", "debiased", "network_as_shown", "without_understanding", "without_taste", "before")
FURTHER = ("without_customers", "xgboost_ranking", "catboost", "paper")
NETWORKS = ("network_as_shown",)
COMPARED = (
    ("without_taste", "before"),
    ("without_understanding", "before"),
    ("trees", "without_understanding"),
    ("trees", "without_taste"),
    ("trees", "before"),
    ("blend", "before"),
    ("blend_debiased", "before"),
    ("blend_as_shown", "before"),
    ("blend_as_shown", "trees"),
    ("blend", "trees"),
    ("blend", "debiased"),
    ("blend_debiased", "debiased"),
    ("network", "trees"),
    ("trees", "without_customers"),
    ("xgboost_ranking", "trees"),
    ("catboost", "trees"),
    ("paper", "before"),
    ("blend", "paper"),
)
"""What is compared with what; the first two are query understanding and taste, each by itself."""


class Shop(NamedTuple):
    """A shop with its data and where its runs lie."""

    name: str
    log: Path
    prepared: PreparedData
    runs: Path


Figures = dict[str, np.ndarray]
"""Of each expected figure and task, every search's total and weight."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the shops and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13], help="of the shops")
    parser.add_argument("--searches", type=int, default=24_000, help="training searches of a shop")
    parser.add_argument("--customers", type=int, default=StorefrontConfig().customers, help="of a shop")
    parser.add_argument("--training-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--trainings", choices=(*TRAININGS, *FURTHER), nargs="+", default=TRAININGS)
    parser.add_argument("--agreement", action="store_true", help="trains on true grades, too")
    parser.add_argument("--split", choices=["valid", "test"], default="test")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--graded", action="store_true", help="LambdaMART learns graded labels in one model")
    parser.add_argument("--finished", action="store_true", help="tells of finished shops and trains nothing")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kinds, figures, facts = [], [], []
    for seed in arguments.seeds:
        name, runs = f"shop-{arguments.searches}-{seed}", "runs-graded" if arguments.graded else "runs"
        if arguments.customers != StorefrontConfig().customers:
            name += f"-{arguments.customers}"
        if arguments.finished:
            of_seeds = [found(arguments.out / name / runs, seed, arguments.split) for seed in arguments.training_seeds]
            figures.append(mean_over_seeds(of_seeds))
            continue
        shop = open_shop(arguments.out / name, arguments.searches, arguments.customers, seed)
        shop = shop._replace(runs=arguments.out / name / runs)
        kinds.append(
            {
                kind: np.flatnonzero(chosen)
                for kind, chosen in query_kinds(shop.log, shop.prepared, arguments.split).items()
            }
        )
        of_seeds = []
        for training_seed in arguments.training_seeds:
            settings = {} if arguments.threads is None else {"train": {"threads": arguments.threads}}
            settings |= {"lambdamart": {"per_task": False}} if arguments.graded else {}
            for training in arguments.trainings:
                facts.append(f"seed {seed}, training seed {training_seed}, {training}: ")
                facts[-1] += learn(shop, training, training_seed, settings, arguments.split)
                print(facts[-1], flush=True)
            of_seeds.append(found(shop.runs, training_seed, arguments.split))
        figures.append(mean_over_seeds(of_seeds))
        print("\n".join(lines(f"seed {seed}", figures[-1:], kinds[-1:])), flush=True)
        if arguments.agreement:
            split = shop.prepared.split(arguments.split)
            for name in ("all features", "without_understanding"):
                agreement = grade_agreement(shop, excluded(shop, name), split)
                print(f"  agreement with true grades, {name}: {agreement:.3f}", flush=True)
    if len(figures) > 1 or arguments.finished:
        print("\n".join(lines("all shops", figures, kinds)))


def open_shop(folder: Path, searches: int, customers: int, seed: int) -> Shop:
    """The shop, simulated and prepared."""
    shop = StorefrontConfig(searches=round(searches / TRAIN_SHARE), customers=customers, seed=seed)
    simulate(folder / "log", shop)
    prepare(folder / "log", folder / "prepared", PrepareConfig())
    return Shop(folder.name, folder / "log", PreparedData.open(folder / "prepared"), folder / "runs")


def excluded(shop: Shop, training: str) -> list[str]:
    """The features that a training leaves out."""
    columns = (*shop.prepared.numerical_columns, *shop.prepared.categorical_columns)
    left_out = [column.name for column in columns if training in WITHOUT and WITHOUT[training](column.name)]
    assert bool(left_out) == (training in WITHOUT), f"the data must have the features that {training} leaves out"
    return left_out


def settings_of(shop: Shop, training: str) -> tuple[str, dict[str, Any]]:
    """The ranker that a training is of, and its settings."""
    if training == "blend":
        return "blend", {}
    if training == "network_as_shown":
        return "network", {"neural": {"position_bias": {"n_positions": 0}}}
    if training == "paper":
        return "mmoe_dcn_v2", {"exclude_features": excluded(shop, "before")}
    if training in ("xgboost_ranking", "catboost"):
        return training, {}
    of_trees = {"lambdamart": {"position_bias": True}} if training == "debiased" else {}
    return "lambdamart", {"exclude_features": excluded(shop, training), **of_trees}


def learn(shop: Shop, training: str, seed: int, settings: dict[str, Any], split_name: str) -> str:
    """Trains, writes each search's figures, and tells how long it took."""
    run = shop.runs / f"{training}-{seed}"
    name, own = settings_of(shop, training)
    preset = "paper" if training == "paper" else "default"
    train(shop.prepared.path, name, resolve_experiment(name, None, [], seed, preset, {**settings, **own}), run)
    opened = Run.open(run)
    file = figures_file(shop.runs, training, seed, split_name)
    if not file.is_file():
        weights = opened.config.fusion_weights(shop.prepared.tasks).shares
        scores = scores_of(shop, opened, run.with_name(f"blend-{seed}"), split_name)
        truth = Truth.open(shop.prepared, split_name)
        assert truth is not None, "a simulated shop has its truth"
        made = {part: expected(truth, fuse(score, weights)) for part, score in scores.items()}
        made["shown"] = expected(truth, -truth.split.position.astype(np.float64))
        made["possible"] = expected(truth, None)
        arrays = {f"{part}/{key}": value for part, of_part in made.items() for key, value in of_part.items()}
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    return f"{opened.manifest.info['fitted']['seconds']:.0f} s"


def scores_of(shop: Shop, run: Run, beside: Path, split_name: str) -> dict[str, np.ndarray]:
    """The probabilities of a run's ranker and of what is made of its parts, or of it and those of a blend beside it."""
    rows, valid = (run.select(shop.prepared.split(name)) for name in (split_name, "valid"))
    ranker, training = run.ranker(shop.prepared), run.path.name.rsplit("-", 1)[0]
    if isinstance(ranker, Blend):
        assert ranker.network is not None, "the shop is large enough for a network"
        return {"blend": ranker.score(rows), "trees": ranker.trees.score(rows), "network": ranker.network.score(rows)}
    made = {training: ranker.score(rows)}
    if training in ("debiased", *NETWORKS) and beside.is_dir():
        whole = Run.open(beside).ranker(shop.prepared)
        assert isinstance(whole, Blend), "the run beside it is a blend"
        network = ranker if training in NETWORKS else whole.network
        trees = whole.trees if training in NETWORKS else ranker
        assert network is not None, "the shop is large enough for a network"
        of_valid = by_task(network_logits(network.score(valid)), valid.tasks)
        blends = fit_blends(of_valid, tree_logits(trees, valid), valid)
        made[f"blend_{training.removeprefix('network_')}"] = blend_scores(
            blends, rows.tasks, network.score(rows), tree_logits(trees, rows), rows.n_rows
        )
    return made


def tree_logits(ranker: Any, rows: Split) -> dict[str, np.ndarray]:
    """The logits of LambdaMART's models by task."""
    assert isinstance(ranker, LambdaMART), "the training is one of trees"
    return by_task(ranker.margins(feature_matrix(rows)), ranker.scored_tasks)


def by_task(logits: np.ndarray, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns by task."""
    return {task: logits[:, index] for index, task in enumerate(tasks)}


def expected(truth: Truth, fused: np.ndarray | None) -> Figures:
    """Each search's expected reciprocal rank and chance to count, by figure and task; None takes the best order."""
    split, made = truth.split, {}
    for figure in EXPECTED_FIGURES:
        for task in split.tasks:
            chances = truth.chances(figure, task)
            order = chances if fused is None else fused
            found = expected_reciprocal_rank(order, chances, split.search_offsets, split.tie_keys, K)
            made[f"{figure} {task}"] = np.stack(found)
    return made


def figures_file(runs: Path, training: str, seed: int, split_name: str) -> Path:
    """Where a training's figures lie."""
    return runs / f".{training}-{seed}-{split_name}.npz"


def mean_over_seeds(of_seeds: list[dict[str, Figures]]) -> dict[str, Figures]:
    """Each search's mean over the training seeds, of what was trained with all of them."""
    names = set.intersection(*(set(each) for each in of_seeds))
    return {
        name: {key: np.mean([each[name][key] for each in of_seeds], axis=0) for key in of_seeds[0][name]}
        for name in names
    }


def found(runs: Path, seed: int, split_name: str) -> dict[str, Figures]:
    """The figures of all that is trained with a seed, by name."""
    made: dict[str, Figures] = {}
    for training in (*TRAININGS, *FURTHER):
        file = figures_file(runs, training, seed, split_name)
        if file.is_file():
            with np.load(file) as arrays:
                for key in arrays:
                    name, figure = key.split("/")
                    made.setdefault(name, {})[figure] = arrays[key]
    return made


def grade_agreement(shop: Shop, left_out: list[str], split: Split) -> float:
    """Share of pairs that LambdaMART orders rightly if it learns the true grades."""
    train_grades, grades = (
        truth_of_rows(shop.log, shop.prepared, name, ["grade"])["grade"].to_numpy() for name in ("train", split.name)
    )
    learned = shop.prepared.split("train").select((), tuple(left_out))
    parameters = {
        "objective": "lambdarank",
        "learning_rate": 0.08,
        "num_leaves": 15,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
        "max_bin": 63,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    data = lgb.Dataset(
        feature_matrix(learned, np.arange(learned.n_rows)),
        train_grades.astype(np.int64),
        group=np.diff(learned.search_offsets),
    )
    booster = lgb.train(parameters, data, num_boost_round=100)
    scores = np.asarray(booster.predict(feature_matrix(split.select((), tuple(left_out)), np.arange(split.n_rows))))
    search = search_of_rows(split)
    right = total = 0.0
    for start, end in pairwise(np.searchsorted(search, np.arange(split.n_searches + 1)).tolist()):
        better = grades[start:end, None] > grades[start:end]
        ahead = np.sign(scores[start:end, None] - scores[start:end])
        right += float(((ahead[better] + 1) / 2).sum())
        total += float(better.sum())
    return right / max(total, 1.0)


def lines(title: str, shops: list[dict[str, Figures]], kinds: list[dict[str, np.ndarray]]) -> list[str]:
    """The MRR of all, and what is gained, in percent, of some shops together."""
    made = [title]
    trained = sorted(set.intersection(*(set(shop) for shop in shops)))
    keys = list(shops[0][trained[0]])
    for name in trained:
        made.append(f"  {name}: " + ", ".join(f"{key} {mrr(shops, name, key):.4f}" for key in keys))
    if "possible" in trained:
        for name in trained:
            shares = ", ".join(f"{key} {share_of_possible(shops, name, key):.1%}" for key in keys)
            made.append(f"  share of the possible, {name}: {shares}")
    for name, base in COMPARED:
        if name in trained and base in trained:
            made.append(f"  {name} against {base}")
            made += [f"    {key}: {told(shops, name, base, key)}" for key in keys]
            if (name, base) == ("without_taste", "before"):
                for kind in sorted({kind for shop in kinds for kind in shop}):
                    chosen = [shop.get(kind, np.zeros(0, np.int64)) for shop in kinds]
                    made.append(f"    {keys[0]}, {kind}: {told(shops, name, base, keys[0], chosen)}")
    return made


def mrr(shops: list[dict[str, Figures]], name: str, key: str) -> float:
    """The expected MRR over the searches of all shops."""
    total, weight = np.concatenate([shop[name][key] for shop in shops], axis=1).sum(axis=1)
    return float(total / weight)


def share_of_possible(shops: list[dict[str, Figures]], name: str, key: str) -> float:
    """How far it comes from the shown order to the best one."""
    shown, best = (mrr(shops, each, key) for each in ("shown", "possible"))
    return (mrr(shops, name, key) - shown) / (best - shown)


def told(
    shops: list[dict[str, Figures]], name: str, base: str, key: str, chosen: list[np.ndarray] | None = None
) -> str:
    """What one gains over another, with its interval."""
    columns: list[np.ndarray] = []
    for each in (name, base):
        parts = [shop[each][key] for shop in shops]
        if chosen is not None:
            parts = [part[:, rows] for part, rows in zip(parts, chosen, strict=True)]
        columns.append(np.concatenate(parts, axis=1))
    (total, weight), (base_total, base_weight) = columns
    rng = np.random.default_rng(0)
    n = len(weight)
    gains = []
    for _ in range(N_RESAMPLES):
        drawn = rng.integers(0, n, n)
        gains.append((total[drawn].sum() / weight[drawn].sum()) / (base_total[drawn].sum() / base_weight[drawn].sum()))
    low, high = np.quantile(gains, [0.025, 0.975]) - 1
    base_mrr = base_total.sum() / base_weight.sum()
    gain = total.sum() / weight.sum() / base_mrr - 1
    return f"{gain:+.2%} ({low:+.2%} to {high:+.2%}) of {base_mrr:.4f}, {n:,} searches"


if __name__ == "__main__":
    main()
