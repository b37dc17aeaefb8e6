"""What the sampling asked for and took, by bin and by category: for the manifest, the report and the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from shelfrank.config import SamplingConfig

COUNTS = (
    "products",
    "impressions",
    "positives",
    "negatives",
    "asked_positive",
    "asked_negative",
    "taken_positive",
    "taken_negative",
)
MAX_NAMED = 3


def sampling_info(bins: pa.Table, config: SamplingConfig, offsets: Mapping[str, float]) -> dict[str, Any]:
    """Sums the bins of a sampling.

    Args:
        bins: One row per category and bin.
        config: What was asked for.
        offsets: What sampling added to the log-odds of the kept rows on average, by task.

    Returns:
        Plain data: `config`, `offsets`, `totals`, `by_bin` (bins of the same number over all categories) and
        `by_category` (largest shortfall first). Each sum holds the counts of the bins, `short_positive` and
        `short_negative` (asked for but not there), `n_bins` and `n_short_bins`: bins summed, and those that fell short.
    """
    rows = bins.to_pylist()
    by_category: list[dict[str, Any]] = [{"category": name} | sums for name, sums in _grouped(rows, "category")]
    by_category.sort(key=lambda sums: -sums["short_positive"] - sums["short_negative"])
    return {
        "config": config.model_dump(mode="json"),
        "offsets": dict(offsets),
        "totals": _sums(rows),
        "by_bin": [{"bin": number} | sums for number, sums in sorted(_grouped(rows, "bin"))],
        "by_category": by_category,
    }


def sampling_lines(info: dict[str, Any]) -> list[str]:
    """Tells the outcome of a sampling in a few lines: what was kept, what was short, and the balance.

    Args:
        info: What `sampling_info` gives.

    Returns:
        The lines.
    """
    totals, config = info["totals"], info["config"]
    units = "impressions" if config["unit"] == "impression" else "result pages"
    taken = totals["taken_positive"] + totals["taken_negative"]
    asked = totals["asked_positive"] + totals["asked_negative"]
    lines = [
        f"kept {taken:,} of {totals['impressions']:,} training {units} ({asked:,} asked for): "
        f"{totals['taken_positive']:,} positive, {totals['taken_negative']:,} negative",
        f"positive before {_percent(totals['positives'], totals['impressions'])}, "
        f"after {_percent(totals['taken_positive'], taken)}, "
        f"asked for {_percent(totals['asked_positive'], asked)}",
        "added to the log-odds of a label: "
        + ", ".join(f"{offset:+.2f} ({task})" for task, offset in info["offsets"].items())
        + "; networks and XGBoost leave it out again (train.sampling_offset)",
    ]
    if not totals["n_short_bins"]:
        return [*lines, f"every one of {totals['n_bins']:,} bins had as many {units} as were asked for"]
    short = [f"{totals[f'short_{side}']:,} {side}s" for side in ("positive", "negative") if totals[f"short_{side}"]]
    lines.append(
        f"short of {' and '.join(short)}, all there were being kept, in {totals['n_short_bins']:,} of "
        f"{totals['n_bins']:,} bins; most in {_most_short(info['by_category'])}"
    )
    return lines


def _grouped(rows: Sequence[dict[str, Any]], key: str) -> list[tuple[Any, dict[str, int]]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return [(value, _sums(members)) for value, members in groups.items()]


def _sums(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    sums = {name: sum(row[name] for row in rows) for name in COUNTS}
    for side in ("positive", "negative"):
        sums[f"short_{side}"] = sums[f"asked_{side}"] - sums[f"taken_{side}"]
    short = [
        row["asked_positive"] > row["taken_positive"] or row["asked_negative"] > row["taken_negative"] for row in rows
    ]
    return sums | {"n_bins": len(rows), "n_short_bins": sum(short)}


def _most_short(by_category: Sequence[dict[str, Any]]) -> str:
    named = []
    for sums in by_category[:MAX_NAMED]:
        short = sums["short_positive"] + sums["short_negative"]
        if short:
            name = "products without a category" if sums["category"] is None else sums["category"]
            named.append(f"{name} ({short:,})")
    return ", ".join(named)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
