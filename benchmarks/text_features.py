"""Times the text features on made-up texts: reading the tables, and pairs a second on one core.

Words are drawn by Zipf's law from a made-up vocabulary; a query takes most of its words from a product's title, and
some of them get a typing error. Pairs are all distinct, so that none is saved. Seconds are the processor's.

    python benchmarks/text_features.py
    python benchmarks/text_features.py --products 1000000 --queries 3000000
"""

import argparse
import os
import pickle
import resource
import time

# Before NumPy starts threads: the figures are for one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from shelfrank.features.textual import TextFeatures

COLORS = ("red", "blue", "navy blue", "black", "white", "light grey", "green", "orange")
AGE_GROUPS = ("adult", "kids", "baby", "toddler")


def main() -> None:
    args = parse_args()
    rng = np.random.default_rng(args.seed)
    titles, documents, attributes = make_products(rng, args.products, args.words)
    queries = make_queries(rng, args.queries, titles)
    before_mb = memory_mb()
    started = time.process_time()
    features = TextFeatures(queries, titles, documents, attributes)
    seconds = time.process_time() - started
    peak_mb = memory_mb() - before_mb
    held_mb = len(pickle.dumps(features, protocol=5)) / 1e6
    print(f"{args.products:,} products and {args.queries:,} queries read in {seconds:.1f} s")
    print(f"they hold {held_mb:,.0f} MB; reading them took up to {peak_mb:,.0f} MB")

    batches = make_batches(rng, args)
    values = features.compute(*batches[0])
    seconds = []
    for query_idx, product_idx in batches:
        started = time.process_time()
        features.compute(query_idx, product_idx)
        seconds.append(time.process_time() - started)
    n_pairs = sum(len(query_idx) for query_idx, _ in batches)
    print(f"{values.shape[1]} features of {n_pairs:,} pairs in batches of {args.batch:,}")
    print(f"{n_pairs / sum(seconds):,.0f} pairs/s, fastest batch {args.batch / min(seconds):,.0f} pairs/s")
    print(f"words of the query that the title has: {values[:, 0].mean():.0%}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--pairs", type=int, default=1_048_576)
    parser.add_argument("--batch", type=int, default=131_072)
    parser.add_argument("--page", type=int, default=24, help="products of one query's page")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_products(
    rng: np.random.Generator, n_products: int, n_words: int
) -> tuple[list[str], list[str], dict[str, list[str | None]]]:
    letters = np.array(list("eeeeaaariotnslcudpmhgbfywkvxzjq"))
    vocabulary = ["".join(rng.choice(letters, size)) for size in rng.integers(3, 12, n_words)]
    lengths = rng.integers(5, 16, n_products)
    words = np.minimum(rng.zipf(1.15, lengths.sum()), n_words) - 1
    ends = np.cumsum(lengths).tolist()
    titles = [
        " ".join([vocabulary[word] for word in words[start:end]])
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    brands = [vocabulary[word] for word in rng.integers(0, min(2000, n_words), n_products)]
    colors = [COLORS[color] if color < len(COLORS) else None for color in rng.integers(0, 12, n_products)]
    ages = [AGE_GROUPS[age] if age < len(AGE_GROUPS) else None for age in rng.integers(0, 8, n_products)]
    documents = [" ".join(filter(None, texts)) for texts in zip(titles, brands, colors, ages, strict=True)]
    return titles, documents, {"brand": brands, "color": colors, "age_group": ages}


def make_queries(rng: np.random.Generator, n_queries: int, titles: list[str]) -> list[str]:
    queries = []
    sources = rng.integers(0, len(titles), n_queries).tolist()
    for source, luck, size in zip(sources, rng.random(n_queries), rng.integers(1, 6, n_queries).tolist(), strict=True):
        words = titles[source].split()[:size]
        if luck < 0.3:
            word = words[-1]
            words[-1] = word[1] + word[0] + word[2:]
        elif luck < 0.5:
            words.append(COLORS[int(luck * 1000) % len(COLORS)])
        queries.append(" ".join(words))
    return queries


def make_batches(rng: np.random.Generator, args: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    n_batches = max(args.pairs // args.batch, 1)
    queries = rng.integers(0, args.queries, (n_batches, args.batch // args.page + 1))
    query_idx = np.repeat(queries, args.page, axis=1)[:, : args.batch].astype(np.int32)
    product_idx = rng.integers(0, args.products, query_idx.shape, dtype=np.int32)
    return list(zip(query_idx, product_idx, strict=True))


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
