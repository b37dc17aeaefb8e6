"""What a network gains by reading texts, by kind of query: text features, the text layer, and both, over several seeds.

python benchmarks/text_lift.py --shop demo/log demo/prepared lift

MMoE + DCN-V2 with and without the features of texts (words, BM25, trigrams, attributes, semantic score) among its
columns, each with and without a text layer: the scalar product of the frozen encoder's vectors, normalised before they
are multiplied. Which epoch is kept is decided by the validation split. A search's measure is its mean over the seeds,
and intervals are over searches; those of several shops are put together. Runs that are finished are not made again, so
that several of these programs may share the contenders and one of them read all results.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.segmentations import query_kinds
from shelfrank.features.textual.comparison import WORD_FEATURES
from shelfrank.metrics import bootstrap_difference, reciprocal_rank
from shelfrank.metrics.order import fuse
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import Run, resolve_experiment, train
from text_ceiling import true_grades

K = 10
KNOWN = ("semantic_score", *(name for name, _ in WORD_FEATURES))
NAMED = ("_matched", "_conflict")
LAYER = ["neural.text.trained_layers=0", "neural.text.normalise_vectors=true"]
CONTENDERS = {
    "no text": ("mmoe_dcn_v2", False),
    "layer": ("mmoe_dcn_v2_text_dot", False),
    "features": ("mmoe_dcn_v2", True),
    "both": ("mmoe_dcn_v2_text_dot", True),
}
"""Ranker, and whether it has the text features."""
PAIRS = (("layer", "no text"), ("features", "no text"), ("both", "no text"), ("both", "features"))


class Shop(NamedTuple):
    """A log, what was prepared of it, and where its runs lie."""

    log: Path
    prepared: PreparedData
    out: Path


class TextLift(NamedTuple):
    """Which searches are of a kind, and each contender's reciprocal ranks."""

    kinds: dict[str, np.ndarray]
    means: dict[str, np.ndarray]


def text_features(prepared: PreparedData) -> list[str]:
    names = {column.name for column in (*prepared.numerical_columns, *prepared.categorical_columns)}
    return sorted(name for name in names if name in KNOWN or name.endswith(NAMED) or name.startswith("query_names_"))


def trained(contender: str, seed: int, shop: Shop, options: argparse.Namespace) -> Run:
    ranker, has_features = CONTENDERS[contender]
    settings = [f"train.threads={options.threads}", f"train.epochs={options.epochs}", "train.patience=1"]
    if ranker.endswith("dot"):
        settings += [f"neural.text.model={options.model}", *LAYER]
    if not has_features:
        settings += [f"exclude_features={text_features(shop.prepared)}"]
    out = shop.out / f"{contender.replace(' ', '_')}_{seed}"
    train(shop.prepared.path, ranker, resolve_experiment(ranker, None, settings, seed), out)
    return Run.open(out)


def reciprocal_ranks(run: Run, prepared: PreparedData, split: Split) -> np.ndarray:
    scores = fuse(run.ranker(prepared).score(run.select(split)), run.config.fusion_weights(prepared.tasks).shares)
    clicks = np.ascontiguousarray(split.labels[:, split.tasks.index("click")])
    return reciprocal_rank(scores, clicks, split.search_offsets, split.tie_keys, K)


def correlations(run: Run, shop: Shop, split: Split) -> tuple[float, float]:
    """Of the true grade with the scalar product of a run's vectors, as they are and normalised."""
    ranker = run.ranker(shop.prepared)
    assert isinstance(ranker, NeuralRanker)
    assert ranker.texts is not None
    assert ranker.model.text is not None
    matching, feed = ranker.model.text, ranker.texts.feed(torch.device("cpu"))
    texts = feed.read(np.arange(len(feed.query_text) + len(feed.product_text)), matching.trained)
    queries, products = (texts[torch.from_numpy(places)] for places in (feed.query_text, feed.product_text))
    matching.eval()
    grades = true_grades(shop.log, shop.prepared, split)
    found = []
    with torch.no_grad():
        for q, p in ((queries, products), (matching.norm_query(queries), matching.norm_product(products))):
            dots = np.einsum("nd,nd->n", q.numpy()[split.query_idx], p.numpy()[split.product_idx])
            found.append(float(np.corrcoef(dots, grades)[0, 1]))
    return found[0], found[1]


def measured(shop: Shop, options: argparse.Namespace) -> TextLift:
    """Trains what is not trained yet on one shop, and tells of it."""
    test = shop.prepared.split("test")
    kinds = {"all kinds": np.ones(test.n_searches, bool), **query_kinds(shop.log, shop.prepared, "test")}
    ranks: dict[str, list[np.ndarray]] = {contender: [] for contender in options.contenders}
    print(f"{shop.log}\n\n| Contender | Seed | Epoch kept | Validation loss | Seconds |\n|---|---|---|---|---|")
    for seed, contender in product(options.seeds, options.contenders):
        run = trained(contender, seed, shop, options)
        curve = run.manifest.info["fitted"]["curve"]
        best = next(record for record in curve if record["best"])
        cells = (contender, seed, best["epoch"], f"{best['valid_loss']:.5f}", f"{curve[-1]['seconds']:.0f}")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        ranks[contender].append(reciprocal_ranks(run, shop.prepared, test))
    if "layer" in options.contenders:
        plain, normalised = correlations(trained("layer", options.seeds[0], shop, options), shop, test)
        print(f"\ncorrelation of the scalar product with the true grade: {plain:.3f}, normalised {normalised:.3f}")
    # A search without a click has no rank, whichever the seed.
    return TextLift(kinds, {contender: np.mean(values, axis=0) for contender, values in ranks.items()})


def tell(found: TextLift, n_resamples: int) -> None:
    kinds, means = found
    print("\n| | " + " | ".join(f"{kind} ({chosen.sum():,} searches)" for kind, chosen in kinds.items()) + " |")
    print("|---|" + "---|" * len(kinds))
    for contender, values in means.items():
        cells = [f"{np.nanmean(values[chosen]):.4f}" for chosen in kinds.values()]
        print(f"| {contender} | " + " | ".join(cells) + " |")
    for more, less in PAIRS:
        if more in means and less in means:
            cells = []
            for chosen in kinds.values():
                each = bootstrap_difference(means[more][chosen], means[less][chosen], n_resamples)
                cells.append(f"{each.value:+.3f} ({each.low:+.4f} to {each.high:+.4f})")
            print(f"| {more} less {less} | " + " | ".join(cells) + " |", flush=True)
    print()


def together(parts: list[TextLift]) -> TextLift:
    """The searches of several shops as if they were one's."""
    joined = [
        {name: np.concatenate([part[index][name] for part in parts]) for name in parts[0][index]} for index in range(2)
    ]
    return TextLift(joined[0], joined[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--shop", type=Path, nargs=3, action="append", required=True, metavar=("LOG", "PREPARED", "RUNS")
    )
    parser.add_argument("--model", default="packaged")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--contenders", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=10_000)
    options = parser.parse_args()
    found = []
    for log, prepared, out in options.shop:
        out.mkdir(parents=True, exist_ok=True)
        found.append(measured(Shop(log, PreparedData.open(prepared), out), options))
        print(f"\nMRR@{K} of clicks, {len(options.seeds)} seeds; differences with 95 % intervals over searches")
        tell(found[-1], options.resamples)
    if len(found) > 1:
        print(f"the searches of {len(found)} shops together")
        tell(together(found), options.resamples)


if __name__ == "__main__":
    main()
