"""Measures query understanding where words have no blanks: how features agree with KuaiSearch's judged relevance.

Reads `relevance.jsonl` of KuaiSearch's published files and learns from its titles and those of every file beside it.
Prints Spearman's correlation of each feature with the score over all pairs, with an interval over pairs, and how some
queries were read.

    python benchmarks/judged_characters.py KuaiSearch/relevance.jsonl
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from shelfrank.features.textual import TextFeatures
from shelfrank.features.understanding import Catalogue, QueryUnderstanding

N_RESAMPLES = 1000
N_SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("relevance", type=Path, help="relevance.jsonl")
    file = parser.parse_args().relevance
    rows = records(file)
    other = {
        row["item_title"] for path in sorted(file.parent.glob("*.jsonl")) for row in records(path) if has_title(row)
    }
    titles = sorted(other)
    queries, query_idx = np.unique([row["query"] for row in rows], return_inverse=True)
    product_idx = np.searchsorted(np.array(titles), [row["item_title"] for row in rows]).astype(np.int32)
    query_idx = query_idx.astype(np.int32)
    learned = QueryUnderstanding.of_catalogue(Catalogue(titles))
    readings = learned.read(queries.tolist())
    texts = TextFeatures(queries.tolist(), titles, titles, {})
    values = {
        **columns(texts.features, texts.compute(query_idx, product_idx)),
        **columns(learned.features, learned.compute(readings, query_idx, product_idx, np.zeros(len(rows), np.int64))),
    }
    scores = np.array([float(row["score"]) for row in rows])
    phrases = sum(len(term) > 1 for term in learned.lexicon.terms)
    print(f"{len(rows)} pairs, {len(titles):,} titles, {phrases:,} phrases\n\n| Feature | Spearman |\n|---|---|")
    for name, own in values.items():
        if own.std() > 0:
            print(f"| `{name}` | {correlation(own, scores):.3f} [{', '.join(f'{e:.3f}' for e in ends(own, scores))}] |")
    for query in range(min(N_SHOWN, len(queries))):
        print(f"\n{queries[query]}: {readings.reading(query, n_likeliest=0)}", end="")
    print()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def has_title(row: dict[str, Any]) -> bool:
    return isinstance(row.get("item_title"), str)


def columns(features: tuple, values: np.ndarray) -> dict[str, np.ndarray]:
    return {feature.name: values[:, at].astype(np.float64) for at, feature in enumerate(features)}


def correlation(values: np.ndarray, scores: np.ndarray) -> float:
    a, b = rankdata(values), rankdata(scores)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def ends(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The ends of a 95 % interval over pairs, each of which has a query of its own."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(scores), len(scores)) for _ in range(N_RESAMPLES))
    return np.quantile([correlation(values[own], scores[own]) for own in drawn], [0.025, 0.975])


if __name__ == "__main__":
    main()
