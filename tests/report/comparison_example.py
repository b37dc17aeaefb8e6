"""Comparisons as `compare` writes them, generated with plausible numbers."""

import copy
import random
from typing import Any

TASKS = ("click", "add_to_cart", "purchase")
KS = (1, 5, 10)
EVALUATED = {"click": 21_480, "add_to_cart": 6_120, "purchase": 2_014}

# Name, label, learned, MRR@10 of a click, AUC of a click, share of a page that stays without the customer.
RANKERS = (
    ("shown_order", "Shown order", False, 0.402, 0.641, 1.0),
    ("popularity", "Popularity", False, 0.371, 0.668, 1.0),
    ("text_match", "Text match", False, 0.318, 0.588, 1.0),
    ("lambdamart", "LambdaMART", True, 0.441, 0.772, 0.93),
    ("mmoe_dcn_v2", "MMoE + DCN-V2", True, 0.452, 0.781, 0.90),
    ("mmoe_ft_transformer_text", "MMoE + FT-Transformer + text cross", True, 0.455, 0.784, 0.86),
)
TASK_SHIFT = {"click": 0.0, "add_to_cart": 0.043, "purchase": 0.058}
CUTOFF_SHIFT = {1: -0.151, 5: -0.021, 10: 0.0}
KINDS_OF_QUERY = {"plain": 0.82, "synonym": 0.1, "typo": 0.08}
BRANDS = ("Northby", "Halden", "Casa Lino", "Ferro & Sohn", "Umbra Oak", "Littlewood")
KINDS = (
    "2-seat sofa",
    "sleeper couch",
    "corner sofa with storage",
    "loveseat",
    "modular sectional",
    "velvet couch",
)
COLORS = ("red", "burgundy", "cherry", "brick red", "rust", "coral")


def full_comparison(n_rankers: int = len(RANKERS)) -> dict[str, Any]:
    """Three tasks, six rankers (or more, by repetition under new names), and every optional part."""
    rng = random.Random(7)
    rows = [RANKERS[i % len(RANKERS)] for i in range(n_rankers)]
    rankers = []
    for i, row in enumerate(rows):
        ranker = _ranker(rng, *row)
        if i >= len(RANKERS):
            ranker |= {"name": f"{row[0]}_{i}", "label": f"{row[1]} ({i})"}
        rankers.append(ranker)
    baseline = rankers[0]
    best = {str(k): {t: 0.548 + TASK_SHIFT[t] + CUTOFF_SHIFT[k] for t in TASKS} for k in KS}
    for ranker in rankers[1:]:
        reached = {t: (ranker["mrr"]["10"][t]["value"], baseline["mrr"]["10"][t]["value"]) for t in TASKS}
        ranker["share_of_possible"] = {t: (own - base) / (best["10"][t] - base) for t, (own, base) in reached.items()}
    return {
        "title": "storefront",
        "created": "2026-01-14T09:30:00Z",
        "shelfrank": "0.1.0",
        "tasks": list(TASKS),
        "ks": list(KS),
        "confidence": 0.95,
        "data": _data(),
        "baseline": "shown_order",
        "counts": {
            "searches": 40_210,
            "with_positive": dict(EVALUATED),
            "missing_label": dict.fromkeys(TASKS, 0),
        },
        "rankers": rankers,
        "differences": {r["name"]: _difference(rng, r, baseline) for r in rankers[1:]},
        "bounds": {
            "best": {"mrr": best},
            "non_personalized": {
                "mrr": {str(k): {t: 0.474 + TASK_SHIFT[t] + CUTOFF_SHIFT[k] for t in TASKS} for k in KS}
            },
        },
        "moves": {r["name"]: _moves(rng, spread) for r, spread in zip(rankers[3:6], (1.2, 1.6, 2.0), strict=False)},
        "steps": [
            {"name": "simulate", "wall_s": 41.2, "peak_rss_mb": 812.0, "rows": 8_040_000},
            {"name": "prepare", "wall_s": 96.8, "peak_rss_mb": 1940.0, "rows": 8_040_000},
            {"name": "train_lambdamart", "wall_s": 71.0, "peak_rss_mb": 1410.0, "rows": 6_432_000},
            {"name": "train_mmoe_dcn_v2", "wall_s": 214.0, "peak_rss_mb": 1322.0, "rows": 6_432_000},
            {
                "name": "train_mmoe_ft_transformer_text",
                "wall_s": 3912.0,
                "peak_rss_mb": 2688.0,
                "rows": 6_432_000,
            },
            {"name": "evaluate", "wall_s": 33.5, "peak_rss_mb": 1105.0, "rows": 804_000},
            {"name": "compare", "wall_s": 9.4, "peak_rss_mb": 640.0, "rows": None},
        ],
        "segments": {"query_kind": {kind: _segment(rng, rankers, share) for kind, share in KINDS_OF_QUERY.items()}},
    }


def click_only_comparison() -> dict[str, Any]:
    """One task, one ranker beside the baseline, and no optional part."""
    return {
        "title": "clicks",
        "tasks": ["click"],
        "ks": [1, 10],
        "confidence": 0.9,
        "baseline": "shown_order",
        "rankers": [
            {"name": "shown_order", "mrr": {"10": {"click": _interval(0.43, 0.01, 1360)}}},
            {"name": "gbdt", "mrr": {"10": {"click": _interval(0.63, 0.01, 1360)}}},
        ],
        "differences": {"gbdt": {"mrr": {"10": {"click": _interval(0.2, 0.02, 1360)}}}},
        "moves": None,
        "bounds": None,
    }


def with_difference(
    comparison: dict[str, Any], name: str, task: str, low: float | None, high: float | None
) -> dict[str, Any]:
    """The comparison with another paired MRR@10 difference of a ranker; its own value moves along."""
    changed = copy.deepcopy(comparison)
    entry = changed["differences"][name]["mrr"]["10"]
    if low is None or high is None:
        del entry[task]
        return changed
    value = (low + high) / 2
    entry[task] = {"value": value, "low": low, "high": high, "p": 0.5, "n": 1000}
    by_name = {ranker["name"]: ranker["mrr"]["10"] for ranker in changed["rankers"]}
    base = by_name[changed["baseline"]][task]["value"]
    by_name[name][task] = {"value": base + value, "low": base + low, "high": base + high, "n": 1000}
    return changed


def _interval(value: float, half: float, n: int) -> dict[str, Any]:
    return {"value": round(value, 5), "low": round(value - half, 5), "high": round(value + half, 5), "n": n}


def _ranker(
    rng: random.Random, name: str, label: str, learned: bool, mrr: float, auc: float, pd: float
) -> dict[str, Any]:
    def measured(center: float, shift: dict[int, float]) -> dict[str, Any]:
        return {
            str(k): {
                task: _interval(
                    center + TASK_SHIFT[task] + shift[k] + rng.gauss(0, 0.003),
                    0.69 / EVALUATED[task] ** 0.5,
                    EVALUATED[task],
                )
                for task in TASKS
            }
            for k in KS
        }

    neural = name.startswith("mmoe")
    values = measured(mrr, CUTOFF_SHIFT)
    epochs = 6 if "ft_" in name else 5
    kept = epochs - 2
    ranker: dict[str, Any] = {
        "name": name,
        "label": label,
        "learned": learned,
        "task_weights": {"click": 0.5, "add_to_cart": 0.3, "purchase": 0.2} if neural else None,
        "params": None,
        "auc": {
            task: _interval(auc + TASK_SHIFT[task] + rng.gauss(0, 0.004), 0.4 / EVALUATED[task] ** 0.5, EVALUATED[task])
            for task in TASKS
        },
        "mrr": values,
        "ndcg": measured(mrr + 0.09, CUTOFF_SHIFT),
        "pd": {"10": {**_interval(pd, 0.002 if pd < 1 else 0.0, 38_800), "left_out": 1_410}},
        "calibration": None,
        "curves": None,
        "cost": {
            "train": {"wall_s": None, "peak_rss_mb": None},
            "score": {"wall_s": 0.6 if not learned else 4.1, "rows": 804_000},
        },
        "choices": [],
        "config": {"ranker": name},
        "fingerprint": f"{rng.getrandbits(256):064x}",
        "seed": 0,
    }
    if learned:
        ranker["cost"]["train"] = {
            "wall_s": 3912.0 if "ft_" in name else 214.0 if neural else 71.0,
            "peak_rss_mb": 1322.0,
        }
        ranker["config"] = {
            "ranker": {"name": name, "dropout": 0.1, "experts": 4, "layers": [256, 128]},
            "train": {"lr": 0.001},
            "seed": 0,
        }
    if neural:
        ranker["calibration"] = {
            task: _bins(rng, rate) for task, rate in zip(TASKS, (0.045, 0.011, 0.0034), strict=True)
        }
        ranker["curves"] = [
            {
                "epoch": epoch,
                "train_loss": 0.118 + 0.05 * 0.55**epoch - 0.0012 * epoch,
                "valid_loss": 0.121 + 0.042 * 0.52**epoch + 0.0042 * max(0, epoch - kept),
                "seconds": 41.0 * epoch,
                "best": epoch == kept,
            }
            for epoch in range(1, epochs + 1)
        ]
        ranker["params"] = {
            "trainable": 998_400,
            "total": 998_400,
            "parts": {"embedding": 402_000, "bottom": 596_400},
        }
        ranker["choices"] = [
            "batch size 2048, because 6.4 million rows give 3,140 steps an epoch with it",
            "8 workers for scoring",
        ]
        if "ft_" in name:
            ranker["params"] = {"trainable": 10_120_000, "total": 69_960_000, "parts": {}}
    return ranker


def _difference(rng: random.Random, ranker: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    def paired(task: str, own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
        return _interval(own[task]["value"] - base[task]["value"], 0.48 / EVALUATED[task] ** 0.5, EVALUATED[task]) | {
            "p": rng.random()
        }

    return {
        "mrr": {k: {t: paired(t, ranker["mrr"][k], baseline["mrr"][k]) for t in TASKS} for k in map(str, KS)},
        "ndcg": {k: {t: paired(t, ranker["ndcg"][k], baseline["ndcg"][k]) for t in TASKS} for k in map(str, KS)},
        "auc": {t: paired(t, ranker["auc"], baseline["auc"]) for t in TASKS},
    }


def _segment(rng: random.Random, rankers: list[dict[str, Any]], share: float) -> dict[str, Any]:
    counts = {task: int(share * n) for task, n in EVALUATED.items()}

    def moved(figure: dict[str, Any], task: str) -> dict[str, Any]:
        return _interval(figure["value"] - rng.random() / 10, 0.5 / counts[task] ** 0.5, counts[task])

    figures = {
        ranker["name"]: {"mrr": {k: {task: moved(ranker["mrr"][k][task], task) for task in TASKS} for k in ("1", "10")}}
        for ranker in rankers
    }
    base = figures[rankers[0]["name"]]
    return {
        "searches": int(40_210 * share),
        "with_positive": counts,
        "rankers": figures,
        "differences": {
            name: {
                "mrr": {
                    k: {
                        task: _interval(
                            own["mrr"][k][task]["value"] - base["mrr"][k][task]["value"],
                            0.4 / counts[task] ** 0.5,
                            counts[task],
                        )
                        for task in TASKS
                    }
                    for k in ("1", "10")
                }
            }
            for name, own in figures.items()
            if own is not base
        },
    }


def _data() -> dict[str, Any]:
    def split(searches: int, first: str, last: str) -> dict[str, Any]:
        return {
            "searches": searches,
            "impressions": searches * 20,
            "queries": 612 + searches // 400,
            "products": min(24_000, 9_000 + searches // 10),
            "customers": min(60_000, 6_000 + searches // 4),
            "positives": {
                "click": searches * 9 // 10,
                "add_to_cart": searches * 11 // 50,
                "purchase": searches // 15,
            },
            "first": first,
            "last": last,
        }

    return {
        "name": "storefront",
        "fingerprint": "9f2c41d07a5be8833c64e2f1b09d7754a1c6e0932b8f5d4417ca60be52d83f19",
        "splits": {
            "train": split(321_600, "2025-06-01T00:03:11Z", "2025-10-19T23:58:40Z"),
            "valid": split(40_190, "2025-10-20T00:00:03Z", "2025-11-09T12:41:00Z"),
            "test": split(40_210, "2025-11-09T12:41:02Z", "2025-11-30T23:59:52Z"),
        },
        "features": {"customer": 12, "query": 3, "product": 10, "interaction": 6, "context": 4},
        "left_out": {"search without a known product": 128, "purchase_without_click": 37},
        "sampling": _sampling(),
        "notes": ["The data is simulated; its truth is known and no feature reads it."],
    }


def _sampling() -> dict[str, Any]:
    def rows(impressions: int, positives: int, **named: Any) -> dict[str, Any]:
        asked = impressions // 4
        taken = min(asked, positives)
        return named | {
            "products": 960,
            "impressions": impressions,
            "positives": positives,
            "negatives": impressions - positives,
            "asked_positive": asked,
            "asked_negative": asked,
            "taken_positive": taken,
            "taken_negative": asked,
            "short_positive": asked - taken,
            "short_negative": 0,
            "n_bins": 24,
            "n_short_bins": 24 if taken < asked else 0,
        }

    by_bin = [rows(4_000 * i**3, 210 * i**3 + 40 * i, bin=i) for i in range(1, 11)]
    totals = {name: sum(row[name] for row in by_bin) for name in by_bin[0] if name != "bin"}
    names = ["sofas", "armchairs", None, *(f"kind {i}" for i in range(21))]
    return {
        "config": {"alpha": 0.5, "beta": 0.5, "n_bins": 10, "category": "category", "unit": "impression", "seed": 0},
        "totals": totals,
        "by_bin": by_bin,
        "by_category": [rows(900_000 // (1 + i), 51_000 // (1 + i), category=name) for i, name in enumerate(names)],
    }


def _bins(rng: random.Random, rate: float) -> list[dict[str, Any]]:
    levels = [rate * (0.12 + 0.3 * i + 0.03 * i**2) for i in range(10)]
    return [
        {
            "predicted": p,
            "observed": max(0.0, p * rng.gauss(0.97, 0.08)),
            "rows": int(80_400 * rng.uniform(0.97, 1.03)),
        }
        for p in levels
    ]


def _moves(rng: random.Random, spread: float) -> dict[str, Any]:
    moves = [round(rng.gauss(0, spread) ** 3 / 2) for _ in range(4000)]
    histogram = {move: moves.count(move) for move in sorted(set(moves))}
    return {
        "histogram": [[move, 100 * n] for move, n in histogram.items()],
        "mean_absolute": sum(map(abs, moves)) / len(moves),
        "examples": [
            _example(
                rng,
                "red couch",
                "c1842",
                ["bought 3 × Halden", "clicked 14 × sofas", "typical price $640", "last visit 4 days ago"],
            ),
            _example(
                rng,
                "small sofa for a narrow hallway",
                "c0077",
                ["bought 1 × Northby", "searched “loveseat” twice today"],
            ),
            _example(rng, "couch", None, []),
        ],
    }


def _example(rng: random.Random, query: str, customer: str | None, history: list[str]) -> dict[str, Any]:
    brands = [rng.choice(BRANDS) for _ in range(12)]
    products = [
        {
            "product_id": f"p{rng.randrange(100_000):05d}",
            "title": f"{brand} {rng.choice(KINDS)}, {rng.choice(COLORS)}",
            "brand": brand,
            "price": round(rng.uniform(180, 2400), 2),
            "clicked": False,
            "shown": shown,
        }
        for brand, shown in zip(brands, rng.sample(range(1, 21), 12), strict=True)
    ]
    products[4]["clicked"] = True
    moved = sorted(range(12), key=lambda place: place + rng.gauss(0, 2.2) - (3 if place == 4 else 0))
    return {
        "query": query,
        "customer": customer,
        "history": history,
        "neutral": products[:10],
        "personalized": [products[place] for place in moved[:10]],
    }
