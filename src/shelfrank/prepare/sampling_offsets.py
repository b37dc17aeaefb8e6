"""What sampling adds to the log-odds of the training rows, so that networks and trees can leave it out again.

Positive and negative rows are kept at different rates. A ranker that learns from the kept rows alone learns the odds of
a label times the ratio of its rates: with half of the kept rows positive, a base rate of one half. The rates are known
for each bin, and a bin is one of products; so what they add is known for each product and task.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8

from shelfrank.data.npy import NpyWriter
from shelfrank.data.prepared import SAMPLING_OFFSETS
from shelfrank.prepare.strata import Strata

SMOOTHING = 1.0
"""Rows at the rates of all bins together that are added to each bin's, so that no rate of a small one is 0."""


def sampling_offsets(
    strata: Strata,
    product_idx: Int[np.ndarray, " rows"],
    labels: Sequence[Int8[np.ndarray, " rows"]],
    kept: Bool[np.ndarray, " rows"],
    n_products: int,
) -> Float32[np.ndarray, "n_products n_tasks"]:
    """The log of the rate at which rows with a label are kept over that of rows without it, by product and task.

    Differs: the paper samples (Sec. 3.4) and learns from the kept rows as they are. Rows without a cart are kept at two
    rates, as some were clicked; here they have their bin's mean, which is a little low for the products of a bin that
    are clicked most.

    Args:
        strata: The bins of the products.
        product_idx: The product of each training row, kept or not.
        labels: For each task the rows' label: 1, 0, or -1 where it is missing.
        kept: Which rows were kept.
        n_products: Products of the log; those without a training row have 0.

    Returns:
        The offsets; 0 for a task that has no kept row with or none without the label.
    """
    stratum = np.full(n_products, -1, np.int64)
    stratum[strata.product_idx] = strata.stratum
    of_rows, n_strata = stratum[product_idx], strata.bins.num_rows
    offsets = np.zeros((n_products, len(labels)), np.float32)
    for task, label in enumerate(labels):
        rates = []
        for side in (1, 0):
            on_side = label == side
            there = np.bincount(of_rows[on_side], minlength=n_strata)
            taken = np.bincount(of_rows[on_side & kept], minlength=n_strata)
            if not taken.sum():
                break
            overall = taken.sum() / there.sum()
            rates.append((taken + SMOOTHING * overall) / (there + SMOOTHING))
        else:
            offsets[strata.product_idx, task] = np.log(rates[0] / rates[1])[strata.stratum]
    return offsets


def save_offsets(offsets: Float32[np.ndarray, "n_products n_tasks"], folder: Path) -> None:
    """Writes the offsets into a folder being prepared."""
    file = NpyWriter(folder / SAMPLING_OFFSETS, offsets.dtype, offsets.shape[1:])
    file.append(offsets)
    file.finish()


def mean_offsets(
    offsets: Float32[np.ndarray, "n_products n_tasks"], kept_products: Int[np.ndarray, " kept"], tasks: Sequence[str]
) -> Mapping[str, float]:
    """The mean offset of the kept training rows, by task."""
    n_kept = np.bincount(kept_products, minlength=len(offsets)).astype(np.float64)
    means = n_kept @ offsets / max(n_kept.sum(), 1.0)
    return {task: round(float(mean), 4) for task, mean in zip(tasks, means, strict=True)}
