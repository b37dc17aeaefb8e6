"""The sampling in plain loops, and random rows to sample from."""

import hashlib
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np

from shelfrank.config import SamplingConfig

TASKS = ("click", "purchase")
Rows = list[dict[str, Any]]


def key(name: str, seed: int, salt: str) -> int:
    mixed = hashlib.blake2b(f"{seed}:{salt}".encode(), digest_size=16).digest()
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4, salt=mixed).digest(), "little") >> 1


def random_rows(seed: int, n_searches: int = 40, n_products: int = 12, rate: float = 0.3) -> tuple[Rows, Rows]:
    """Rows of random pages in random order, and their products; some labels and categories are null."""
    rng = np.random.default_rng(seed)
    rows = []
    for search in range(n_searches):
        split = int(rng.choice([0, 0, 0, 0, 1, 2]))
        unlabelled = [task for task in TASKS if rng.random() < 0.2]
        # The smaller of two draws: some products are shown far more often than others.
        shown = dict.fromkeys(int(min(rng.integers(n_products, size=2))) for _ in range(int(rng.integers(1, 8))))
        for position, product in enumerate(shown, start=1):
            labels = {task: None if task in unlabelled else int(rng.random() < rate) for task in TASKS}
            row = {"search_idx": search, "product_idx": product, "position": position, "split": split, "extra": 0.5}
            rows.append(row | {"search_key": key(f"s{search}", 0, "search")} | labels)
    products = [
        {"product_idx": p, "category": rng.choice([None, "a", "b"], p=[0.2, 0.5, 0.3])} for p in range(n_products)
    ]
    for product in products:
        product["product_key"] = key(f"p{product['product_idx']}", 0, "product")
    return [rows[i] for i in rng.permutation(len(rows)).tolist()], products


def half_up(number: Decimal) -> int:
    return int(number.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def oracle(rows: Rows, products: Rows, config: SamplingConfig) -> tuple[set[tuple[int, int]], Rows]:
    """Search and product of every kept row, and the bins."""
    trained = [row for row in rows if row["split"] == 0]
    product_of = {product["product_idx"]: product for product in products}
    impressions: dict[int, int] = defaultdict(int)
    for row in trained:
        impressions[row["product_idx"]] += 1
    by_category: dict[str | None, list[int]] = defaultdict(list)
    for product in impressions:
        by_category[product_of[product]["category"]].append(product)
    bin_of, n_products = {}, defaultdict(int)
    for category, members in by_category.items():
        members.sort(key=lambda product: (impressions[product], product))
        for rank, product in enumerate(members):
            bin_of[product] = (category, 1 + rank * config.n_bins // len(members))
            n_products[bin_of[product]] += 1

    units = _pages(trained) if config.unit == "search" else [[row] for row in trained]
    members_of: dict[tuple[Any, bool], list[list[dict[str, Any]]]] = defaultdict(list)
    for unit in units:
        positive = any(map(_positive, unit))
        members_of[bin_of[_stands_for(unit)["product_idx"]], positive].append(unit)

    kept = {(row["search_idx"], row["product_idx"]) for row in rows if row["split"] != 0}
    bins = []
    n_so_far = asked_so_far = 0
    for place in sorted(n_products, key=lambda place: (place[0] is None, place[0] or "", place[1])):
        count = n_products[place]
        sides = {side: members_of[place, side] for side in (True, False)}
        # What the rounding of the bins before took or gave counts here.
        n_before, n_so_far = n_so_far, n_so_far + sum(map(len, sides.values()))
        asked_before = asked_so_far
        asked_so_far = half_up(Decimal(str(config.beta)) * n_so_far)
        n = asked_so_far - half_up(Decimal(str(config.beta)) * n_before)
        alpha = Decimal(str(config.alpha))
        n_positive = half_up(alpha * asked_so_far) - half_up(alpha * asked_before)
        asked = {True: n_positive, False: n - n_positive}
        for side, members in sides.items():
            for unit in sorted(members, key=lambda unit: _order(unit, product_of))[: asked[side]]:
                kept |= {(row["search_idx"], row["product_idx"]) for row in unit}
        bins.append(
            {
                "category": place[0],
                "bin": place[1],
                "products": count,
                "impressions": sum(map(len, sides.values())),
                "positives": len(sides[True]),
                "negatives": len(sides[False]),
                "asked_positive": asked[True],
                "asked_negative": asked[False],
                "taken_positive": min(asked[True], len(sides[True])),
                "taken_negative": min(asked[False], len(sides[False])),
            }
        )
    bins.sort(key=lambda row: (row["category"] is None, row["category"] or "", row["bin"]))
    return kept, bins


def _positive(row: dict[str, Any]) -> bool:
    return any(row[task] == 1 for task in TASKS)


def _pages(rows: Rows) -> list[Rows]:
    pages = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["position"]):
        pages[row["search_idx"]].append(row)
    return list(pages.values())


def _stands_for(unit: Rows) -> dict[str, Any]:
    return next(filter(_positive, unit), unit[0])


def _order(unit: Rows, product_of: dict[int, dict[str, Any]]) -> tuple[int, int, int]:
    first = _stands_for(unit)
    prime = 2_147_483_579
    product_key = product_of[first["product_idx"]]["product_key"]
    draw = pow(pow(first["search_key"], 3, prime) * 1_583_458_089 + product_key, 3, prime)
    return draw, first["search_idx"], first["product_idx"]
