"""Finds the products of a bundle by their titles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

from shelfrank.bundle.spec import SHOP, SHOP_PRODUCTS
from shelfrank.data.prepared import id_hashes


class Titles:
    """The titles of a bundle's products, whatever their case and white space.

    Only hashes are kept, 12 bytes a title: two texts share one once in billions of catalogues. A title that several
    products have finds none of them.

    Args:
        folder: The bundle's folder, which has a shop.
    """

    def __init__(self, folder: Path) -> None:
        products: pa.Table = feather.read_table(str(folder / SHOP / SHOP_PRODUCTS), memory_map=True)
        self._ids = products["product_id"]
        texts = [folded(each) for column in ("title", "document") for each in products[column].to_pylist()]
        rows = np.tile(np.arange(len(self._ids), dtype=np.int32), 2)
        hashes = id_hashes(texts)
        order = np.lexsort((rows, hashes))
        hashes, rows = hashes[order], rows[order]
        is_first, is_last = np.ones((2, len(hashes)), bool)
        is_first[1:] = hashes[1:] != hashes[:-1]
        is_last[:-1] = is_first[1:]
        # Rows ascend within a hash: the first is the last where all are the same product.
        is_one = rows[is_first] == rows[is_last]
        self._hashes, self._rows = hashes[is_first][is_one], rows[is_first][is_one]

    def find(self, texts: Sequence[str]) -> list[str | None]:
        """The product of each title; None where there is none, or several."""
        if not len(self._hashes):
            return [None] * len(texts)
        hashes = id_hashes([folded(text) for text in texts])
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return [
            self._ids[int(self._rows[place])].as_py() if text.strip() and self._hashes[place] == wanted else None
            for text, place, wanted in zip(texts, at.tolist(), hashes, strict=True)
        ]


def folded(text: str | None) -> str:
    """A text in one case, with single blanks."""
    return " ".join((text or "").casefold().split())
