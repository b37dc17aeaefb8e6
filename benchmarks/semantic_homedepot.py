"""Measures the semantic score on human judgments: BM25, the pretrained model, the model fine-tuned on other queries.

Reads the `train.csv` of Kaggle's Home Depot Product Search Relevance. Queries are split by a fixed hash: the packaged
MiniLM is fine-tuned on pairs of 80 % of the queries that people graded high, and all three score the other 20 %.
`--tune` stays within the 80 %: it trains on 80 % of them and measures on the rest, for choosing a recipe.

    python benchmarks/semantic_homedepot.py train.csv.gz --out homedepot_run
"""

import argparse
import csv
import gzip
import hashlib
import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from scipy.stats import rankdata

from bm25 import Bm25
from shelfrank.config import resolve
from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.metrics import bootstrap_difference, bootstrap_mean, ranking_order
from shelfrank.metrics.interval import Interval, percentile_difference, percentile_interval
from shelfrank.text.contrastive import fine_tune
from shelfrank.text.encoder import TextEncoder, load_encoder
from shelfrank.text.graded import GradedPairs
from shelfrank.text.pairs import Pairs

K = 10
N_RESAMPLES = 1000
HELD_OUT = 0.2
RECIPE = (
    "model=packaged",
    "positive_grade=3.0",
    "epochs=1",
    "batch_size=64",
    "learning_rate=5e-5",
)
"""Chosen with `--tune`."""


@dataclass(frozen=True)
class Judgments:
    """Unique (query, product) pairs with their mean grade from 1 to 3, grouped by query."""

    queries: list[str]
    titles: list[str]
    products: list[str]
    grades: np.ndarray

    def take(self, mask: np.ndarray) -> "Judgments":
        """Some rows, in their order."""
        rows = np.flatnonzero(mask)
        queries, titles, products = ([some[row] for row in rows] for some in (self.queries, self.titles, self.products))
        return Judgments(queries, titles, products, self.grades[rows])

    def offsets(self) -> np.ndarray:
        """Query i has the rows from entry i up to entry i + 1."""
        changes = [row + 1 for row, (one, other) in enumerate(itertools.pairwise(self.queries)) if one != other]
        return np.array([0, *changes, len(self.queries)])

    def tie_keys(self) -> np.ndarray:
        """A fixed hash of each pair, which orders equal scores."""
        pairs = zip(self.queries, self.products, strict=True)
        return np.array([number_of(f"{query}\n{product}") for query, product in pairs], dtype=np.uint64)


def main() -> None:
    args = parse_args()
    config = resolve(SemanticTrainConfig, None, [*RECIPE, *args.set])
    judgments, n_repeated = read_judgments(args.csv)
    shares = np.array([number_of(f"split {query}") / 2**64 for query in judgments.queries])
    titles = sorted(set(judgments.titles))
    low, high = ((1 - HELD_OUT) ** 2, 1 - HELD_OUT) if args.tune else (1 - HELD_OUT, 1.0)
    some = np.array([number_of(f"part {query}") / 2**64 < args.share for query in judgments.queries])
    train, test = judgments.take(some & (shares < low)), judgments.take(some & (shares >= low) & (shares < high))

    pretrained = cosines(load_encoder(config.model), test)
    encoder = load_encoder(config.model)
    positive = train.grades >= (config.positive_grade or 0)
    chosen = train.take(positive)
    pairs = Pairs.unique(chosen.queries, chosen.titles)
    graded = GradedPairs.of(train.queries, train.titles, train.grades.tolist()) if config.graded_weight else None
    tuned = fine_tune(encoder, pairs, config, args.out, graded)
    scores = {"BM25": bm25_scores(titles, test), "pretrained": pretrained, "fine-tuned": cosines(encoder, test)}

    report = {
        "judgments": len(judgments.queries),
        "repeated_judgments_averaged": n_repeated,
        "train_queries": len(train.offsets()) - 1,
        "train_pairs": len(pairs),
        "test_queries": len(test.offsets()) - 1,
        "test_queries_of_one_grade_left_out": n_of_one_grade(test),
        "test_judgments": len(test.queries),
        "test_titles_also_in_training_pairs": float(np.mean(np.isin(test.titles, chosen.titles))),
        "training_seconds": round(tuned.seconds),
        "pairs_per_s": round(tuned.pairs_per_s, 1),
        "losses": tuned.losses,
        "masked_per_pair": tuned.masked,
        "config": config.model_dump(mode="json"),
        "metrics": measure(scores, test),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / ("tune.json" if args.tune else "report.json")).write_text(json.dumps(report, indent=1))
    if args.save and not args.tune:
        shutil.rmtree(args.out / "model", ignore_errors=True)
        encoder.model.save(str(args.out / "model"), create_model_card=False)
    print(json.dumps({key: value for key, value in report.items() if key not in ("metrics", "config")}))
    for line in table(report["metrics"]):
        print(line)


def read_judgments(path: Path) -> tuple[Judgments, int]:
    """Judgments sorted by query; queries are told apart by their lower-cased words."""
    grades: dict[tuple[str, str], list[float]] = {}
    titles: dict[str, str] = {}
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="latin-1") as file:
        for row in csv.DictReader(file):
            query = " ".join(row["search_term"].lower().split())
            grades.setdefault((query, row["product_uid"]), []).append(float(row["relevance"]))
            titles[row["product_uid"]] = row["product_title"]
    keys = sorted(grades)
    means = np.array([np.mean(grades[key]) for key in keys])
    n_repeated = sum(len(values) - 1 for values in grades.values())
    queries, products = [query for query, _ in keys], [product for _, product in keys]
    return Judgments(queries, [titles[product] for product in products], products, means), n_repeated


def bm25_scores(titles: list[str], rows: Judgments) -> np.ndarray:
    bm25 = Bm25(titles)
    return np.array([bm25.score(query, title) for query, title in zip(rows.queries, rows.titles, strict=True)])


def cosines(encoder: TextEncoder, rows: Judgments) -> np.ndarray:
    queries, query_of = np.unique(rows.queries, return_inverse=True)
    titles, title_of = np.unique(rows.titles, return_inverse=True)
    q = encoder.encode(queries.tolist(), "Embedding queries").embeddings
    t = encoder.encode(titles.tolist(), "Embedding titles").embeddings
    return np.einsum("nd,nd->n", q[query_of], t[title_of]).astype(np.float64)


def measure(scores: dict[str, np.ndarray], rows: Judgments) -> dict[str, dict[str, dict[str, float | int | None]]]:
    offsets, keys = rows.offsets(), rows.tie_keys()
    ndcg = {name: ndcg_per_query(values, rows.grades, offsets, keys) for name, values in scores.items()}
    within = {name: spearman_per_query(values, rows.grades, offsets) for name, values in scores.items()}
    replicates = spearman_replicates(scores, rows.grades, offsets)
    overall = {name: spearman(values, rows.grades) for name, values in scores.items()}
    n, results = len(offsets) - 1, {}
    for name in scores:
        others = [other for other in scores if other != name] if name == "fine-tuned" else []
        spread: dict[str, Interval] = {
            "ndcg@10": bootstrap_mean(ndcg[name], N_RESAMPLES),
            "spearman": percentile_interval(overall[name], replicates[name], n, 0.95),
            "spearman within query": bootstrap_mean(within[name], N_RESAMPLES),
        }
        for other in others:
            gap = overall[name] - overall[other]
            spread |= {
                f"ndcg@10 minus {other}": bootstrap_difference(ndcg[name], ndcg[other], N_RESAMPLES),
                f"spearman minus {other}": percentile_difference(gap, replicates[name] - replicates[other], n, 0.95),
                f"spearman within query minus {other}": bootstrap_difference(within[name], within[other], N_RESAMPLES),
            }
        results[name] = {figure: interval.as_dict() for figure, interval in spread.items()}
    return results


def ndcg_per_query(scores: np.ndarray, grades: np.ndarray, offsets: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """NDCG@10 with gain 2^grade - 1 of the mean grade; NaN where a query has fewer than two different grades."""
    # The library's own ndcg takes whole grades only; these are means of several people's.
    gains = 2.0**grades - 1
    order = ranking_order(scores, offsets, keys)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    values = np.full(len(offsets) - 1, np.nan)
    for query, (start, end) in enumerate(itertools.pairwise(offsets)):
        if len(np.unique(grades[start:end])) > 1:
            ranked, best = gains[order[start:end]][:K], -np.sort(-gains[start:end])[:K]
            values[query] = ranked @ discounts[: len(ranked)] / (best @ discounts[: len(best)])
    return values


def spearman(scores: np.ndarray, grades: np.ndarray) -> float:
    """Rank correlation with mean ranks for ties; 0 where all scores are equal."""
    a, b = rankdata(scores), rankdata(grades)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def spearman_per_query(scores: np.ndarray, grades: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    bounds = itertools.pairwise(offsets)
    return np.array(
        [spearman(scores[s:e], grades[s:e]) if len(np.unique(grades[s:e])) > 1 else np.nan for s, e in bounds]
    )


def spearman_replicates(
    scores: dict[str, np.ndarray], grades: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """Whole queries are drawn, the same ones for every ranker."""
    rng, n = np.random.default_rng(0), len(offsets) - 1
    pages = [np.arange(start, end) for start, end in itertools.pairwise(offsets)]
    draws = (np.concatenate([pages[query] for query in rng.integers(0, n, n)]) for _ in range(N_RESAMPLES))
    values = [[spearman(scores[name][rows], grades[rows]) for name in scores] for rows in draws]
    return dict(zip(scores, np.array(values).T, strict=True))


def n_of_one_grade(rows: Judgments) -> int:
    return sum(len(np.unique(rows.grades[start:end])) < 2 for start, end in itertools.pairwise(rows.offsets()))


def table(metrics: dict[str, dict[str, dict[str, float | int | None]]]) -> list[str]:
    return [
        f"{name:<11} {figure:<40} {one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}] n={one['n']}"
        for name, figures in metrics.items()
        for figure, one in figures.items()
    ]


def number_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="train.csv, gzipped or not")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and report.json")
    parser.add_argument("--tune", action="store_true", help="measure within the 80 %%, never on the held-out queries")
    parser.add_argument("--share", type=float, default=1.0, help="share of the queries that are used, by a fixed hash")
    parser.add_argument("--save", action="store_true", help="keep the fine-tuned model in OUT/model")
    parser.add_argument("--set", action="append", default=[], metavar="A=VALUE", help="one key of SemanticTrainConfig")
    return parser.parse_args()


if __name__ == "__main__":
    main()
