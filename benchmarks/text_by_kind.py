"""Text against no text by kind of query, from the finished runs of `shelfrank reproduce`.

python benchmarks/text_by_kind.py reproduce/small --budget small
"""

import argparse
from pathlib import Path

import numpy as np

from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.segmentations import query_kinds
from shelfrank.metrics import bootstrap_difference, reciprocal_rank
from shelfrank.paper.reproduce.budgets import budget_named
from shelfrank.paper.reproduce.measure import RowTrainings
from shelfrank.paper.reproduce.rows import BY_NAME
from shelfrank.paper.reproduce.runs import plan

PAIRS = (
    ("mmoe_dcn_v2_tinybert_cross", "mmoe_dcn_v2"),
    ("mmoe_dcn_v2_tinybert_dot", "mmoe_dcn_v2"),
    ("mmoe_dcn_v2_tinybert_cross-no_semantic_score", "mmoe_dcn_v2-no_semantic_score"),
    ("mmoe_ftt_tinybert_cross", "mmoe_ftt"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="small")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=10)
    arguments = parser.parse_args()
    budget = budget_named(arguments.budget)
    prepared = PreparedData.open(arguments.folder / "prepared")
    split = prepared.split("test")
    kinds = {"all": np.ones(split.n_searches, bool), **query_kinds(arguments.folder / "log", prepared, "test")}
    print(f"MRR@{arguments.k}, text minus no text, mean over the seeds with 95 % intervals over searches\n")
    print("| Text row | Kind | " + " | ".join(f"{task} (searches)" for task in split.tasks) + " |")
    print("|---|---|" + "---|" * len(split.tasks))
    for text, plain in PAIRS:
        values = [ranks(row, budget, arguments.folder, split, arguments.k) for row in (text, plain)]
        for kind, chosen in kinds.items():
            cells = []
            for task in split.tasks:
                own, base = (each[task][:, chosen].mean(axis=0) for each in values)
                found = bootstrap_difference(own, base, arguments.resamples)
                seeds = [np.nanmean(values[0][task][s, chosen] - values[1][task][s, chosen]) for s in range(3)]
                told = ", ".join(f"{seed:+.3f}" for seed in seeds)
                cells.append(f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}), {found.n}, seeds {told}")
            print(f"| {text} | {kind} | " + " | ".join(cells) + " |")


def ranks(row, budget, folder, split, k):
    """Reciprocal ranks by task of every seed and search."""
    measured = RowTrainings(plan([BY_NAME[row]], budget, folder, {}), split, budget.evaluate)
    found = {}
    for index, task in enumerate(split.tasks):
        labels = np.ascontiguousarray(split.labels[:, index])
        orders = [np.asarray(evaluation.array("fused")) for evaluation in measured.evaluations]
        each = [reciprocal_rank(order, labels, split.search_offsets, split.tie_keys, k) for order in orders]
        found[task] = np.stack(each)
    return found


if __name__ == "__main__":
    main()
