"""Samples products that a search did not click, for sources that publish clicks alone."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64

from shelfrank.core.hashing import mixed_bits


def sample_negatives(clicks: Iterable[tuple[str, str, str]], n_negatives: int) -> pa.Table:
    """Draws products of the clicked categories that the search did not click.

    Every product of the categories is as likely as any other. There is no seed: the products of the least hashes of
    (search, product) are drawn, so that the sample of a search stays when other searches come or go.

    Args:
        clicks: Search, product and category of each click.
        n_negatives: How many products each search gets, where its categories have as many.

    Returns:
        The drawn pairs, as `search_id` and `product_id`.
    """
    clicked: dict[str, set[str]] = {}
    categories_of: dict[str, set[str]] = {}
    products_of: dict[str, set[str]] = {}
    for search, product, category in clicks:
        clicked.setdefault(search, set()).add(product)
        categories_of.setdefault(search, set()).add(category)
        products_of.setdefault(category, set()).add(product)
    pools: dict[frozenset[str], tuple[list[str], UInt64[np.ndarray, " n_products"]]] = {}
    searches: list[str] = []
    drawn: list[str] = []
    for search, categories in categories_of.items():
        key = frozenset(categories)
        if key not in pools:
            pool = sorted(set[str]().union(*(products_of[category] for category in categories)))
            pools[key] = pool, np.array([_hash(product) for product in pool], np.uint64)
        pool, hashes = pools[key]
        draws = mixed_bits(hashes ^ np.uint64(_hash(search)))
        n_least = min(n_negatives + len(clicked[search]), len(pool))
        least = np.argpartition(draws, n_least - 1)[:n_least]
        order = least[np.argsort(draws[least])]
        negatives = [pool[i] for i in order if pool[i] not in clicked[search]][:n_negatives]
        searches += [search] * len(negatives)
        drawn += negatives
    return pa.table({"search_id": pa.array(searches, pa.string()), "product_id": pa.array(drawn, pa.string())})


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "big")
