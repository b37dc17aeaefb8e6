"""Measures every text feature on human judgments: how its values agree with the grade that people gave.

Reads the `train.csv` of Kaggle's Home Depot Product Search Relevance, titles only. Prints for each feature Spearman's
correlation with the grade over all pairs, and the share of pairs of one query's products that it orders as the grades
do; products of one grade are no pair, equal values count half.

    python benchmarks/text_features_homedepot.py train.csv.gz
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from semantic_homedepot import Judgments, read_judgments
from shelfrank.features.textual import TextFeatures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judgments", type=Path, help="train.csv, gzipped or not")
    rows, _ = read_judgments(parser.parse_args().judgments)
    values = compute(rows)
    print(f"{len(rows.grades):,} pairs of {len(set(rows.queries)):,} queries and {len(set(rows.titles)):,} titles\n")
    print("| Feature | Spearman | Within a query |\n|---|---|---|")
    for name, feature in values.items():
        within = concordance(feature, rows.grades, rows.offsets())
        print(f"| `{name}` | {correlation(feature, rows.grades):.3f} | {within:.3f} |")


def compute(rows: Judgments) -> dict[str, np.ndarray]:
    """Each feature of every judged pair; a product's document is its title."""
    queries, query_idx = np.unique(rows.queries, return_inverse=True)
    titles, product_idx = np.unique(rows.titles, return_inverse=True)
    texts = titles.tolist()
    features = TextFeatures(queries.tolist(), texts, texts, {})
    values = features.compute(query_idx.astype(np.int32), product_idx.astype(np.int32))
    return {feature.name: values[:, at].astype(np.float64) for at, feature in enumerate(features.features)}


def correlation(values: np.ndarray, grades: np.ndarray) -> float:
    """Spearman's: that of the ranks, ties sharing theirs."""
    return float(np.corrcoef(rankdata(values), rankdata(grades))[0, 1])


def concordance(values: np.ndarray, grades: np.ndarray, offsets: np.ndarray) -> float:
    """The share of pairs of different grade within a query that the values order alike, ties half."""
    won = n_pairs = 0.0
    for start, end in itertools.pairwise(offsets):
        better = grades[start:end, None] > grades[None, start:end]
        above = np.sign(values[start:end, None] - values[None, start:end])
        won += ((above[better] + 1) / 2).sum()
        n_pairs += better.sum()
    return float(won / n_pairs)


if __name__ == "__main__":
    main()
