"""Semantic scores of judged pairs by models that did not see the pair's query, computed once and kept in a folder."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from semantic_homedepot import HELD_OUT, RECIPE, Judgments, cosines, number_of, read_judgments
from shelfrank.config import resolve
from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.text.contrastive import fine_tune
from shelfrank.text.encoder import load_encoder
from shelfrank.text.pairs import Pairs


def is_test(rows: Judgments) -> np.ndarray:
    """Whether each pair's query is held out: the same fifth that `semantic_homedepot.py` scores."""
    return np.array([number_of(f"split {query}") / 2**64 >= 1 - HELD_OUT for query in rows.queries])


def halves(rows: Judgments) -> np.ndarray:
    """The half, 0 or 1, of each pair's query."""
    return np.array([number_of(f"half {query}") % 2 for query in rows.queries])


def semantic_scores(rows: Judgments, half: int, out: Path) -> np.ndarray:
    """The scores of one half of the training queries and of the test queries by a model tuned on the other half."""
    test, own = is_test(rows), halves(rows) == half
    scored, file = test | own, out / f"semantic_{half}.npy"
    if not file.exists():
        np.save(file, _tuned_scores(rows.take(~scored), rows.take(scored), out / f"checkpoint_half{half}"))
    values = np.full(len(rows.queries), np.nan)
    values[scored] = np.load(file)
    return values


def _tuned_scores(train: Judgments, scored: Judgments, checkpoints: Path) -> np.ndarray:
    config = resolve(SemanticTrainConfig, None, list(RECIPE))
    encoder = load_encoder(config.model)
    chosen = train.take(train.grades >= (config.positive_grade or 0))
    fine_tune(encoder, Pairs.unique(chosen.queries, chosen.titles), config, checkpoints)
    return cosines(encoder, scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("judgments", type=Path, help="train.csv, gzipped or not")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, _ = read_judgments(args.judgments)
    for half in (0, 1):
        semantic_scores(rows, half, args.out)


if __name__ == "__main__":
    main()
